// Decoders whose feed-forward is a mixture of experts: Mixtral, Qwen2-MoE and Qwen3-MoE, OLMoE, and gpt-oss with
// learned sinks, biases everywhere, a clamped gated unit and every other layer with a window.
#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void read_experts(const Facts& f, const char* count, Decoder& d) {
  d.experts.count = f.integer(count, 1, 65536);
  d.experts.chosen = f.integer("num_experts_per_tok", 1, d.experts.count);
  d.experts.activation = activation_named(f, "hidden_act", "silu");
}

void build_mixtral(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_config_basics(f, d);
  read_experts(f, "num_local_experts", d);
  Experts& e = d.experts;
  e.prefix = "block_sparse_moe.";
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  e.width = d.ffn.width;
  e.route.renormalise = true;
  d.ropes.push_back(config_rope(f, "", 1000000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
  for (Layer& layer : d.layers) layer.has_experts = true;
  build_decoder(c, d, b);
}

// Which layers have experts: each decoder_sparse_step'th, but none of mlp_only_layers.
void set_expert_layers(const Facts& f, Decoder& d) {
  const int64_t step = f.integer("decoder_sparse_step", 1, 4096, 1);
  const Json* dense = f.find("mlp_only_layers");
  for (size_t i = 0; i < d.layers.size(); ++i) {
    const bool is_dense =
        dense && dense->is_array() && std::find(dense->begin(), dense->end(), Json(i)) != dense->end();
    d.layers[i].has_experts = !is_dense && (int64_t(i) + 1) % step == 0;
  }
}

// Qwen2-MoE and Qwen3-MoE: the older one has an expert that every token sees, the newer one norms on queries and keys.
void build_qwen_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_config_basics(f, d);
  if (f.text("model_type", "") == "qwen3_moe") d.attention.q_norm = "q_norm", d.attention.k_norm = "k_norm";
  else
    add_shared_expert(f.integer("shared_expert_intermediate_size"), d),
        expect_biases(f, "qkv_bias", {"q_proj", "k_proj", "v_proj"}, d.naming);
  read_experts(f, f.has("num_experts") ? "num_experts" : "num_local_experts", d);
  d.experts.width = f.integer("moe_intermediate_size");
  d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_late_window_layers(f, d.layers);
  set_expert_layers(f, d);
  build_decoder(c, d, b);
}

void build_olmoe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_basics(c, d);
  d.attention.q_norm = "q_norm", d.attention.k_norm = "k_norm";
  d.attention.norm_is_whole = true;
  if (c.is_gguf()) return build_decoder(c, d, b);
  d.attention.clip = f.number("clip_qkv", 0);
  read_experts(f, f.has("num_experts") ? "num_experts" : "num_local_experts", d);
  d.experts.width = d.ffn.width;
  d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_expert_layers(f, d);
  build_decoder(c, d, b);
}

void read_gpt_oss_gguf(Checkpoint& c, Decoder& d) {
  const Facts f = gguf_facts(c);
  d.naming.gguf["self_attn.sinks"] = "attn_sinks.weight";
  d.naming.gguf["post_attention_layernorm"] = "post_attention_norm";
  read_gguf_sizes(c, f, d);
  read_gguf_experts(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.ropes.push_back(gguf_rope(c, f, {150000, d.attention.head_dim, d.attention.head_dim, false}));
  f.integer("attention.sliding_window");
  set_gguf_window_layers(f, 2, d.layers);
}

void read_gpt_oss_config(Checkpoint& c, Decoder& d) {
  const Facts f = config_facts(c);
  read_config_basics(f, d);
  read_experts(f, "num_local_experts", d);
  Experts& e = d.experts;
  e.router = "router";
  e.gate_up = "experts.gate_up_proj", e.down = "experts.down_proj";
  e.width = d.ffn.width;
  f.expect("hidden_act", "silu");
  f.pass_over({"experts_per_token", "initial_context_length"});  // other names of what is read
  e.clamp_limit = f.number("swiglu_limit", 7);
  e.clamp_alpha = f.number("swiglu_alpha", 1.702);
  if (e.clamp_limit <= 0 || e.clamp_alpha == 0) f.refuse("swiglu_limit", "and swiglu_alpha make no gate");
  d.ropes.push_back(config_rope(f, "", 150000, d.attention.head_dim));
  set_window_layers(f, 2, d.layers);
  for (Layer& layer : d.layers) layer.has_experts = true;
}

void build_gpt_oss(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  if (c.is_gguf()) read_gpt_oss_gguf(c, d);
  else read_gpt_oss_config(c, d);
  d.attention.sinks = "sinks";
  d.experts.is_clamped = true;
  d.experts.route.select_first = true;
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe mixtral_recipe, qwen2_moe_recipe, qwen3_moe_recipe, olmoe_recipe, gpt_oss_recipe;
const Recipe mixtral_recipe = {"mixtral", {}, {"mixtral"}, build_mixtral};
const Recipe qwen2_moe_recipe = {"qwen2_moe", {}, {"qwen2_moe"}, build_qwen_moe};
const Recipe qwen3_moe_recipe = {"qwen3_moe", {}, {"qwen3_moe"}, build_qwen_moe};
const Recipe olmoe_recipe = {"olmoe", {"olmoe"}, {"olmoe"}, build_olmoe};
const Recipe gpt_oss_recipe = {"gpt_oss", {"gpt-oss"}, {"gpt_oss"}, build_gpt_oss};

}  // namespace runnel::convert
