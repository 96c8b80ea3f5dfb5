// Llama and its relatives: norms before both halves of a layer, rotary positions, gated SiLU. Mistral and Ministral add
// a window, Qwen2 biases and a window from some layer on, Qwen3 norms on queries and keys, SmolLM3 layers without
// positions, Phi-3 matrices in one piece. A GGUF of these families may have experts: Mixtral is a Llama there,
// Qwen3-MoE a Qwen3.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

Facts read_gguf_facts(Checkpoint& c, Decoder& d) {
  const Facts f = read_gguf_basics(c, d);
  d.experts.route.renormalise = true;  // Mixtral and Qwen3-MoE
  read_gguf_factors(f, d);
  return f;
}

// Files of the family "llama" hold rows of q and k reordered for neighbouring pairs, and so do those of some relatives.
void build_llama(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  if (c.is_gguf()) {
    const Facts f = read_gguf_facts(c, d);
    d.attention.is_interleaved = true;
    set_gguf_window_layers(f, 0, d.layers);
    d.query_beta = f.number("attention.temperature_scale", 0);
    d.query_original = d.query_beta == 0 ? 0 : f.integer("rope.scaling.original_context_length");
  } else {
    const TextConfig text = read_text_config(c, d.naming, {{"tie_word_embeddings", false}});
    const Facts f = text.facts(c);
    read_config_basics(f, d);
    d.is_tied = text.is_tied;
    d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
    if (f.text("model_type", "") == "cwm") set_window_layers_after_first(f, 4, d.layers);
    else set_window_layers(f, 0, d.layers);
    if (const auto rope = rope_facts(f); rope && f.text("model_type", "") == "ministral3") {
      d.query_beta = rope->number("llama_4_scaling_beta", 0);
      d.query_original = d.query_beta == 0 ? 0 : rope->integer("original_max_position_embeddings");
    }
  }
  build_decoder(c, d, b);
}

void build_qwen(Checkpoint& c, const std::string& family, ModelBuilder& b) {
  Decoder d;
  if (family.rfind("qwen3", 0) == 0) d.attention.q_norm = "q_norm", d.attention.k_norm = "k_norm";
  if (c.is_gguf()) {
    const Facts f = read_gguf_facts(c, d);
    if (family == "qwen2moe") {
      d.experts.route.renormalise = false;
      add_shared_expert(f.integer("expert_shared_feed_forward_length"), d);
      d.naming.gguf.insert({{"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
                            {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
                            {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
                            {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"}});
    }
  } else {
    const Facts f = config_facts(c);
    read_config_basics(f, d);
    if (family == "qwen2") d.naming.biases.clear();  // q, k and v have them, whatever a configuration says
    if (family == "qwen3" && !f.has("head_dim")) d.attention.head_dim = 128, d.attention.scale = 1 / std::sqrt(128.0);
    d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
    set_late_window_layers(f, d.layers);
  }
  build_decoder(c, d, b);
}
void build_qwen2(Checkpoint& c, ModelBuilder& b) { build_qwen(c, "qwen2", b); }
void build_qwen3(Checkpoint& c, ModelBuilder& b) { build_qwen(c, "qwen3", b); }
void build_qwen_moe_gguf(Checkpoint& c, ModelBuilder& b) { build_qwen(c, architecture_of(c), b); }

// Some layers have no positions: each fourth one, or those with a 0 in no_rope_layers. A window, when it is used, is
// theirs.
void build_smollm3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const auto stands_still = [](size_t i, int64_t interval) { return (int64_t(i) + 1) % interval == 0; };
  if (c.is_gguf()) {
    read_gguf_facts(c, d);
    d.attention.is_interleaved = true;
    for (size_t i = 0; i < d.layers.size(); ++i)
      if (stands_still(i, 4)) d.layers[i].rope = -1;
    return build_decoder(c, d, b);
  }
  const Facts f = config_facts(c);
  read_config_basics(f, d);
  if (!f.has("tie_word_embeddings")) d.is_tied = true;
  d.ropes.push_back(config_rope(f, "", 2000000, d.attention.head_dim));
  const Json* list = f.find("no_rope_layers");
  if (list && (!list->is_array() || list->size() < d.layers.size()))
    f.refuse("no_rope_layers", "does not have a value for each layer");
  for (size_t i = 0; i < d.layers.size(); ++i)
    if (list ? (*list)[i] == 0 : stands_still(i, f.integer("no_rope_layer_interval", 1, 4096, 4)))
      d.layers[i].rope = -1;
  f.pass_over({"no_rope_layer_interval", "layer_types", "sliding_window"});
  if (f.boolean("use_sliding_window", false)) {
    set_window_layers(f, 0, d.layers);
    for (Layer& layer : d.layers)
      if (!f.has("layer_types") && layer.rope >= 0) layer.window = 0;
  }
  build_decoder(c, d, b);
}

void build_phi3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.attention.qkv = "qkv_proj";
  d.ffn.gate_up = "gate_up_proj";
  if (c.is_gguf()) {
    d.naming.gguf["self_attn.qkv_proj"] = "attn_qkv";
    d.naming.gguf["mlp.gate_up_proj"] = "ffn_up";
    const Facts f = read_gguf_facts(c, d);
    set_gguf_window_layers(f, 0, d.layers);
  } else {
    const Facts f = config_facts(c);
    read_config_basics(f, d);
    d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
    set_window_layers(f, 0, d.layers);
  }
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe llama_recipe, qwen2_recipe, qwen3_recipe, qwen_moe_gguf_recipe, smollm3_recipe, phi3_recipe;
const Recipe llama_recipe = {
    "llama", {"llama", "mistral3"}, {"llama", "mistral", "ministral", "ministral3", "mistral3", "cwm"}, build_llama};
const Recipe qwen2_recipe = {"qwen2", {"qwen2"}, {"qwen2"}, build_qwen2};
const Recipe qwen3_recipe = {"qwen3", {"qwen3"}, {"qwen3"}, build_qwen3};
const Recipe qwen_moe_gguf_recipe = {"qwen_moe", {"qwen3moe", "qwen2moe"}, {}, build_qwen_moe_gguf};
const Recipe smollm3_recipe = {"smollm3", {"smollm3"}, {"smollm3"}, build_smollm3};
const Recipe phi3_recipe = {"phi3", {"phi3"}, {"phi3"}, build_phi3};

}  // namespace runnel::convert
