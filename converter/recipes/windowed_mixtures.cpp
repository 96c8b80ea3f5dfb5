// Mixtures of experts in which most layers see a window: EXAONE-MoE, AFMoE (Trinity), MiMo-V2-Flash, Laguna, Mellum 2
// and Flint. All but MiMo norm queries and keys.
#include <cmath>
#include <map>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

const GgufForm kGguf = {{{"num_shared_experts", "expert_shared_count"},
                         {"first_k_dense_replace", "leading_dense_block_count"},
                         {"num_dense_layers", "leading_dense_block_count"},
                         {"routed_scaling_factor", "expert_weights_scale"},
                         {"route_scale", "expert_weights_scale"},
                         {"norm_topk_prob", "expert_weights_norm"},
                         {"n_group", "expert_group_count"},
                         {"topk_group", "expert_group_used_count"}},
                        {{"mup_enabled", true}}};

// Only layers with a window have positions.
void turn_in_windows(Decoder& d) {
  for (Layer& layer : d.layers) layer.rope = layer.window ? 0 : -1;
}

struct Base {
  double theta, partial = 1;
};
// Frequencies of their own for the layers of both kinds.
void read_both_ropes(Checkpoint& c, const Facts& f, const Base& full, const Base& window, Decoder& d) {
  const int64_t dim = d.attention.head_dim;
  d.ropes = {read_rope(c, f, "full_attention", full.theta, dim, full.partial),
             read_rope(c, f, "sliding_attention", window.theta, dim, window.partial)};
  for (Layer& layer : d.layers) layer.rope = layer.window ? 1 : 0;
}

void build_exaone_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kGguf);
  read_basics(f, d);
  norm_heads(d);
  name_routed_gguf(d.naming);
  d.naming.gguf["mlp.e_score_correction_bias"] = "exp_probs_b.bias";
  f.pass_over({"expert_shared_feed_forward_length"});  // the experts' width times their number
  read_sigmoid_experts(f, 1, d);
  d.experts.choice_bias = "e_score_correction_bias";
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 4, d.layers);
  if (f.has("sliding_window")) turn_in_windows(d);
  build_decoder(c, d, b);
}

// Norms behind both halves of a layer too, and a gate for what the heads give.
void build_afmoe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kGguf);
  name_routed_gguf(d.naming);
  for (const auto& [name, other] :
       std::map<std::string, std::string>{{"self_attn.gate_proj", "attn_gate"},
                                          {"post_attention_layernorm", "post_attention_norm"},
                                          {"pre_mlp_layernorm", "ffn_norm"},
                                          {"post_mlp_layernorm", "post_ffw_norm"},
                                          {"mlp.router.gate", "ffn_gate_inp"},
                                          {"mlp.expert_bias", "exp_probs_b.bias"}})
    d.naming.gguf[name] = other;
  read_basics(f, d);
  norm_heads(d);
  d.attn_post_norm = "post_attention_layernorm";
  d.ffn_norm = "pre_mlp_layernorm", d.ffn_post_norm = "post_mlp_layernorm";
  d.attention.gate = "gate_proj";
  if (f.boolean("mup_enabled", false)) d.embedding_scale = float(std::sqrt(double(d.hidden)));
  f.expect("score_func", "sigmoid");
  f.expect("route_norm", true);
  f.pass_over({"load_balance_coeff", "use_grouped_mm", "num_expert_groups", "num_limited_groups"});
  for (const char* key : {"num_expert_groups", "num_limited_groups"}) f.expect(key, 1);
  read_sigmoid_experts(f, 1, d);
  Experts& e = d.experts;
  e.router = "router.gate", e.choice_bias = "expert_bias";
  e.route.scale = float(f.number("route_scale", 1));
  const int64_t dense = f.integer("num_dense_layers", 0, 4096, 1);
  for (size_t i = 0; i < d.layers.size(); ++i) d.layers[i].has_experts = int64_t(i) >= dense;
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_window_layers(f, f.integer("global_attn_every_n_layers", 1, 4096, 4), d.layers);
  turn_in_windows(d);
  build_decoder(c, d, b);
}

// Values narrower than keys; layers with a window have twice the heads of keys and values, and a sink for each head.
void build_mimo(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  d.naming.biases.erase("self_attn.o_proj");  // never has one
  d.attention.value_dim = f.integer("v_head_dim", 1, 65536, 128);
  d.attention.value_scale = f.is_null("attention_value_scale") ? 1 : f.number("attention_value_scale", 0.707);
  read_sigmoid_experts(f, 1, d);
  set_window_layers(f, 0, d.layers);
  if (!f.has("layer_types")) d.layers[0].window = 0;
  if (!f.has("layer_types"))
    for (size_t i = 5; i < d.layers.size(); i += 6) d.layers[i].window = 0;
  read_both_ropes(c, f, {5000000, 0.334}, {10000, 0.334}, d);
  d.own_attention = [&](size_t i, Attention& a) {
    if (d.layers[i].window == 0) return;
    a.kv_heads *= 2;
    a.sinks = "attention_sink_bias";
  };
  build_decoder(c, d, b);
}

// A softplus gates what the heads give; layers may differ in their number of heads.
void build_laguna(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  norm_heads(d);
  Attention& own = d.attention;
  own.gate = "g_proj";
  own.gate_activation = format::UnaryKind::softplus;
  const Json* gating = f.find("gating");
  own.gate_is_per_head = !gating || *gating == true || *gating == "per-head";
  if (!own.gate_is_per_head && *gating != "per-element")
    f.refuse("gating", "is not true, \"per-head\" or \"per-element\"");
  f.expect("moe_apply_router_weight_on_input", false);
  read_sigmoid_experts(f, 1, d);
  Experts& e = d.experts;
  e.choice_bias = "experts.e_score_correction_bias";
  e.route.eps = 0;
  e.route.renormalise = true;
  e.route.scale = float(f.number("moe_routed_scaling_factor", 1));
  e.router_softcap = f.number("moe_router_logit_softcapping", 0);
  add_shared_experts(f.integer("shared_expert_intermediate_size", 1, 1 << 30, 512), d, "mlp.shared_expert.");
  const std::vector<int64_t> heads = f.has("num_attention_heads_per_layer")
                                         ? f.integers("num_attention_heads_per_layer", d.layers.size(), 1, 65536)
                                         : std::vector<int64_t>(d.layers.size(), own.heads);
  if (f.has("layer_types")) set_window_layers(f, 0, d.layers);
  f.pass_over({"sliding_window"});
  read_both_ropes(c, f, {500000, 0.5}, {10000, 1}, d);
  d.own_attention = [&](size_t i, Attention& a) { a.heads = heads[i]; };
  build_decoder(c, d, b);
}

void build_mellum(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  norm_heads(d);
  read_experts(f, d);
  d.experts.route.renormalise = f.boolean("norm_topk_prob", true);
  set_sparse_layers(f, 0, d);
  if (f.has("layer_types")) set_window_layers(f, 0, d.layers);
  f.pass_over({"sliding_window"});
  read_both_ropes(c, f, {500000}, {10000}, d);
  build_decoder(c, d, b);
}

// A sink for each head; experts chosen by sigmoid scores alone.
void build_flint(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  norm_heads(d);
  d.attention.sinks = "softmax_offset";
  read_experts(f, d);
  d.experts.route.scoring = format::RouteScoring::sigmoid;
  d.experts.route.renormalise = f.boolean("norm_topk_prob", true);
  add_shared_experts(f.integer("shared_expert_intermediate_size", 1, 1 << 30, 1024), d, "mlp.shared_expert.");
  set_expert_layers(f, d);
  if (!f.has("mlp_only_layers"))
    for (size_t i = 0; i < 2 && i < d.layers.size(); ++i) d.layers[i].has_experts = false;
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
  if (!f.has("layer_types"))
    for (size_t i = 0; i < d.layers.size(); ++i)
      if (i < 2 || i % 4 == 1 || i + 1 == d.layers.size()) d.layers[i].window = 0;
  turn_in_windows(d);
  build_decoder(c, d, b);
}

// Norms behind both halves of a layer too; experts chosen by their logits and a bias, weighed by sigmoids.
void build_kolibri(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts given = config_facts(c);
  const int64_t lacking = given.integer("shared_expert_intermediate_size");  // of layers that it does not have
  const Facts f = given.with_defaults({{"intermediate_size", lacking}});
  read_basics(f, d);
  norm_heads(d);
  d.attn_post_norm = "post_attn_norm", d.ffn_post_norm = "post_ffn_norm";
  d.naming.renamed["mlp.gate.e_score_correction_bias"] = "moe.router.expert_bias";
  read_experts(f, d);
  Experts& e = d.experts;
  e.choice_bias = "gate.e_score_correction_bias";
  e.route.scoring = format::RouteScoring::sigmoid;
  e.route.select_first = true;
  e.route.renormalise = f.boolean("norm_topk_prob", false);
  add_shared_experts(d.ffn.width, d);
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 5, d.layers);
  if (f.has("sliding_window")) turn_in_windows(d);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe kolibri_recipe;
const Recipe kolibri_recipe = {"kolibri1", {}, {"kolibri1"}, build_kolibri};

extern const Recipe exaone_moe_recipe, afmoe_recipe, mimo_recipe, laguna_recipe, mellum_recipe, flint_recipe;
const Recipe exaone_moe_recipe = {"exaone_moe", {"exaone-moe"}, {"exaone_moe"}, build_exaone_moe};
const Recipe afmoe_recipe = {"afmoe", {"afmoe"}, {"afmoe"}, build_afmoe};
const Recipe mimo_recipe = {"mimo_v2_flash", {}, {"mimo_v2_flash"}, build_mimo};
const Recipe laguna_recipe = {"laguna", {}, {"laguna"}, build_laguna};
const Recipe mellum_recipe = {"mellum", {}, {"mellum"}, build_mellum};
const Recipe flint_recipe = {"flint", {}, {"flint"}, build_flint};

}  // namespace runnel::convert
