// What a source says and a recipe does not know is refused by name, and what it says is obeyed (the right values come
// from transformers 5.24 and llama.cpp).
#include <algorithm>

#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

// Of changed_configs.safetensors (make_changed_configs.py).
void expect_golden(ChangedCheckpoint& c, const std::string& folder, const std::string& change) {
  Checkpoint golden = load_safetensors(kGoldens / "changed_configs.safetensors");
  const std::vector<float> wanted = values_of(golden, folder + ":" + change);
  std::vector<int32_t> ids = ids_of(kGoldens / folder);
  ids.resize(24);
  // Random weights of some hybrids multiply every rounding.
  EXPECT_LE(largest_difference(c.logits(ids), wanted), 5e-4f * largest(wanted)) << folder;
}

std::string text_of(const fs::path& file) { return read_text(file, size_t(1) << 24); }

TEST(Facts, OptionsThatNoRecipeAskedForAreRefused) {
  const std::pair<const char*, Json> kInvented[] = {{"attn_logit_softcapping", 30.0},
                                                    {"final_logit_softcapping", 20.0},
                                                    {"embedding_multiplier", 12.0},
                                                    {"residual_multiplier", 0.22},
                                                    {"logits_scaling", 8.0},
                                                    {"attention_multiplier", 0.5},
                                                    {"use_qk_norm", true},
                                                    {"clip_qkv", 8.0},
                                                    {"no_rope_layers", {1, 0}},
                                                    {"use_alibi", true},
                                                    {"parallel_attn", true},
                                                    {"num_local_experts", 4},
                                                    {"use_rope", false}};
  for (const auto& [key, value] : kInvented) {
    ChangedCheckpoint c("tiny_llama");
    c.config[key] = value;
    const std::string message = c.convert_error();
    expect_contains(message, "config.json: 1 option is unknown to the recipe");
    expect_contains(message, std::string(key) + " (" + value.dump() + ")");
  }
  ChangedCheckpoint all("tiny_llama");
  for (const auto& [key, value] : kInvented) all.config[key] = value;
  expect_contains(all.convert_error(), "13 options are unknown");
}

TEST(Facts, OptionsInsideOfOthersAreRefusedToo) {
  ChangedCheckpoint c("tiny_llama");
  c.config["rope_parameters"]["attention_temperature"] = 2.0;
  expect_contains(c.convert_error(), "rope_parameters/attention_temperature (2.0)");
  ChangedCheckpoint d("tiny_gemma3");
  Json text = d.config;
  text["use_rope"] = false;
  d.config = {{"model_type", "gemma3"},
              {"text_config", text},
              {"vision_config", {{"hidden_size", 8}}},
              {"image_token_index", 3}};
  for (PlainTensor& t : d.tensors) t.name = "language_model.model." + t.name.substr(6);
  expect_contains(d.convert_error(),
                  "1 option is unknown to the recipe, so the result could be wrong: text_config/use_rope (false)");
}

TEST(Facts, HarmlessOptionsAreNotRefused) {
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
  ChangedCheckpoint c("tiny_llama");
  const std::vector<float> wanted = c.logits(ids);
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, Json>>{{"attention_dropout", 0.1},
                                                           {"use_cache", false},
                                                           {"pretraining_tp", 2},
                                                           {"initializer_range", 0.01},
                                                           {"sep_token_id", 7},
                                                           {"torch_dtype", "float16"},
                                                           {"auto_map", {{"a", "b"}}},
                                                           {"is_causal", true},
                                                           {"use_qk_norm", false},
                                                           {"clip_qkv", nullptr},
                                                           {"an_option_without_a_value", nullptr},
                                                           {"output_attentions", true},
                                                           {"id2label", {{"0", "A"}}},
                                                           {"max_length", 20}})
    c.config[key] = value;
  EXPECT_EQ(c.logits(ids), wanted);
}

TEST(Facts, KeysOfAGgufThatNobodyAskedForAreRefused) {
  TemporaryFolder tmp;
  const auto error_with = [&](const std::string& key, const Bytes& value, uint32_t type) {
    write_file(tmp / "m.gguf", with_gguf_key(text_of(kGoldens / "tiny_llama/model-f32.gguf"), key, type, value.text()));
    return error_of([&] { convert_to(tmp / "m.gguf", tmp / "m.rnl"); });
  };
  EXPECT_EQ(error_with("general.mood", Bytes().put(3.0f), 6), "");
  EXPECT_EQ(error_with("llama.attention.causal", Bytes().put(uint8_t(1)), 7), "");
  expect_contains(error_with("llama.attention.mood", Bytes().put(3.0f), 6),
                  "1 option is unknown to the recipe, so the result could be wrong: llama.attention.mood (3.0)");
  expect_contains(error_with("llama.attn_logit_softcapping", Bytes().put(30.0f), 6),
                  "llama.attn_logit_softcapping (30.0)");
}

TEST(Facts, BiasesMustBeWhereTheConfigurationSaysSo) {
  const struct {
    const char *folder, *option;
    Json value;
    const char* message;
  } kCases[] = {{"tiny_llama", "attention_bias", true,
                 "attention_bias is true, but tensor \"model.layers.0.self_attn.q_proj.bias\" is missing"},
                {"tiny_llama", "mlp_bias", true,
                 "mlp_bias is true, but tensor \"model.layers.0.mlp.gate_proj.bias\" is missing"},
                {"tiny_smollm3", "mlp_bias", false,
                 "mlp_bias is false, but tensor \"model.layers.0.mlp.gate_proj.bias\" is there"},
                {"tiny_mamba2", "use_bias", true,
                 "use_bias is true, but tensor \"backbone.layers.0.mixer.in_proj.bias\" is missing"},
                {"tiny_mamba", "use_bias", false,
                 "use_bias is false, but tensor \"backbone.layers.0.mixer.in_proj.bias\" is there"},
                {"tiny_bamba", "mamba_proj_bias", true, "mamba_proj_bias is true"},
                {"tiny_lfm2_moe", "conv_bias", true,
                 "conv_bias is true, but tensor \"model.layers.0.conv.in_proj.bias\" is missing"},
                {"tiny_qwen3_5", "attention_bias", true, "attention_bias is true"},
                {"tiny_olmo_hybrid", "attention_bias", true,
                 "attention_bias is true, but tensor \"model.layers.3.self_attn.q_proj.bias\" is missing"},
                {"tiny_fla_gated_deltanet_plain", "use_gate", true, "use_gate does not agree"},
                {"tiny_fla_gated_deltanet", "use_short_conv", false, "use_short_conv does not agree"},
                {"tiny_starcoder2", "use_bias", false, "use_bias is false"}};
  for (const auto& k : kCases) {
    ChangedCheckpoint c(k.folder);
    c.config[k.option] = k.value;
    expect_contains(c.convert_error(), k.message);
  }
}

TEST(Facts, NullIsNoActivationAndNoBase) {
  for (const auto& [key, message] :
       {std::pair{"hidden_act", "hidden_act is null"}, std::pair{"rms_norm_eps", "rms_norm_eps is null"}}) {
    ChangedCheckpoint c("tiny_llama");
    c.config[key] = nullptr;
    expect_contains(c.convert_error(), message);
  }
  ChangedCheckpoint c("tiny_llama");
  c.config["rope_parameters"]["rope_theta"] = nullptr;
  expect_contains(c.convert_error(), "rope_theta is null");
  c.config.erase("rope_parameters");
  c.config["rope_theta"] = nullptr;
  expect_contains(c.convert_error(), "rope_theta is null");
}

TEST(Facts, WindowsOfSambaYStandBeforeTheSharedKeys) {
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  ChangedCheckpoint c("tiny_phi4flash");
  const std::vector<float> wanted = c.logits(ids);
  const auto listed = [](size_t n) {
    Json all = Json::array();
    for (size_t i = 0; i < n; ++i) all.push_back(i < 4 && i % 2 ? Json(8) : Json());
    return all;
  };
  c.config["sliding_window"] = listed(8);
  EXPECT_EQ(c.logits(ids), wanted);
  Json zero = listed(8), late = listed(8);
  zero[1] = 0, late[5] = 8;
  const struct {
    const char* option;
    Json value;
    const char* message;
  } kCases[] = {{"sliding_window", listed(7), "sliding_window does not have an entry for each layer"},
                {"sliding_window", zero, "sliding_window holds no number of positions for layer 1"},
                {"sliding_window", late, "sliding_window has a window in a layer whose keys others read"},
                {"mb_per_layer", 4, "mb_per_layer is 4"},
                {"num_key_value_heads", 3, "num_key_value_heads and num_attention_heads do not make pairs"},
                {"num_hidden_layers", 6, "num_hidden_layers is no multiple of 4"},
                {"mamba_dt_rank", 3, "x_proj"}};
  for (const auto& k : kCases) {
    ChangedCheckpoint changed("tiny_phi4flash");
    changed.config[k.option] = k.value;
    expect_contains(changed.convert_error(), k.message);
  }
}

TEST(Facts, SafeGatesHaveABound) {
  ChangedCheckpoint c("tiny_fla_kda_bounded");
  c.config["lower_bound"] = nullptr;
  expect_contains(c.convert_error(), "safe_gate is true without a lower_bound");
}

TEST(Facts, YarnNeedsAFactor) {
  ChangedCheckpoint c("tiny_llama");
  c.config["rope_parameters"] = {
      {"rope_theta", 10000.0}, {"rope_type", "yarn"}, {"original_max_position_embeddings", 16}};
  expect_contains(c.convert_error(), "rope_parameters: factor of the rope scaling is missing");
}

// What the layers of hybrids do with other activations than silu.
TEST(Facts, ActivationsThatAConfigurationNamesAreObeyed) {
  for (const std::string folder :
       {"tiny_jamba", "tiny_bamba", "tiny_granite_hybrid", "tiny_falcon_h1", "tiny_qwen3_next", "tiny_qwen3_5",
        "tiny_olmo_hybrid", "tiny_kimi_linear", "tiny_mamba", "tiny_mamba2", "tiny_recurrent_gemma", "tiny_minimax",
        "tiny_zamba2", "tiny_nemotron_h"}) {
    const char* key = folder == "tiny_recurrent_gemma" ? "hidden_activation"
                      : folder == "tiny_nemotron_h"    ? "mamba_hidden_act"
                                                       : "hidden_act";
    ChangedCheckpoint c(folder);
    c.config[key] = "gelu";
    expect_golden(c, folder, "gelu");
    ChangedCheckpoint d(folder);
    d.config[key] = "mish";
    expect_contains(d.convert_error(), std::string(key) + " is \"mish\"");
  }
  for (const char* folder : {"tiny_lfm2", "tiny_rwkv", "tiny_xlstm"}) {
    ChangedCheckpoint c(folder);
    c.config["hidden_act"] = "gelu";
    expect_contains(c.convert_error(), "hidden_act (\"gelu\")");
  }
}

TEST(Facts, YarnScalesWhatTurnsInEveryRecipe) {
  for (const char* folder : {"tiny_qwen3_next", "tiny_qwen3_5", "tiny_zamba2"}) {
    ChangedCheckpoint c(folder);
    c.config["rope_parameters"].update(
        {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}});
    expect_golden(c, folder, "yarn");
  }
}

// Of llama.cpp (gguf_linear/qwen35_yarn.safetensors).
TEST(Facts, ScalingOfAQwen35GgufIsRead) {
  std::string gguf = text_of(kGoldens / "gguf_linear/qwen35.gguf");
  gguf = with_gguf_key(gguf, "qwen35.rope.scaling.type", 8, Bytes().string("yarn").text());
  gguf = with_gguf_key(gguf, "qwen35.rope.scaling.factor", 6, Bytes().put(4.0f).text());
  gguf = with_gguf_key(gguf, "qwen35.rope.scaling.original_context_length", 4, Bytes().put(uint32_t(16)).text());
  TemporaryFolder tmp;
  write_file(tmp / "m.gguf", gguf);
  convert_to(tmp / "m.gguf", tmp / "m.rnl", Weights::kF32);
  Checkpoint golden = load_safetensors(kGoldens / "gguf_linear/qwen35_yarn.safetensors");
  Checkpoint source = load_safetensors(kGoldens / "gguf_linear/qwen35.safetensors");
  const std::vector<float> wanted = values_of(golden, "logits");
  EXPECT_LE(largest_difference(all_logits(*open_model(tmp / "m.rnl"), integers_of(source, "ids"), 64), wanted),
            1e-4f * largest(wanted));
}

TEST(Facts, AttentionBothWays) {
  for (const std::string folder : {"tiny_qwen3", "tiny_mistral", "tiny_qwen2"}) {
    ChangedCheckpoint c(folder);
    c.config["is_causal"] = false;
    c.config["architectures"] = {"BaseModel"};
    std::erase_if(c.tensors, [](const PlainTensor& t) { return t.name == "lm_head.weight"; });
    expect_golden(c, folder, "both_ways");
  }
  // A GGUF says it by another key; without an output matrix it is an encoder.
  TemporaryFolder tmp;
  write_file(tmp / "m.gguf", with_gguf_key(text_of(kGoldens / "tiny_llama/model-f32.gguf"), "llama.attention.causal", 7,
                                           Bytes().put(uint8_t(0)).text()));
  EXPECT_EQ(error_of([&] { convert_to(tmp / "m.gguf", tmp / "m.rnl", Weights::kF32); }), "");
  Checkpoint golden = load_safetensors(kGoldens / "changed_configs.safetensors");
  const std::vector<float> wanted = values_of(golden, "tiny_llama:both_ways");
  std::vector<int32_t> ids = ids_of(kGoldens / "tiny_llama");
  ids.resize(24);
  EXPECT_LE(largest_difference(all_logits(*open_model(tmp / "m.rnl"), ids, 40), wanted), 1e-4f * largest(wanted));
  write_file(tmp / "m.gguf", with_gguf_key(text_of(kGoldens / "gguf_linear/qwen35.gguf"), "qwen35.attention.causal", 7,
                                           Bytes().put(uint8_t(0)).text()));
  expect_contains(error_of([&] { convert_to(tmp / "m.gguf", tmp / "m.rnl"); }), "qwen35.attention.causal (false)");
  for (const char* folder :
       {"tiny_llama", "tiny_lfm2", "tiny_mamba2", "tiny_gemma4", "tiny_qwen3_next", "tiny_zamba2", "tiny_gpt2"}) {
    ChangedCheckpoint c(folder);
    c.config["is_causal"] = false;
    expect_contains(c.convert_error(), "is_causal");
  }
}

// As transformers 5 has it.
TEST(Facts, AHeadOfItsOwnIsUsedWhateverIsTied) {
  for (const char* folder : {"tiny_gemma3", "tiny_recurrent_gemma", "tiny_lfm2", "tiny_falcon_mamba"}) {
    ChangedCheckpoint c(folder);
    ASSERT_NE(c.config.value("tie_word_embeddings", true), false) << folder;
    const std::vector<int32_t> ids = {1, 2, 3};
    const std::vector<float> before = c.logits(ids);
    PlainTensor own = c.tensor(folder == std::string("tiny_falcon_mamba") ? "backbone.embeddings.weight"
                                                                          : "model.embed_tokens.weight");
    own.name = "lm_head.weight";
    c.tensors.push_back(own);
    EXPECT_EQ(c.logits(ids), before) << folder << ": the same numbers";
    for (float& v : c.tensors.back().values) v = -v;
    TemporaryFolder tmp;
    const std::vector<std::string> notices = convert_to(c.write(), tmp / "m.rnl").notices;
    const std::string note =
        "lm_head.weight differs from the embedding that the configuration ties it to; the file's own is used";
    EXPECT_NE(std::find(notices.begin(), notices.end(), note), notices.end()) << folder;
    const std::vector<float> after = c.logits(ids);
    for (size_t i = 0; i < after.size(); ++i) ASSERT_NEAR(after[i], -before[i], 1e-5) << folder;
  }
}

// A GGUF whose block_count counts layers that guess further tokens, with and without their tensors.
TEST(Facts, FurtherTokenLayersOfAGguf) {
  TemporaryFolder tmp;
  const auto convert_gguf = [&](const std::string& gguf) {
    write_file(tmp / "m.gguf", gguf);
    return convert_to(tmp / "m.gguf", tmp / "m.rnl", Weights::kF32);
  };
  std::string gguf = with_gguf_key(text_of(kGoldens / "gguf_linear/qwen35.gguf"), "qwen35.nextn_predict_layers", 4,
                                   Bytes().put(uint32_t(1)).text());
  const auto is_about_layers = [](const std::string& notice) { return notice.find("further tokens") != notice.npos; };
  std::vector<std::string> notices = convert_gguf(with_gguf_number(gguf, "qwen35.block_count", 5)).notices;
  EXPECT_TRUE(std::none_of(notices.begin(), notices.end(), is_about_layers));
  Checkpoint golden = load_safetensors(kGoldens / "gguf_linear/qwen35.safetensors");
  const std::vector<float> wanted = values_of(golden, "logits");
  EXPECT_LE(largest_difference(all_logits(*open_model(tmp / "m.rnl"), integers_of(golden, "ids"), 64), wanted),
            1e-4f * largest(wanted));
  // A Llama of three layers, the last of which is said to be one more.
  gguf = with_gguf_key(text_of(kGoldens / "tiny_llama/model-f32.gguf"), "llama.nextn_predict_layers", 4,
                       Bytes().put(uint32_t(1)).text());
  notices = convert_gguf(gguf).notices;
  ASSERT_TRUE(!notices.empty() && is_about_layers(notices[0]));
  expect_contains(notices[0], "what guesses further tokens is left out: 9 tensors");
  ChangedCheckpoint shorter("tiny_llama");
  shorter.config["num_hidden_layers"] = 2;
  std::erase_if(shorter.tensors, [](const PlainTensor& t) { return t.name.starts_with("model.layers.2."); });
  const std::vector<int32_t> ids = ids_of(kGoldens / "tiny_llama");
  const std::vector<float> of_two = shorter.logits(ids);
  EXPECT_LE(largest_difference(all_logits(*open_model(tmp / "m.rnl"), ids, 40), of_two), 1e-4f * largest(of_two));
  gguf = with_gguf_key(text_of(kGoldens / "tiny_llama/model-f32.gguf"), "llama.nextn_predict_layers", 4,
                       Bytes().put(uint32_t(3)).text());
  expect_contains(error_of([&] { convert_gguf(gguf); }), "llama.nextn_predict_layers leaves no layer");
}

}  // namespace
}  // namespace runnel::convert
