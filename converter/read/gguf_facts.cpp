// A GGUF's keys read as a configuration: one table of both spellings, and what the file says by its tensors or by
// lists.
#include <cmath>

#include "converter/read/facts.h"

namespace runnel::convert {
namespace {

const std::map<std::string, std::string> kKeys = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"num_nextn_predict_layers", "nextn_predict_layers"},
    {"max_position_embeddings", "context_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"layer_norm_eps", "attention.layer_norm_epsilon"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"attention_multiplier", "attention.scale"},
    {"gguf.attention_scale", "attention.scale"},
    {"is_causal", "attention.causal"},
    {"clip_qkv", "attention.clamp_kqv"},
    {"sliding_window", "attention.sliding_window"},
    {"sliding_window_pattern", "attention.sliding_window_pattern"},
    {"rope_theta", "rope.freq_base"},
    {"intermediate_size", "feed_forward_length"},
    {"num_experts", "expert_count"},
    {"num_local_experts", "expert_count"},
    {"num_experts_per_tok", "expert_used_count"},
    {"moe_intermediate_size", "expert_feed_forward_length"},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length"},
    {"shared_intermediate_size", "expert_shared_feed_forward_length"},
    {"num_kv_shared_layers", "attention.shared_kv_layers"},
    {"hidden_size_per_layer_input", "embedding_length_per_layer_input"},
    {"embedding_multiplier", "embedding_scale"},
    {"residual_multiplier", "residual_scale"},
    {"logits_scaling", "logit_scale"},
};

// Sizes that are the number of a tensor's rows.
constexpr std::pair<const char*, const char*> kRows[] = {{"vocab_size", "token_embd.weight"},
                                                         {"type_vocab_size", "token_types.weight"},
                                                         {"vocab_size_per_layer_input", "per_layer_token_embd.weight"},
                                                         {"laurel_rank", "blk.0.laurel_l.weight"}};

// Names of the layers' kinds, from a list of flags or from n: every layer but each n'th has the window.
Json window_types(const Json& pattern, int64_t layers) {
  Json types = Json::array();
  const auto add = [&](bool has_window) { types.push_back(has_window ? "sliding_attention" : "full_attention"); };
  if (pattern.is_array())
    for (const Json& flag : pattern) add(flag == true || flag == 1);
  for (int64_t i = 1, n = pattern.is_number_integer() ? pattern.get<int64_t>() : -1; n >= 0 && i <= layers; ++i)
    add(n == 0 || i % n != 0);
  return types;
}

// Layers without heads of keys and values, of which there is a list, are of another kind.
Json head_types(const Json& heads, size_t layers, const std::string& other) {
  Json types = Json::array();
  for (size_t i = 0; i < layers; ++i) {
    const Json n = !heads.is_array() ? heads : i < heads.size() ? heads[i] : Json();
    types.push_back(n.is_number_integer() && n.get<int64_t>() > 0 ? "full_attention" : other);
  }
  return types;
}

}  // namespace

Facts gguf_facts(const Checkpoint& c, const GgufForm& form) {
  const std::string architecture = stated_architecture(c), prefix = architecture + ".";
  Facts::Spelling spelling = form.keys;
  spelling.insert(kKeys.begin(), kKeys.end());
  Json config = form.says;
  for (const auto& [key, value] : c.meta.items())
    if (key.compare(0, prefix.size(), prefix) == 0) config[key.substr(prefix.size())] = value;
  for (const auto& [name, key] : spelling)
    if (const auto it = c.meta.find(prefix + key); !key.empty() && it != c.meta.end()) config[name] = *it;

  config["model_type"] = architecture;
  config["tie_word_embeddings"] = !c.has("output.weight");
  for (const auto& [name, tensor] : kRows)
    if (const SourceTensor* t = c.peek(tensor)) config[name] = t->shape.front();
  const auto number = [&](const char* name) {
    const auto it = config.find(name);
    return it != config.end() && it->is_number() ? it->get<double>() : 0.0;
  };
  if (config.value("sliding_window", Json()) == 0) config.erase("sliding_window");
  const auto pattern = config.find("sliding_window_pattern");
  if (config.contains("sliding_window") && pattern != config.end() && !spelling["sliding_window"].empty()) {
    config["layer_types"] = window_types(*pattern, int64_t(number("num_hidden_layers")));
    spelling["layer_types"] = spelling["sliding_window_pattern"];
  } else if (!config.contains("sliding_window")) {
    config.erase("sliding_window_pattern");
  }
  const Json kv_heads = config.value("num_key_value_heads", Json());
  if (const auto other = config.find("gguf.layers_without_heads"); other != config.end()) {
    config["layer_types"] = head_types(kv_heads, size_t(number("num_hidden_layers")), other->get<std::string>());
    spelling["layer_types"] = spelling["num_key_value_heads"];
    if (kv_heads.is_array()) config.erase("num_key_value_heads");
    for (const Json& n : kv_heads)
      if (kv_heads.is_array() && n != 0) config["num_key_value_heads"] = n;
  }
  // What llama.cpp takes for what is not there.
  config.emplace("rope_theta", 10000);
  if (const int64_t heads = int64_t(number("num_attention_heads")); heads > 0) {
    config.emplace("num_key_value_heads", heads);
    config.emplace("head_dim", int64_t(number("hidden_size")) / heads);
  }
  if (const double dim = number("head_dim"); dim > 0) config.emplace("attention_multiplier", 1 / std::sqrt(dim));

  Facts out(c.meta, c.path.string(), prefix, c.asked);
  out.spelling_ = std::make_shared<const Facts::Spelling>(std::move(spelling));
  return out.with(std::move(config));
}

}  // namespace runnel::convert
