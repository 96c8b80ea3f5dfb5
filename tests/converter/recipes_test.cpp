// Recipes on tiny random checkpoints whose logits were computed by transformers (tests/goldens/make_tiny_models.py).
#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

struct Golden {
  std::vector<int32_t> ids;
  std::vector<float> logits;
  float tolerance;
};

Golden golden(const std::string& folder) {
  Golden g;
  g.ids = ids_of(kGoldens / folder);
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  g.logits = values_of(c, "logits");
  g.tolerance = std::max(1e-4f * largest(g.logits), 10 * values_of(c, "float32_difference")[0]);
  return g;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& wanted) {
  if (got.size() != wanted.size()) return INFINITY;
  double error = 0, energy = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double(got[i]) - wanted[i], 2);
    energy += std::pow(double(wanted[i]), 2);
  }
  return std::sqrt(error / energy);
}

std::string test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

class TinyModels : public testing::TestWithParam<const char*> {};

TEST_P(TinyModels, EveryLogitIsThatOfTheOriginal) {
  const fs::path input = GetParam();
  const std::string folder = input.begin()->string();
  const Golden g = golden(folder);
  TemporaryFolder tmp;
  convert_to(kGoldens / input, tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t chunk : {1, 7, 40})
    EXPECT_LE(largest_difference(all_logits(*model, g.ids, chunk), g.logits), g.tolerance) << "chunk " << chunk;
}

TEST_P(TinyModels, NarrowWeightsStayClose) {
  const fs::path input = GetParam();
  const Golden g = golden(input.begin()->string());
  TemporaryFolder tmp;
  const struct {
    Weights weights;
    double tolerance;  // root mean square, relative to the logits'; random weights amplify every rounding
  } kCases[] = {{Weights::kF16, 0.004}, {Weights::kQ8, 0.09}, {Weights::kQ4, 0.75}};
  for (const auto& c : kCases) {
    convert_to(kGoldens / input, tmp / "m.rnl", c.weights);
    const auto model = open_model(tmp / "m.rnl");
    const double error = relative_error(all_logits(*model, g.ids, 40), g.logits);
    EXPECT_LE(error, c.tolerance) << weights_name(c.weights);
    EXPECT_GT(error, 0) << weights_name(c.weights);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TinyModels,
                         testing::Values("tiny_gemma2", "tiny_gemma3", "tiny_gemma3/model-f32.gguf", "tiny_mistral",
                                         "tiny_llama", "tiny_llama/model-f32.gguf"),
                         test_name);

// Families of transformers: all logits, and the greedy continuation fed back.
class TinyDecoders : public testing::TestWithParam<const char*> {};

TEST_P(TinyDecoders, LogitsAndGreedyChoicesAreThoseOfTheOriginal) {
  const fs::path input = GetParam();
  const std::string folder = input.begin()->string();
  const Golden g = golden(folder);
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<int32_t> greedy = integers_of(c, "greedy");
  TemporaryFolder tmp;
  convert_to(kGoldens / input, tmp / "m.rnl", Weights::kF32);  // what is kept in blocks is multiplied by rounded
                                                               // activations
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t chunk : {1, 7, 40})
    EXPECT_LE(largest_difference(all_logits(*model, g.ids, chunk), g.logits), g.tolerance) << "chunk " << chunk;
  std::vector<int32_t> all = g.ids;
  all.insert(all.end(), greedy.begin(), greedy.end());
  const std::vector<float> logits = all_logits(*model, all, 40);
  const size_t vocab = g.logits.size() / g.ids.size();
  for (size_t i = 0; i < greedy.size(); ++i) {
    const auto row = logits.begin() + long((g.ids.size() - 1 + i) * vocab);
    EXPECT_EQ(std::max_element(row, row + long(vocab)) - row, greedy[i]) << "step " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TinyDecoders,
    testing::Values("tiny_qwen2", "tiny_qwen3", "tiny_qwen3_moe", "tiny_mixtral", "tiny_ministral", "tiny_phi3",
                    "tiny_smollm3", "tiny_granite", "tiny_olmo2", "tiny_olmo3", "tiny_exaone4", "tiny_cohere2",
                    "tiny_starcoder2", "tiny_gpt_oss", "tiny_gemma3n", "tiny_gemma4", "tiny_gemma4_moe",
                    "tiny_gemma3n/model-f32.gguf", "tiny_gemma4_moe/model-f32.gguf", "tiny_granite/model-f32.gguf",
                    "tiny_phi3/model-f32.gguf", "tiny_mixtral/model-f32.gguf", "tiny_starcoder2/model-f32.gguf",
                    "tiny_ministral3", "tiny_phi3_long", "tiny_phi3_long/model-f32.gguf", "tiny_gpt_oss_mxfp4",
                    "tiny_gpt_oss_mxfp4/model-f32.gguf", "tiny_qwen3/model-f32.gguf", "tiny_gpt2", "tiny_gpt_neox",
                    "tiny_olmo", "tiny_cohere", "tiny_qwen2_moe", "tiny_hunyuan", "tiny_granite_moe_swa",
                    "tiny_hyperclovax", "tiny_nanochat", "tiny_deepseek", "tiny_minicpm3", "tiny_qwen2_vl",
                    "tiny_qwen2_5_vl", "tiny_qwen3_vl", "tiny_glm4v", "tiny_qwen3_5_axes", "tiny_diffllama",
                    "tiny_gpt_neo", "tiny_llama4", "tiny_exaone_moe", "tiny_afmoe", "tiny_mimo_v2_flash", "tiny_laguna",
                    "tiny_mellum", "tiny_flint", "tiny_zaya", "tiny_phi4flash"),
    test_name);

// Text parts of models that see: positions on three axes, those of a picture among text.
class OnAxes : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const fs::path folder = kGoldens / GetParam();
    ids_ = ids_of(folder);
    Checkpoint given = load_safetensors(folder / "ids.safetensors");
    positions_ = integers_of(given, "positions");
    Checkpoint c = load_safetensors(folder / "logits.safetensors");
    text_ = values_of(c, "logits"), on_axes_ = values_of(c, "on_axes");
    tolerance_ = std::max(1e-4f * largest(on_axes_), 10 * values_of(c, "float32_difference")[0]);
    convert_to(folder, tmp_ / "m.rnl", Weights::kF32);
    model_ = open_model(tmp_ / "m.rnl");
  }
  std::unique_ptr<Session> make(int64_t chunk) const {
    PlanOptions o = test::plan_options();
    o.context = 64, o.chunk = chunk, o.rows = 8;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    return std::move(s.value());
  }
  // Tokens [begin, end) with these positions or none; the logits of all of them.
  Status feed(Session& s, size_t begin, size_t end, const std::vector<int32_t>* positions, std::vector<float>* out) {
    const int64_t n = int64_t(end - begin);
    IoTensor in[2] = {{"ids", DType::kI32, 1, {n}, ids_.data() + begin, size_t(n) * 4}, {}};
    if (positions)
      in[1] = {"positions",   DType::kI32, 2, {n, 3}, const_cast<int32_t*>(positions->data()) + begin * 3,
               size_t(n) * 12};
    Session::RunOptions o;
    o.rows_all = true;
    o.sink_context = out;
    o.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
      const auto* p = static_cast<const float*>(block.data);
      auto* all = static_cast<std::vector<float>*>(context);
      all->insert(all->end(), p, p + block.dims[0] * block.dims[1]);
      return Status::ok();
    };
    return s.run(in, positions ? 2 : 1, o);
  }
  std::vector<float> fed(Session& s, size_t begin, size_t end, const std::vector<int32_t>* positions) {
    std::vector<float> out;
    const Status status = feed(s, begin, end, positions, &out);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return out;
  }

  // The first token behind the picture.
  static constexpr size_t kBehind = 29;
  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_, positions_;
  std::vector<float> text_, on_axes_;
  float tolerance_ = 0;
};

TEST_P(OnAxes, LogitsAreThoseOfTheOriginal) {
  EXPECT_GT(largest_difference(text_, on_axes_), 100 * tolerance_);
  for (const int64_t chunk : {1, 7, 64}) {
    auto s = make(chunk);
    EXPECT_LE(largest_difference(fed(*s, 0, ids_.size(), &positions_), on_axes_), tolerance_) << chunk;
  }
}

TEST_P(OnAxes, TextAloneHasTheBitsOfPositionsThatAreTheSame) {
  std::vector<int32_t> same;
  for (size_t i = 0; i < ids_.size() * 3; ++i) same.push_back(int32_t(i / 3));
  auto a = make(7), b = make(7);
  EXPECT_EQ(fed(*a, 0, ids_.size(), nullptr), fed(*b, 0, ids_.size(), &same));
}

TEST_P(OnAxes, WhatIsLeftOutCountsOnBehindTheLargest) {
  const size_t end = ids_.size(), vocab = on_axes_.size() / end;
  const std::vector<float> want(on_axes_.begin() + long(kBehind * vocab), on_axes_.end());
  auto s = make(7);
  fed(*s, 0, 9, nullptr);
  fed(*s, 9, kBehind, &positions_);
  const std::vector<float> behind = fed(*s, kBehind, end, nullptr);
  EXPECT_LE(largest_difference(behind, want), tolerance_);
  // Taken back to the picture's end, saved, restored and forked: the same.
  ASSERT_TRUE(s->rollback(int64_t(end - kBehind)).is_ok());
  ASSERT_TRUE(s->save((tmp_ / "s").c_str()).is_ok());
  auto restored = make(7);
  ASSERT_TRUE(restored->load((tmp_ / "s").c_str()).is_ok());
  auto copy = s->fork();
  ASSERT_TRUE(copy.is_ok());
  for (Session* t : {s.get(), restored.get(), copy.value().get()}) EXPECT_EQ(fed(*t, kBehind, end, nullptr), behind);
  // To before the picture: the stream's own count.
  ASSERT_TRUE(s->rollback(int64_t(end - 9)).is_ok());
  auto plain = make(7);
  fed(*plain, 0, 9, nullptr);
  EXPECT_LE(largest_difference(fed(*s, 9, end, nullptr), fed(*plain, 9, end, nullptr)), tolerance_);
  // Into it: nothing is known, so positions are to be given.
  ASSERT_TRUE(restored->rollback(int64_t(end - 20)).is_ok());
  std::vector<float> none;
  const Status status = feed(*restored, 20, end, nullptr, &none);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("positions are missing: a part of a call that gave them was taken back"),
            std::string::npos)
      << status.message();
  EXPECT_EQ(restored->position(), 20);
  fed(*restored, 20, kBehind, &positions_);
  EXPECT_LE(largest_difference(fed(*restored, kBehind, end, nullptr), want), tolerance_);
}

TEST_P(OnAxes, ManyCallsWithPositions) {
  // More of them than are noted: their ends are remembered as far as needed, and refused beyond.
  const size_t end = ids_.size(), vocab = on_axes_.size() / end;
  auto s = make(64);
  for (size_t i = 0; i < kBehind; ++i) fed(*s, i, i + 1, &positions_);
  ASSERT_TRUE(s->rollback(3).is_ok());
  for (size_t i = kBehind - 3; i < kBehind; ++i) fed(*s, i, i + 1, &positions_);
  const std::vector<float> want(on_axes_.begin() + long(kBehind * vocab), on_axes_.end());
  EXPECT_LE(largest_difference(fed(*s, kBehind, end, nullptr), want), tolerance_);
  ASSERT_TRUE(s->rollback(int64_t(end - 12)).is_ok());
  std::vector<float> none;
  EXPECT_EQ(feed(*s, 12, end, nullptr, &none).code(), Code::kInvalidArgument);
  // A call that fails leaves what was known.
  auto t = make(64);
  fed(*t, 0, kBehind, &positions_);
  std::vector<int32_t> out_of_range = ids_;
  std::swap(ids_, out_of_range);
  ids_[end - 1] = 1 << 20;
  EXPECT_FALSE(feed(*t, kBehind, end, &positions_, &none).is_ok());
  std::swap(ids_, out_of_range);
  EXPECT_LE(largest_difference(fed(*t, kBehind, end, nullptr), want), tolerance_);
}

INSTANTIATE_TEST_SUITE_P(All, OnAxes,
                         testing::Values("tiny_qwen2_vl", "tiny_qwen2_5_vl", "tiny_qwen3_vl", "tiny_glm4v",
                                         "tiny_qwen3_5_axes"),
                         test_name);

TEST(Recipes, SectionsThatDoNotFitAreRefused) {
  for (const char* sections : {"[1, 1, 1]", "[1, 1, 3]", "[1, 1, \"2\"]", "3"}) {
    ChangedCheckpoint c("tiny_qwen2_vl");
    c.config["text_config"]["rope_parameters"]["mrope_section"] = Json::parse(sections);
    expect_contains(c.convert_error(), "mrope_section");
  }
}

// Kept in blocks, the weights are exact and each activation is rounded to 8 bits; both files hold the same blocks.
TEST(Recipes, BlocksOfGptOssAreKept) {
  const Golden g = golden("tiny_gpt_oss_mxfp4");
  TemporaryFolder tmp;
  std::vector<std::vector<float>> all;
  for (const char* input : {"tiny_gpt_oss_mxfp4", "tiny_gpt_oss_mxfp4/model-f32.gguf"}) {
    convert_to(kGoldens / input, tmp / "m.rnl");
    const auto model = open_model(tmp / "m.rnl");
    all.push_back(all_logits(*model, g.ids, 40));
    EXPECT_LE(relative_error(all.back(), g.logits), 0.03) << input;  // 0.017 with transformers' experts on rounded
                                                                     // activations
    EXPECT_GT(largest_difference(all.back(), g.logits), g.tolerance) << input << ": no longer in blocks";
    int blocks = 0;
    for (const auto* t : *model->root().tensors()) blocks += t->packed() && t->packed()->bits() == 5;
    EXPECT_EQ(blocks, 6) << input;  // gate, up and down of two layers
  }
  EXPECT_EQ(all[0], all[1]);
}

TEST(Recipes, OlderConfigStyleOfGemma3) {
  const Golden g = golden("tiny_gemma3");
  ChangedCheckpoint c("tiny_gemma3");
  c.config.erase("layer_types");
  c.config.erase("_sliding_window_pattern");
  c.config.erase("rope_parameters");
  c.config.erase("dtype");
  c.config["torch_dtype"] = "float32";
  c.config["rope_theta"] = 1000000.0;
  c.config["rope_local_base_freq"] = 10000.0;
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  c.config["sliding_window_pattern"] = 2;
  EXPECT_GT(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
}

TEST(Recipes, OlderConfigStyleOfMistral) {
  const Golden g = golden("tiny_mistral");
  ChangedCheckpoint c("tiny_mistral");
  c.config.erase("rope_parameters");
  c.config["rope_theta"] = 10000.0;
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  c.config["sliding_window"] = nullptr;  // no window at all
  EXPECT_GT(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
}

TEST(Recipes, TextPartOfAMultimodalGemma3) {
  const Golden g = golden("tiny_gemma3");
  for (const std::string prefix : {"language_model.model.", "model.language_model."}) {
    ChangedCheckpoint c("tiny_gemma3");
    Json text = c.config;
    c.config = {{"model_type", "gemma3"}, {"text_config", text}};
    for (PlainTensor& t : c.tensors) t.name = prefix + t.name.substr(6);
    c.tensors.push_back({"vision_tower.some.weight", {2}, {1, 2}});
    EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance) << prefix;
  }
}

TEST(Recipes, TextPartsOfMultimodalGemma3nAndGemma4) {
  for (const std::string name : {"tiny_gemma3n", "tiny_gemma4"}) {
    const Golden g = golden(name);
    ChangedCheckpoint c(name);
    Json text = c.config;
    text["model_type"] = name.substr(5) + "_text";
    c.config = {{"model_type", name.substr(5)}, {"text_config", text}, {"audio_config", {{"hidden_size", 8}}}};
    for (PlainTensor& t : c.tensors) t.name = "model.language_model." + t.name.substr(6);
    // Shared layers may come with what they would have without sharing.
    c.tensors.push_back({"model.language_model.layers.4.self_attn.k_proj.weight", {2}, {1, 2}});
    c.tensors.push_back({"model.vision_tower.some.weight", {2}, {1, 2}});
    c.tensors.push_back({"model.embed_audio.some.weight", {3}, {1, 2, 3}});
    EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance) << name;
    TemporaryFolder tmp;
    const std::vector<std::string> notices = convert_to(c.write(), tmp / "m.rnl").notices;
    ASSERT_GE(notices.size(), 2u);
    EXPECT_EQ(notices[0], "the vision tower is left out: 1 tensors, 8 bytes");
    EXPECT_EQ(notices[1], "the audio tower is left out: 1 tensors, 12 bytes");
  }
}

TEST(Recipes, OlderConfigStyleOfGemma4) {
  const Golden g = golden("tiny_gemma4_moe");
  ChangedCheckpoint c("tiny_gemma4_moe");
  c.config.erase("per_layer_config");
  c.config.erase("rope_parameters");
  c.config["global_head_dim"] = 20;
  c.config["num_global_key_value_heads"] = 1;
  c.config["layer_types"][2] = "sliding_attention";  // the last layer sees everything whatever it says
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
}

TEST(Recipes, OlderConfigStyleOfGemma3n) {
  const Golden g = golden("tiny_gemma3n");
  ChangedCheckpoint c("tiny_gemma3n");
  c.config.erase("rope_parameters");
  c.config["rope_theta"] = 1000000.0;
  c.config["rope_local_base_freq"] = 10000.0;
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  c.config["final_logit_softcapping"] = nullptr;  // no cap; without the key one of 30
  EXPECT_GT(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
}

TEST(Recipes, OptionsOfGemma4ThatAreNotSupportedAreNamed) {
  const struct {
    const char* key;
    Json value;
    const char* message;
  } kCases[] = {{"use_bidirectional_attention", "all", "use_bidirectional_attention is \"all\""},
                {"per_layer_config",
                 {{"1", {{"head_dim", 20}, {"hidden_size", 3}}}, {"4", {{"head_dim", 20}}}},
                 "per_layer_config/1/hidden_size (3)"},
                {"num_kv_shared_layers", 4, "leaves no layer that sees everything"},
                {"num_kv_shared_layers", 5, "num_kv_shared_layers is 5"},
                {"hidden_activation", "tanhshrink", "\"tanhshrink\""},
                {"intermediate_size", {28, 28}, "intermediate_size has 2 values, wanted 5"},
                {"layer_types",
                 {"chunked_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"},
                 "chunked_attention"}};
  for (const auto& k : kCases) {
    ChangedCheckpoint c("tiny_gemma4");
    c.config[k.key] = k.value;
    expect_contains(c.convert_error(), k.message);
  }
}

TEST(Recipes, LatentDecodersAsTheyWerePublished) {
  const Golden g = golden("tiny_minicpm3"), h = golden("tiny_deepseek");
  ChangedCheckpoint c("tiny_minicpm3"), d("tiny_deepseek");
  c.config.erase("v_head_dim");
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  d.tensors.push_back({"model.layers.2.eh_proj.weight", {2}, {1, 2}});
  d.config["num_nextn_predict_layers"] = 1;
  EXPECT_LE(largest_difference(d.logits(h.ids), h.logits), h.tolerance);
  ChangedCheckpoint unknown("tiny_deepseek");
  unknown.tensors.push_back({"model.layers.2.eh_proj.weight", {2}, {1, 2}});
  unknown.config["num_nextn_predict_layers"] = 0;
  expect_contains(unknown.convert_error(), "model.layers.2.eh_proj.weight");
}

TEST(Recipes, WindowsAndBasesOfGraniteSwa) {
  const Golden g = golden("tiny_granite_moe_swa");
  ChangedCheckpoint c("tiny_granite_moe_swa");
  c.config.erase("layer_types");  // the first of four sees everything
  EXPECT_LE(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  c.config["layer_rope_theta"] = nullptr;
  EXPECT_GT(largest_difference(c.logits(g.ids), g.logits), g.tolerance);
  for (const auto& [bases, message] :
       {std::pair{Json{0, 5000.0}, "layer_rope_theta does not have a value for each layer"},
        std::pair{Json{0, "5000", 1.0}, "layer_rope_theta holds something that is not a number"},
        std::pair{Json{0, -1.0, 1.0}, "rope_theta is not positive"}}) {
    ChangedCheckpoint wrong("tiny_granite_moe_swa");
    wrong.config["layer_rope_theta"] = bases;
    expect_contains(wrong.convert_error(), message);
  }
}

// Layers that read the keys and values of others have no states, and only the wanted rows go through them.
TEST(Recipes, SharedKeysAndValuesAreHeldOnceAndSparePrefill) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "tiny_gemma4", tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  EXPECT_EQ(model->states().size(), 6u);  // 3 of 5 layers, keys and values
  auto plan = make_plan(*model, test::plan_options());
  ASSERT_TRUE(plan.is_ok());
  const PlannedProgram& p = plan.value().programs[0];
  size_t before = 0, behind = 0;
  for (size_t i = 0; i < p.info->ops.size(); ++i)
    if (std::strcmp(p.info->ops[i].def->name, "attention") == 0) ++(i < p.head_begin ? before : behind);
  EXPECT_EQ(before, 3u);
  EXPECT_EQ(behind, 2u);
  EXPECT_EQ(model->root().programs()->Get(0)->ops()->Get(0)->version(), 1);  // nothing needs a newer one
  convert_to(kGoldens / "tiny_gemma3n", tmp / "n.rnl");
  const auto nano = open_model(tmp / "n.rnl");
  uint16_t newest = 0;
  for (const auto* op : *nano->root().programs()->Get(0)->ops()) newest = std::max(newest, op->version());
  EXPECT_EQ(newest, 2);  // the look-up of ids outside of the table of layers' inputs
}

TEST(Recipes, ShardsReadAsOne) {
  const Golden g = golden("tiny_llama");
  ChangedCheckpoint c("tiny_llama");
  TemporaryFolder tmp;
  write_file(tmp / "config.json", c.config.dump());
  const size_t half = c.tensors.size() / 2;
  Json map = Json::object();
  for (size_t i = 0; i < c.tensors.size(); ++i) map[c.tensors[i].name] = i < half ? "a.safetensors" : "b.safetensors";
  write_file(tmp / "a.safetensors", safetensors_of({c.tensors.begin(), c.tensors.begin() + long(half)}));
  write_file(tmp / "b.safetensors", safetensors_of({c.tensors.begin() + long(half), c.tensors.end()}));
  write_file(tmp / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  convert_to(tmp.path(), tmp / "m.rnl");
  EXPECT_LE(largest_difference(all_logits(*open_model(tmp / "m.rnl"), g.ids, 40), g.logits), g.tolerance);
  map["missing"] = "b.safetensors";
  write_file(tmp / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  expect_contains(error_of([&] { convert_to(tmp.path(), tmp / "n.rnl"); }), "\"missing\" is not in b.safetensors");
  map["missing"] = "../b.safetensors";
  write_file(tmp / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  expect_contains(error_of([&] { convert_to(tmp.path(), tmp / "n.rnl"); }), "not a plain file name");
}

TEST(Recipes, InfinityAsPythonWritesIt) {
  const Golden g = golden("tiny_mamba2");
  ChangedCheckpoint c("tiny_mamba2");
  c.config["_name_or_path"] = "\\\" NaN, Infinity";
  c.config["time_step_limit"] = {0.0, {{"__float__", "Infinity"}}};  // as newer versions do
  const std::vector<float> wanted = c.logits(g.ids);
  c.config["time_step_limit"] = {0.0, "bare"};
  const fs::path in = c.write();
  std::string text = c.config.dump();
  text.replace(text.find("\"bare\""), 6, "Infinity");
  text.insert(1, "\"task_specific_params\": [NaN, -Infinity], ");
  write_file(in / "config.json", text);
  TemporaryFolder tmp;
  convert_to(in, tmp / "m.rnl");
  EXPECT_EQ(all_logits(*open_model(tmp / "m.rnl"), g.ids, 40), wanted);
}

TEST(Recipes, UnknownArchitectureIsNamed) {
  ChangedCheckpoint c("tiny_llama");
  c.config["model_type"] = "marvin";
  const std::string message = c.convert_error();
  expect_contains(message, "\"marvin\"");
  EXPECT_EQ(message.find("did you mean"), std::string::npos) << message;
  expect_contains(message, "gemma3_text");
}

TEST(Recipes, NearArchitecturesAreNamed) {
  ChangedCheckpoint c("tiny_llama");
  c.config["model_type"] = "lama";
  expect_contains(c.convert_error(), "did you mean llama?");
}

TEST(Recipes, WeightsInAFormOfTheirOwnAreRefused) {
  ChangedCheckpoint c("tiny_llama");
  c.config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  expect_contains(c.convert_error(), "quantization_config.quant_method is \"gptq\"");
}

// The shorter text uses the other factors.
TEST(Recipes, LongropeGoesByTheContext) {
  ChangedCheckpoint c("tiny_phi3_long");
  const std::vector<int32_t> ids(16, 5);
  const std::vector<float> within = c.logits(ids);
  c.config["rope_parameters"]["long_factor"] = c.config["rope_parameters"]["short_factor"];
  EXPECT_EQ(c.logits(ids), within);
  c.config["rope_parameters"]["short_factor"] = {2, 2, 2, 2, 2, 2};
  EXPECT_NE(c.logits(ids), within);
  ChangedCheckpoint short_list("tiny_phi3_long");
  short_list.config["rope_parameters"]["short_factor"] = {2, 2, 2};
  expect_contains(short_list.convert_error(), "short_factor has 3 numbers where the rotated channels need 6");
}

TEST(Recipes, MissingTensorIsNamedWithItsShape) {
  ChangedCheckpoint c("tiny_llama");
  c.tensor("model.layers.1.mlp.up_proj.weight").name = "model.layers.1.mlp.other.weight";
  expect_contains(c.convert_error(), "\"model.layers.1.mlp.up_proj.weight\" [76, 48] is missing");
}

TEST(Recipes, MisshapedTensorIsNamedWithBothShapes) {
  ChangedCheckpoint c("tiny_llama");
  std::swap(c.tensor("model.layers.0.mlp.down_proj.weight").shape[0],
            c.tensor("model.layers.0.mlp.down_proj.weight").shape[1]);
  expect_contains(c.convert_error(),
                  "\"model.layers.0.mlp.down_proj.weight\" has shape [76, 48] where the configuration needs [48, 76]");
}

TEST(Recipes, UnusedTensorIsNamed) {
  ChangedCheckpoint c("tiny_llama");
  c.tensors.push_back({"model.layers.0.adapter", {3}, {1, 2, 3}});
  expect_contains(c.convert_error(), "model.layers.0.adapter [3] F32");
}

TEST(Recipes, BuffersOfOldCheckpointsAreNoSurprise) {
  ChangedCheckpoint c("tiny_llama");
  c.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {3}, {1, 2, 3}});
  EXPECT_EQ(c.convert_error(), "");
}

TEST(Recipes, NonFiniteWeightIsNamed) {
  for (const char* name : {"model.layers.0.mlp.down_proj.weight", "model.norm.weight"}) {
    ChangedCheckpoint c("tiny_llama");
    c.tensor(name).values[5] = NAN;
    expect_contains(c.convert_error(), "tensor \"" + std::string(name) + "\" holds NaN or infinity (element 5)");
  }
}

TEST(Recipes, ScalingThatIsNotSupportedIsNamed) {
  ChangedCheckpoint c("tiny_llama");
  c.config["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "spiral"}, {"factor", 4.0}};
  expect_contains(c.convert_error(), "config.json: rope_parameters: rope_type is \"spiral\"");
}

TEST(Recipes, ConfigWithWrongTypesIsRefused) {
  for (const Json& bad : {Json("4"), Json(-4), Json(1e30), Json(4.5), Json(nullptr), Json::array()}) {
    ChangedCheckpoint c("tiny_llama");
    c.config["num_hidden_layers"] = bad;
    expect_contains(c.convert_error(), "num_hidden_layers");
  }
}

TEST(Recipes, HeadsOfAbsurdWidthAreRefused) {
  ChangedCheckpoint c("tiny_llama");
  c.config.erase("head_dim");
  c.config["hidden_size"] = 1 << 30;
  c.config["num_attention_heads"] = 1;
  expect_contains(c.convert_error(), "heads of 1073741824 channels");
}

TEST(Recipes, LicenceAndSourceAreRecorded) {
  ChangedCheckpoint c("tiny_llama");
  const fs::path in = c.write();
  write_file(in / "README.md", "---\nlanguage: en\nlicense: some-licence\n---\ntext\n");
  TemporaryFolder tmp;
  convert_to(in, tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  const auto* p = model->root().provenance();
  EXPECT_EQ(p->licence()->str(), "some-licence");
  EXPECT_EQ(p->architecture()->str(), "llama");
  EXPECT_EQ(p->source_sha256()->size(), 64u);
  EXPECT_EQ(p->source_bytes(), fs::file_size(in / "model.safetensors"));
  uint64_t tensor_bytes = 0;
  for (const PlainTensor& t : c.tensors) tensor_bytes += t.values.size() * 4;
  EXPECT_EQ(p->source_tensor_bytes(), tensor_bytes);
}

}  // namespace
}  // namespace runnel::convert
