// Encoders on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_encoders.py).
#include <map>

#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

using Outputs = std::map<std::string, std::vector<float>>;

// One call with the inputs under this prefix; all outputs of these names.
Outputs run_call(const Model& model, Checkpoint& calls, const std::string& prefix,
                 const std::vector<std::string>& names) {
  PlanOptions options = test::plan_options();
  options.context = 19;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  std::vector<std::vector<int32_t>> values;
  std::vector<std::string> given;
  for (const char* name : {"ids", "token_type_ids", "attention_mask", "global_attention_mask"})
    if (calls.has(prefix + name)) values.push_back(integers_of(calls, prefix + name)), given.push_back(name);
  std::vector<IoTensor> in;
  for (size_t i = 0; i < given.size(); ++i)
    in.push_back(
        {given[i].c_str(), DType::kI32, 1, {int64_t(values[i].size())}, values[i].data(), values[i].size() * 4});
  const ProgramInfo& program = model.programs()[0];
  struct Sink {
    const ProgramInfo* program;
    Outputs out;
  } sink{&program, {}};
  Session::RunOptions run;
  run.wanted_outputs = 0;
  for (const std::string& name : names)
    for (size_t k = 0; k < program.outputs.size(); ++k)
      if (name == program.values[program.outputs[k]].name) run.wanted_outputs |= uint64_t(1) << k;
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

class TinyEncoders : public testing::TestWithParam<const char*> {};

TEST_P(TinyEncoders, EveryOutputIsThatOfTheOriginal) {
  const fs::path input = GetParam(), folder = kGoldens / "encoders" / *input.begin();
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  TemporaryFolder tmp;
  convert_to(kGoldens / "encoders" / input, tmp / "m.rnl", Weights::kF32);
  const auto model = open_model(tmp / "m.rnl");
  const float difference = values_of(calls, "difference")[0];
  for (const std::string prefix : {"plain.", "full."}) {
    std::vector<std::string> names;
    for (const char* name : {"last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits"})
      if (calls.has(prefix + name) && (input.extension() != ".gguf" || name != std::string("pooler_output")))
        names.push_back(name);  // llama.cpp's converter leaves the pooler out
    ASSERT_FALSE(names.empty());
    const Outputs got = run_call(*model, calls, prefix, names);
    ASSERT_EQ(got.size(), names.size());
    for (const auto& [name, values] : got) {
      const std::vector<float> wanted = values_of(calls, prefix + name);
      EXPECT_LE(largest_difference(values, wanted), std::max(1e-4f, 10 * difference) * largest(wanted))
          << prefix << name;
    }
  }
}

std::string name_of_case(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, TinyEncoders,
                         testing::Values("bert", "roberta", "electra", "distilbert", "albert", "rembert", "nomic_bert",
                                         "gte", "jina_v3", "modernbert", "eurobert", "mpnet", "fnet", "longformer",
                                         "big_bird", "nystromformer", "bert/model-f32.gguf",
                                         "modernbert/model-f32.gguf", "nomic_bert/model-f32.gguf"),
                         name_of_case);

// What masks and types change, so that the cases above show something: an absent input is the one of its default.
TEST(Encoders, WhatIsLeftOutHasItsDefault) {
  const fs::path folder = kGoldens / "encoders/bert";
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  const std::vector<float> plain = values_of(calls, "plain.last_hidden_state"),
                           full = values_of(calls, "full.last_hidden_state");
  EXPECT_GT(largest_difference(plain, full), 0.1f);
}

TEST(Encoders, WhatIsNotKnownIsRefusedByName) {
  ChangedCheckpoint bert("encoders/bert");
  bert.config["position_embedding_type"] = "relative_key";
  expect_contains(bert.convert_error(), "position_embedding_type is \"relative_key\"");
  ChangedCheckpoint choice("encoders/bert");
  choice.config["architectures"] = {"BertForMultipleChoice"};
  expect_contains(choice.convert_error(), "BertForMultipleChoice");
  ChangedCheckpoint decoder("encoders/bert");
  decoder.config["is_decoder"] = true;
  expect_contains(decoder.convert_error(), "is_decoder");
}

// What BERT gives when alike tokens are merged behind each attention (tests/goldens/make_pruned_encoders.py).
TEST(C6, AlikeTokensOfBertAreMergedAsTheFormulaHasIt) {
  const fs::path folder = kGoldens / "encoders" / "bert";
  Checkpoint calls = load_safetensors(folder / "calls.safetensors"),
             tome = load_safetensors(folder / "tome.safetensors");
  TemporaryFolder tmp;
  ConvertOptions options;
  options.input = folder, options.output = tmp / "m.rnl";
  options.weights = Weights::kF32, options.prune = "tome:r=3";
  convert(options);
  const auto model = open_model(tmp / "m.rnl");
  for (const std::string prefix : {"plain.", "full.", "masked."}) {
    Checkpoint& inputs = prefix == "masked." ? tome : calls;
    const Outputs got = run_call(*model, inputs, prefix, {"last_hidden_state", "pooler_output"});
    for (const auto& [name, values] : got) {
      const std::vector<float> wanted = values_of(tome, prefix + name);
      EXPECT_LE(largest_difference(values, wanted), 1e-4f * largest(wanted)) << prefix << name;
      if (!calls.has(prefix + name)) continue;
      EXPECT_GT(largest_difference(wanted, values_of(calls, prefix + name)), 1e-3f * largest(wanted)) << "none merged";
    }
  }
}

}  // namespace
}  // namespace runnel::convert
