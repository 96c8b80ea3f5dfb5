// GGUFs that llama.cpp's converter wrote from checkpoints of transformers, against the original's logits
// (vary_models.py --keep).
#include "kit.h"

namespace runnel::convert {
namespace {

std::vector<std::string> kept() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens / "gguf_decoders"))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class GgufDecoders : public testing::TestWithParam<std::string> {};
TEST_P(GgufDecoders, GiveTheOriginalsLogits) {
  TemporaryFolder tmp;
  const fs::path folder = kGoldens / "gguf_decoders";
  convert_to(folder / (GetParam() + ".gguf"), tmp / "m.rnl");
  Checkpoint golden = load_safetensors(folder / (GetParam() + ".safetensors"));
  const std::vector<int32_t> ids = integers_of(golden, "ids");
  const auto model = open_model(tmp / "m.rnl");
  const std::vector<float> wanted = values_of(golden, "logits");
  const float tolerance = std::max(1e-4f * largest(wanted), 10 * values_of(golden, "float32_difference")[0]);
  for (const int64_t chunk : {1, 7, 64})
    EXPECT_LE(largest_difference(all_logits(*model, ids, chunk, DType::kF32), wanted), tolerance) << "chunk " << chunk;
}
INSTANTIATE_TEST_SUITE_P(All, GgufDecoders, testing::ValuesIn(kept()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace runnel::convert
