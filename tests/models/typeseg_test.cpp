// The network of examples/typeseg, with random weights, against typeseg's own NumPy code
// (tests/goldens/make_typeseg.py).
#include "converter/kit.h"

namespace runnel::convert {
namespace {

TEST(A2, TypesegReadsBothWays) {
  TemporaryFolder tmp;
  const fs::path folder = kGoldens / "typeseg";
  convert_to(folder / "typeseg.json", tmp / "m.rnl", Weights::kKeep, folder / "typeseg.safetensors");
  const auto model = open_model(tmp / "m.rnl");
  Checkpoint io = load_safetensors(folder / "io.safetensors");
  auto session = Session::create(*model, nullptr, {}, nullptr, nullptr);
  ASSERT_TRUE(session.is_ok());
  for (int length : {97, 1, 2, 3, 4, 97}) {
    const std::string n = std::to_string(length);
    const std::vector<float> bytes = values_of(io, "bytes." + n), wanted = values_of(io, "logits." + n);
    std::vector<int32_t> ids(bytes.begin(), bytes.end());
    std::vector<float> y(wanted.size(), NAN);
    IoTensor in{"bytes", DType::kI32, 1, {length}, ids.data(), ids.size() * 4},
        out{"logits", DType::kF32, 0, {}, y.data(), y.size() * 4};
    const Status s = session.value()->run_into(nullptr, &in, 1, &out, 1);
    ASSERT_TRUE(s.is_ok()) << s.message();
    EXPECT_LE(largest_difference(y, wanted), 1e-4f * largest(wanted)) << length << " bytes";
  }
}

}  // namespace
}  // namespace runnel::convert
