// Models of images on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_vision.py).
#include <deque>
#include <map>

#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

using Outputs = std::map<std::string, std::vector<float>>;

Outputs run_call(const Model& model, const Checkpoint& calls) {
  PlanOptions options = test::plan_options();
  options.context = 16;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  std::deque<std::string> names;
  std::vector<IoTensor> in;
  for (const SourceTensor& t : calls.tensors()) {
    if (!t.name.starts_with("in.")) continue;
    IoTensor tensor{names.emplace_back(t.name.substr(3)).c_str(),
                    t.type == SourceType::kI32 ? DType::kI32 : DType::kF32,
                    int32_t(t.shape.size()),
                    {},
                    const_cast<uint8_t*>(t.data),
                    size_t(t.bytes)};
    for (size_t i = 0; i < t.shape.size(); ++i) tensor.dims[i] = int64_t(t.shape[i]);
    in.push_back(tensor);
  }
  struct Sink {
    const ProgramInfo* program;
    Outputs out;
  } sink{&model.programs()[0], {}};
  Session::RunOptions run;
  run.sink_context = &sink;
  run.sink = [](void* context, uint32_t number, const TensorView& block, int64_t) {
    auto& s = *static_cast<Sink*>(context);
    int64_t n = 1;
    for (int d = 0; d < block.rank; ++d) n *= block.dims[d];
    const auto* p = static_cast<const float*>(block.data);
    std::vector<float>& all = s.out[s.program->values[s.program->outputs[number]].name];
    all.insert(all.end(), p, p + n);
    return Status::ok();
  };
  const Status s = session.value()->run(in.data(), in.size(), run);
  if (!s.is_ok()) throw std::runtime_error(s.message());
  return sink.out;
}

class TinyVision : public testing::TestWithParam<const char*> {};

TEST_P(TinyVision, EveryOutputIsThatOfTheOriginal) {
  const fs::path folder = kGoldens / "vision" / GetParam();
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  TemporaryFolder tmp;
  convert_to(folder, tmp / "m.rnl", Weights::kF32);
  const auto model = open_model(tmp / "m.rnl");
  const Outputs got = run_call(*model, calls);
  const float difference = values_of(calls, "difference")[0];
  ASSERT_FALSE(got.empty());
  for (const auto& [name, values] : got) {
    const std::vector<float> wanted = values_of(calls, "out." + name);
    ASSERT_EQ(values.size(), wanted.size()) << name;
    EXPECT_LE(largest_difference(values, wanted), std::max(1e-4f, 10 * difference) * largest(wanted)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TinyVision,
                         testing::Values("vit", "deit", "ijepa", "dinov2_with_registers", "dinov3_vit", "beit", "clip",
                                         "swin", "swinv2", "segformer", "cvt", "hiera", "vitpose", "depth_anything"));

TEST(Vision, WhatIsNotKnownIsRefusedByName) {
  ChangedCheckpoint vit("vision/vit");
  vit.config["architectures"] = {"ViTForObjectDetection"};
  expect_contains(vit.convert_error(), "ForObjectDetection");
  ChangedCheckpoint heads("vision/vit");
  heads.config["num_attention_heads"] = 3;
  expect_contains(heads.convert_error(), "num_attention_heads does not divide hidden_size");
}

}  // namespace
}  // namespace runnel::convert
