// Decoders whose feed-forward is a mixture of experts: Mixtral, Qwen2-MoE and Qwen3-MoE, OLMoE, and gpt-oss with
// learned sinks, biases everywhere, a clamped gated unit and every other layer with a window.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

void build_mixtral(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  read_experts(f, d);
  Experts& e = d.experts;
  e.prefix = "block_sparse_moe.";
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  e.route.renormalise = true;
  d.ropes.push_back(config_rope(f, "", 1000000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
  build_decoder(c, d, b);
}

// Qwen2-MoE and Qwen3-MoE: the older one has an expert that every token sees, the newer one norms on queries and keys.
void build_qwen_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.naming.gguf.insert({{"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
                        {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
                        {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
                        {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"}});
  const bool is_3 = architecture_of(c).starts_with("qwen3");
  const Facts f = source_facts(c, {{{"sliding_window", ""}}, {{"norm_topk_prob", is_3}}});
  read_basics(f, d);
  if (is_3) norm_heads(d);
  else
    add_gated_expert(f.integer("shared_expert_intermediate_size"), d),
        expect_biases(f, "qkv_bias", {"q_proj", "k_proj", "v_proj"}, d.naming);
  read_experts(f, d);
  d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_late_window_layers(f, d.layers);
  set_expert_layers(f, d);
  build_decoder(c, d, b);
}

void build_olmoe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  norm_heads(d);
  d.attention.norm_is_whole = true;
  d.attention.clip = f.number("clip_qkv", 0);
  read_experts(f, d);
  d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_expert_layers(f, d);
  build_decoder(c, d, b);
}

const GgufForm kGptOss = {{},
                          {{"rope_theta", 150000}, {"gguf.yarn_truncate", false}, {"gguf.expert_rows_first", true}}};

void build_gpt_oss(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kGptOss);
  read_basics(f, d);
  read_experts(f, d);
  Experts& e = d.experts;
  e.router = "router";
  e.gate_up = "experts.gate_up_proj", e.gate = "experts.gate_proj", e.up = "experts.up_proj",
  e.down = "experts.down_proj";
  e.is_turned = !f.boolean("gguf.expert_rows_first", false);
  d.naming.gguf.insert({{"mlp.router", "ffn_gate_inp"},
                        {"mlp.experts.gate_proj_bias", "ffn_gate_exps.bias"},
                        {"mlp.experts.up_proj_bias", "ffn_up_exps.bias"},
                        {"mlp.experts.down_proj_bias", "ffn_down_exps.bias"},
                        {"self_attn.sinks", "attn_sinks.weight"}});
  d.naming.gguf["post_attention_layernorm"] = "post_attention_norm";
  f.expect("hidden_act", "silu");
  f.pass_over({"experts_per_token", "initial_context_length"});  // other names of what is read
  e.is_clamped = true;
  e.clamp_limit = f.number("swiglu_limit", 7);
  e.clamp_alpha = f.number("swiglu_alpha", 1.702);
  if (e.clamp_limit <= 0 || e.clamp_alpha == 0) f.refuse("swiglu_limit", "and swiglu_alpha make no gate");
  e.route.select_first = true;
  d.attention.sinks = "sinks";
  d.ropes.push_back(read_rope(c, f, "", 150000, d.attention.head_dim));
  f.stated_in_gguf({"sliding_window"});
  set_window_layers(f, 2, d.layers);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe mixtral_recipe, qwen_moe_recipe, olmoe_recipe, gpt_oss_recipe;
const Recipe mixtral_recipe = {"mixtral", {}, {"mixtral"}, build_mixtral};
const Recipe qwen_moe_recipe = {"qwen_moe", {"qwen2moe", "qwen3moe"}, {"qwen2_moe", "qwen3_moe"}, build_qwen_moe};
const Recipe olmoe_recipe = {"olmoe", {"olmoe"}, {"olmoe"}, build_olmoe};
const Recipe gpt_oss_recipe = {"gpt_oss", {"gpt-oss"}, {"gpt_oss"}, build_gpt_oss};

}  // namespace runnel::convert
