// Low-rank adapters merged by the converter: logits of models adapted by peft (tests/goldens/make_tiny_lora.py), and what cannot be merged.
#include <fstream>

#include "kit.h"

namespace runnel::convert {
namespace {

class LoraAdapters : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(LoraAdapters, GiveTheLogitsOfPeft) {
  const auto [folder, base] = GetParam();
  TemporaryFolder tmp;
  ConvertOptions o;
  o.input = kGoldens / base;
  o.lora = kGoldens / folder;
  o.output = tmp / "m.rnl";
  convert(o);
  Checkpoint i = load_safetensors(kGoldens / base / "ids.safetensors"), c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const SourceTensor* t = i.find("ids");
  std::vector<int32_t> ids(t->count());
  std::memcpy(ids.data(), t->data, t->bytes);
  const std::vector<float> wanted = values_of(c, "logits");
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t chunk : {7, 64}) EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), wanted), 1e-4f * largest(wanted));
}

INSTANTIATE_TEST_SUITE_P(All, LoraAdapters, testing::Values(std::pair{"tiny_lora", "tiny_llama"}, std::pair{"tiny_lora_embedding", "tiny_mistral"}),
                         [](const auto& info) { return std::string(info.param.first); });

// A copy of tiny_lora whose configuration and tensors a test may change.
struct ChangedAdapter {
  ChangedAdapter() : source(load_safetensors(kGoldens / "tiny_lora/adapter_model.safetensors")), config(read_json(kGoldens / "tiny_lora/adapter_config.json")) {
    for (const SourceTensor& t : source.tensors()) tensors.push_back({t.name, t.shape, values_of(source, t.name)});
  }
  std::string error(const std::string& base = "tiny_llama") {
    write_file(tmp / "adapter_config.json", config.dump());
    write_file(tmp / "adapter_model.safetensors", safetensors_of(tensors));
    ConvertOptions o;
    o.input = kGoldens / base;
    o.lora = tmp.path();
    o.output = tmp / "m.rnl";
    return error_of([&] { convert(o); });
  }
  Checkpoint source;
  Json config;
  std::vector<PlainTensor> tensors;
  TemporaryFolder tmp;
};

void expect_contains(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST(LoraRefusals, SayWhatDoesNotFit) {
  EXPECT_EQ(ChangedAdapter().error(), "");
  const auto with_config = [](const char* key, const Json& value) {
    ChangedAdapter a;
    a.config[key] = value;
    return a.error();
  };
  expect_contains(with_config("use_dora", true), "use_dora is set");
  expect_contains(with_config("bias", "all"), "bias is not");
  expect_contains(with_config("peft_type", "IA3"), "\"IA3\"");
  expect_contains(with_config("modules_to_save", {"lm_head"}), "modules_to_save names");
  expect_contains(with_config("r", 5), "r says 5");
  expect_contains(with_config("rank_pattern", {{"(", 2}}), "no pattern");
  expect_contains(ChangedAdapter().error("tiny_gemma3"), "do not fit");
  expect_contains(ChangedAdapter().error("tiny_llama/model-f32.gguf"), "directory");

  ChangedAdapter half;
  half.tensors.pop_back();
  expect_contains(half.error(), "one half");
  ChangedAdapter strange;
  strange.tensors[0].name = "base_model.model.model.layers.0.mlp.down_proj.bias";
  expect_contains(strange.error(), "no half of a low-rank pair");
  ChangedAdapter lost;
  for (PlainTensor& t : lost.tensors)
    if (const size_t at = t.name.find("layers.1."); at != t.name.npos) t.name.replace(at, 9, "layers.9.");
  expect_contains(lost.error(), "no matrix");
  ChangedAdapter tied;
  tied.tensors = {{"base_model.model.model.embed_tokens.lora_embedding_A", {4, 131}, std::vector<float>(4 * 131)},
                  {"base_model.model.model.embed_tokens.lora_embedding_B", {48, 4}, std::vector<float>(48 * 4)}};
  expect_contains(tied.error(), "output matrix too");
}

}  // namespace
}  // namespace runnel::convert
