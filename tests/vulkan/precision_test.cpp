// Differences between the device and the CPU are those of rounding: as large as what the last bit of a model's first
// activations makes of itself.
#include <random>

#include "converter/kit.h"

namespace runnel::convert {
namespace {

// Moves every element of an embedding to a neighbour.
Status nudge(void* context, const ObservedOp& op) {
  if (std::strcmp(op.program->info->ops[op.index].def->name, "embedding") != 0) return Status::ok();
  const TensorView& v = op.call->out[0];
  auto* x = static_cast<float*>(v.data);
  for (size_t i = 0; i < view_bytes(v) / 4; ++i)
    x[i] = std::nextafter(x[i], (*static_cast<std::mt19937*>(context))() & 1 ? INFINITY : -INFINITY);
  return Status::ok();
}

class Precision : public testing::TestWithParam<const char*> {};
TEST_P(Precision, IsThatOfTheLastBit) {
  TemporaryFolder tmp;
  convert_to(kGoldens / GetParam(), tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  float of_device = 0, of_bit = 0;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    std::mt19937 rng(seed), bits(seed);
    const auto make = [&](BackendKind backend) {
      PlanOptions o;
      o.backend = backend, o.context = 256, o.chunk = 16, o.kv = DType::kF32;
      auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
      if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
      return std::move(s.value());
    };
    auto cpu = make(BackendKind::kCpu), moved = make(BackendKind::kCpu), device = make(BackendKind::kVulkan);
    moved->set_observer(nudge, &bits);
    for (int call = 0; call < 30; ++call) {
      std::vector<int32_t> ids(1 + rng() % 9);
      for (int32_t& id : ids) id = int32_t(rng() % 60);
      std::vector<float> want, near, seen;
      ASSERT_TRUE(feed_ids(*cpu, ids, &want).is_ok());
      ASSERT_TRUE(feed_ids(*moved, ids, &near).is_ok());
      ASSERT_TRUE(feed_ids(*device, ids, &seen).is_ok());
      of_device = std::max(of_device, largest_difference(seen, want) / largest(want));
      of_bit = std::max(of_bit, largest_difference(near, want) / largest(want));
    }
  }
  std::printf("%s: the device differs by %.2e of the largest logit, the last bit makes %.2e\n", GetParam(),
              double(of_device), double(of_bit));
  EXPECT_LE(of_device, 3 * of_bit + 1e-6f);
}
INSTANTIATE_TEST_SUITE_P(All, Precision, testing::Values("tiny_zamba2", "tiny_qwen3_next", "tiny_gemma3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace runnel::convert
