// Encoders on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_encoders.py).
#include "calls.h"
#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

class TinyEncoders : public testing::TestWithParam<const char*> {};

TEST_P(TinyEncoders, EveryOutputIsThatOfTheOriginal) {
  const fs::path input = GetParam(), folder = kGoldens / "encoders" / *input.begin();
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  TemporaryFolder tmp;
  convert_to(kGoldens / "encoders" / input, tmp / "m.rnl", Weights::kF32);
  const auto model = open_model(tmp / "m.rnl");
  const float difference = values_of(calls, "difference")[0];
  for (const std::string prefix : {"plain.", "full."}) {
    const auto session = session_of(*model, 19);
    Arrays inputs = arrays_of(calls, prefix), outputs;
    for (const char* name : {"last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits"})
      if (auto output = inputs.extract(name);
          output && (input.extension() != ".gguf" || name != std::string("pooler_output")))
        outputs.insert(std::move(output));  // llama.cpp's converter leaves the pooler out
    ASSERT_FALSE(outputs.empty());
    expect_like(run(*session, "main", inputs, outputs), outputs, difference);
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
                                         "big_bird", "nystromformer", "nystromformer_whole", "roformer",
                                         "megatron_bert", "xlm_roberta_xl", "roberta_prelayernorm", "t5", "umt5",
                                         "deberta", "deberta_v2", "jina_v2", "jina_v2_norms", "bert/model-f32.gguf",
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
  ChangedCheckpoint rotated("encoders/roformer");
  rotated.config["rotary_value"] = true;
  expect_contains(rotated.convert_error(), "rotary_value");
  ChangedCheckpoint turned("encoders/roformer");
  turned.tensor("roformer.encoder.embed_positions.weight").values[5] = 0.5f;
  expect_contains(turned.convert_error(), "embed_positions");
  ChangedCheckpoint decoding("encoders/t5");
  decoding.config["architectures"] = {"T5ForConditionalGeneration"};
  expect_contains(decoding.convert_error(), "T5ForConditionalGeneration");
  ChangedCheckpoint choice("encoders/bert");
  choice.config["architectures"] = {"BertForMultipleChoice"};
  expect_contains(choice.convert_error(), "BertForMultipleChoice");
  ChangedCheckpoint decoder("encoders/bert");
  decoder.config["is_decoder"] = true;
  expect_contains(decoder.convert_error(), "is_decoder");
}

TEST(Encoders, FeedForwardsOfJinaAreGated) {
  ChangedCheckpoint c("encoders/jina_v2");
  c.config["feed_forward_type"] = "original";
  expect_contains(c.convert_error(), "feed_forward_type is \"original\"");
  ChangedCheckpoint absolute("encoders/jina_v2");
  absolute.config["position_embedding_type"] = "absolute";
  expect_contains(absolute.convert_error(), "embeddings.position_embeddings.weight");
}

TEST(Encoders, WhatIsNotKnownOfRelativePlacesIsRefusedByName) {
  const struct {
    const char* option;
    Json value;
    const char* message;
  } kCases[] = {{"pos_att_type", "c2p|p2p", "pos_att_type names \"p2p\""},
                {"pos_att_type", 3, "pos_att_type is no list"},
                {"norm_rel_ebd", "batch_norm", "norm_rel_ebd is \"batch_norm\""},
                {"position_buckets", 1, "position_buckets is too small to hold both sides"},
                {"position_buckets", 12, "deberta.encoder.rel_embeddings.weight"},
                {"share_att_key", false, "pos_query_proj"},
                {"embedding_size", 16, "embedding_size is 16"},
                {"conv_kernel_size", 4, "conv_kernel_size is even"},
                {"conv_groups", 2, "conv_groups is 2"},
                {"conv_act", "sine", "conv_act"}};
  for (const auto& k : kCases) {
    ChangedCheckpoint c("encoders/deberta_v2");
    c.config[k.option] = k.value;
    expect_contains(c.convert_error(), k.message);
  }
  ChangedCheckpoint c("encoders/deberta");
  c.config["talking_head"] = true;
  expect_contains(c.convert_error(), "talking_head is true");
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
    Arrays given = arrays_of(inputs, prefix), wanted = arrays_of(tome, prefix), outputs;
    for (const char* name : {"last_hidden_state", "pooler_output"}) {
      given.erase(name);
      outputs.insert(wanted.extract(name));
      if (!calls.has(prefix + name)) continue;
      const std::vector<float> whole = values_of(calls, prefix + name);
      EXPECT_GT(largest_difference(outputs[name].floats, whole), 1e-3f * largest(whole)) << "none merged";
    }
    expect_like(run(*session_of(*model, 19), "main", given, outputs), outputs, 0);
  }
}

}  // namespace
}  // namespace runnel::convert
