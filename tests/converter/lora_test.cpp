// Low-rank adapters, merged by the converter and as files of their own: logits of models adapted by peft
// (tests/goldens/make_tiny_lora.py), and refusals.
#include <fstream>

#include "kit.h"

namespace runnel::convert {
namespace {

class LoraAdapters : public testing::TestWithParam<std::pair<const char*, const char*>> {};

void expect_logits_of_peft(const char* folder, const char* base) {
  TemporaryFolder tmp;
  ConvertOptions o;
  o.input = kGoldens / base;
  o.lora = kGoldens / folder;
  o.output = tmp / "m.rnl";
  convert(o);
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<int32_t> ids = ids_of(kGoldens / base);
  const std::vector<float> wanted = values_of(c, "logits");
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t chunk : {7, 64})
    EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), wanted), 1e-4f * largest(wanted));
}

TEST_P(LoraAdapters, GiveTheLogitsOfPeft) { expect_logits_of_peft(GetParam().first, GetParam().second); }

// modules_to_save: norms and an output matrix, or an embedding, of a model in which these two are one tensor.
TEST(LoraWholes, GiveTheLogitsOfPeft) {
  for (const char* folder : {"tiny_lora_whole", "tiny_lora_whole_embedding"}) {
    SCOPED_TRACE(folder);
    expect_logits_of_peft(folder, "tiny_llama");
  }
}

std::unique_ptr<Model> open_adapted(const fs::path& base, const fs::path& adapter) {
  auto model = Model::open(base.c_str(), {false, adapter.c_str()});
  if (!model.is_ok()) throw std::runtime_error(model.take_status().message());
  return std::move(model.value());
}

void convert_adapter(const fs::path& base, const fs::path& folder, const fs::path& output,
                     Weights weights = Weights::kKeep) {
  ConvertOptions o;
  o.input = base;
  o.adapter = folder;
  o.output = output;
  o.weights = weights;
  convert(o);
}

TEST_P(LoraAdapters, BesideTheBaseGiveThemToo) {
  const auto [folder, base] = GetParam();
  TemporaryFolder tmp;
  convert_to(kGoldens / base, tmp / "base.rnl");
  convert_adapter(kGoldens / base, kGoldens / folder, tmp / "adapter.rnl");
  EXPECT_LT(fs::file_size(tmp / "adapter.rnl"), fs::file_size(tmp / "base.rnl"));
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<float> wanted = values_of(c, "logits");
  const std::vector<int32_t> ids = ids_of(kGoldens / base);
  const auto adapted = open_adapted(tmp / "base.rnl", tmp / "adapter.rnl");
  for (const int64_t chunk : {1, 7, 64})
    EXPECT_LE(largest_difference(all_logits(*adapted, ids, chunk), wanted), 1e-4f * largest(wanted)) << chunk;
  // A second adapter of the same base, and the base alone, are not touched.
  const auto plain = open_model(tmp / "base.rnl"), again = open_adapted(tmp / "base.rnl", tmp / "adapter.rnl");
  EXPECT_GT(largest_difference(all_logits(*plain, ids, 64), wanted), 1e-2f * largest(wanted));
  EXPECT_EQ(all_logits(*again, ids, 64), all_logits(*adapted, ids, 64));
  EXPECT_NE(plain->fingerprint(), adapted->fingerprint());
  EXPECT_EQ(again->fingerprint(), adapted->fingerprint());
  EXPECT_EQ(adapted->segment_bytes(format::SegmentKind::weights) > plain->segment_bytes(format::SegmentKind::weights),
            true);
  EXPECT_TRUE(adapted->verify_segments().is_ok());
}

// Root of the mean square of the difference, in parts of that of `wanted`.
double relative_error(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, all = 0;
  for (size_t i = 0; i < wanted.size(); ++i)
    error += double(got[i] - wanted[i]) * double(got[i] - wanted[i]), all += double(wanted[i]) * double(wanted[i]);
  return std::sqrt(error / all);
}

// The same adapter file serves every base that was made from its source, as well as an adapter that was merged before
// the weights were rounded.
TEST_P(LoraAdapters, FitQuantisedBases) {
  const auto [folder, base] = GetParam();
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = ids_of(kGoldens / base);
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<float> wanted = values_of(c, "logits");
  convert_adapter(kGoldens / base, kGoldens / folder, tmp / "f32.rnl");
  convert_adapter(kGoldens / base, kGoldens / folder, tmp / "f16.rnl", Weights::kF16);
  for (const Weights w : {Weights::kF16, Weights::kQ8, Weights::kQ4}) {
    convert_to(kGoldens / base, tmp / "base.rnl", w);
    ConvertOptions o;
    o.input = kGoldens / base;
    o.lora = kGoldens / folder;
    o.output = tmp / "merged.rnl";
    o.weights = w;
    convert(o);
    const double merged = relative_error(all_logits(*open_model(tmp / "merged.rnl"), ids, 7), wanted);
    for (const char* adapter : {"f32.rnl", "f16.rnl"})
      EXPECT_LE(relative_error(all_logits(*open_adapted(tmp / "base.rnl", tmp / adapter), ids, 7), wanted),
                1.5 * merged)
          << weights_name(w) << " " << adapter;
  }
}

INSTANTIATE_TEST_SUITE_P(All, LoraAdapters,
                         testing::Values(std::pair{"tiny_lora", "tiny_llama"},
                                         std::pair{"tiny_lora_embedding", "tiny_mistral"}),
                         [](const auto& info) { return std::string(info.param.first); });

// A copy of tiny_lora whose configuration and tensors a test may change.
struct ChangedAdapter {
  ChangedAdapter()
      : source(load_safetensors(kGoldens / "tiny_lora/adapter_model.safetensors")),
        config(read_json(kGoldens / "tiny_lora/adapter_config.json")) {
    for (const SourceTensor& t : source.tensors()) tensors.push_back({t.name, t.shape, values_of(source, t.name)});
  }
  void write() const {
    write_file(tmp / "adapter_config.json", config.dump());
    write_file(tmp / "adapter_model.safetensors", safetensors_of(tensors));
  }
  std::string error(const std::string& base = "tiny_llama") {
    write();
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

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

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

TEST(LoraFiles, FitASplitOutputMatrix) {
  TemporaryFolder tmp;
  ConvertOptions o;
  o.input = kGoldens / "tiny_mistral";
  o.output = tmp / "split.rnl";
  o.weights = Weights::kQ8;
  o.head = Head::kSplit;
  convert(o);
  o.output = tmp / "whole.rnl";
  o.head = Head::kWhole;
  convert(o);
  ChangedAdapter a;
  a.config["r"] = 2, a.config["lora_alpha"] = 2;
  a.config["rank_pattern"] = a.config["alpha_pattern"] = Json::object();
  const auto base = open_model(tmp / "whole.rnl");
  const TensorInfo* head = base->find_tensor("lm_head.weight");
  ASSERT_NE(head, nullptr);
  std::vector<float> left(size_t(head->view.dims[1]) * 2), right(size_t(head->view.dims[0]) * 2);
  for (size_t i = 0; i < left.size(); ++i) left[i] = float(i % 7) * 0.1f - 0.3f;
  for (size_t i = 0; i < right.size(); ++i) right[i] = float(i % 5) * 0.1f - 0.2f;
  a.tensors = {{"base_model.model.lm_head.lora_A.weight", {2, uint64_t(head->view.dims[1])}, left},
               {"base_model.model.lm_head.lora_B.weight", {uint64_t(head->view.dims[0]), 2}, right}};
  a.write();
  convert_adapter(kGoldens / "tiny_mistral", a.tmp.path(), tmp / "adapter.rnl");
  const std::vector<int32_t> ids = ids_of(kGoldens / "tiny_mistral");
  const std::vector<float> whole = all_logits(*open_adapted(tmp / "whole.rnl", tmp / "adapter.rnl"), ids, 7);
  EXPECT_LE(largest_difference(all_logits(*open_adapted(tmp / "split.rnl", tmp / "adapter.rnl"), ids, 7), whole),
            1e-5f * largest(whole));
  EXPECT_GT(largest_difference(all_logits(*base, ids, 7), whole), 1e-2f * largest(whole));
}

TEST(LoraFiles, AreRefusedWhereTheyDoNotBelong) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "tiny_llama", tmp / "llama.rnl");
  convert_to(kGoldens / "tiny_gemma3", tmp / "gemma3.rnl");
  convert_adapter(kGoldens / "tiny_llama", kGoldens / "tiny_lora", tmp / "adapter.rnl");
  const auto error = [&](const char* base, const char* adapter) {
    return error_of([&] { open_adapted(tmp / base, tmp / adapter); });
  };
  EXPECT_EQ(error("llama.rnl", "adapter.rnl"), "");
  expect_contains(error("gemma3.rnl", "adapter.rnl"), "the adapter is for the model \"tiny_llama\"");
  expect_contains(error("llama.rnl", "llama.rnl"), "this is no adapter");
  expect_contains(error("adapter.rnl", "adapter.rnl"), "open the model of \"tiny_llama\"");
  expect_contains(error_of([&] { open_model(tmp / "adapter.rnl"); }), "this is an adapter and no model");
  expect_contains(error("llama.rnl", "missing.rnl"), "missing.rnl");
}

TEST(LoraFiles, WholeModulesAreRefusedByName) {
  TemporaryFolder tmp;
  const std::string message =
      error_of([&] { convert_adapter(kGoldens / "tiny_llama", kGoldens / "tiny_lora_whole", tmp / "adapter.rnl"); });
  expect_contains(message, "module saved whole (modules_to_save)");
  expect_contains(message, "--lora");
}

TEST(LoraFiles, NameWhatCannotBeAddedAtRunTime) {
  const auto error = [](ChangedAdapter& a, const std::string& base) {
    a.write();
    TemporaryFolder tmp;
    return error_of([&] { convert_adapter(kGoldens / base, a.tmp.path(), tmp / "adapter.rnl"); });
  };
  ChangedAdapter lost;
  for (PlainTensor& t : lost.tensors)
    if (const size_t at = t.name.find("layers.1."); at != t.name.npos) t.name.replace(at, 9, "layers.9.");
  expect_contains(error(lost, "tiny_llama"), "no matrix");
  // An output matrix that is the embedding's: the product alone is adapted.
  ChangedAdapter tied;
  tied.config["r"] = 1, tied.config["rank_pattern"] = tied.config["alpha_pattern"] = Json::object();
  tied.tensors = {{"base_model.model.lm_head.lora_A.weight", {1, 48}, std::vector<float>(48, 0.1f)},
                  {"base_model.model.lm_head.lora_B.weight", {131, 1}, std::vector<float>(131, 0.1f)}};
  EXPECT_EQ(error(tied, "tiny_llama"), "");
  ChangedAdapter experts;
  experts.config["r"] = 1, experts.config["rank_pattern"] = experts.config["alpha_pattern"] = Json::object();
  Checkpoint c = load_safetensors(kGoldens / "tiny_mixtral/model.safetensors");
  const SourceTensor* expert = nullptr;
  for (const SourceTensor& t : c.tensors())
    if (t.name.find("experts.0.w1") != t.name.npos && !expert) expert = &t;
  ASSERT_NE(expert, nullptr);
  const std::string module = "base_model.model." + expert->name.substr(0, expert->name.size() - 7);
  experts.tensors = {{module + ".lora_A.weight", {1, expert->shape[1]}, std::vector<float>(size_t(expert->shape[1]))},
                     {module + ".lora_B.weight", {expert->shape[0], 1}, std::vector<float>(size_t(expert->shape[0]))}};
  expect_contains(error(experts, "tiny_mixtral"), "merge the adapter with --lora");
}

}  // namespace
}  // namespace runnel::convert
