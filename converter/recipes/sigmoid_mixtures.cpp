// Mixtures of experts in layers that see everything: dots.llm1, GLM 4.5, Solar Open, Hunyuan 3 and MiniMax-M2, routed
// by sigmoid scores as DeepSeek-V3 is, and ERNIE 4.5 by a softmax.
#include <algorithm>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

void build_with_rope(Checkpoint& c, const Facts& f, double base, double partial, Decoder& d, ModelBuilder& b) {
  d.ropes.push_back(read_rope(c, f, "", base, d.attention.head_dim, partial));
  build_decoder(c, d, b);
}

// From layer max_window_layers on with a window.
void build_dots1(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  norm_heads(d);
  read_sigmoid_experts(f, 0, d);
  const int64_t first = f.integer("max_window_layers", 0, 4096, 62);
  set_window_layers(f, 0, d.layers);
  if (!f.has("layer_types"))
    for (size_t i = 0; i < d.layers.size() && int64_t(i) < first; ++i) d.layers[i].window = 0;
  build_with_rope(c, f, 10000, 1, d, b);
}

void build_glm4_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  d.naming.biases.erase("self_attn.o_proj");  // never has one
  if (f.boolean("use_qk_norm", false)) norm_heads(d);
  read_sigmoid_experts(f, 1, d);
  build_with_rope(c, f, 10000, 0.5, d, b);
}

void build_solar_open(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  d.naming.biases.erase("self_attn.o_proj");  // never has one
  set_head_dim(f, 128, d);
  f.expect("use_qk_norm", false);
  f.pass_over({"intermediate_size"});  // of layers that it does not have
  read_sigmoid_experts(f, 0, d);
  build_with_rope(c, f, 1000000, 1, d, b);
}

void build_hy_v3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  norm_heads(d);
  f.pass_over({"enable_moe_fp32_combine"});  // in which precision sums are taken
  read_sigmoid_experts(f, 1, d);
  Experts& e = d.experts;
  e.router = "router.gate", e.choice_bias = "expert_bias";
  e.route.scale = float(f.number("router_scaling_factor", 2.826));
  d.shared.prefix = "mlp.shared_mlp.";
  build_with_rope(c, f, 11158840, 1, d, b);
}

// One norm over all queries of a token, one over all keys.
void build_minimax_m2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  set_head_dim(f, 128, d);
  norm_heads(d);
  d.attention.norm_is_whole = true;
  for (const char* key : {"use_qk_norm", "use_routing_bias"}) f.expect(key, true);
  f.expect("qk_norm_type", "per_layer");
  f.expect("shared_intermediate_size", 0);
  f.pass_over({"use_mtp", "mlp_intermediate_size"});
  if (const Json* types = f.find("attn_type_list"))
    for (const Json& type : *types)
      if (type != 1) f.refuse("attn_type_list", "holds another kind of attention than 1, softmax");
  read_sigmoid_experts(f, 0, d);
  Experts& e = d.experts;
  e.prefix = "block_sparse_moe.";
  e.choice_bias = "e_score_correction_bias";
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  e.route.eps = 0;
  const double partial = double(f.integer("rotary_dim", 2, d.attention.head_dim, d.attention.head_dim));
  build_with_rope(c, f, 5000000, partial / double(d.attention.head_dim), d, b);
}

// The choice is by softmax scores and a bias.
void build_ernie_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.attention.is_interleaved = true;
  expect_biases(f, "use_bias", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, d.naming);
  f.pass_over({"moe_norm_min"});  // below what a sum of shares can be
  Experts& e = d.experts;
  e.count = f.integer("moe_num_experts", 1, 65536);
  e.chosen = f.integer("moe_k", 1, e.count);
  e.width = f.integer("moe_intermediate_size");
  e.choice_bias = "moe_statics.e_score_correction_bias";
  e.activation = d.ffn.activation;
  e.route.renormalise = true;
  add_shared_experts(e.width * f.integer("moe_num_shared_experts", 0, 65536, 0), d);
  const int64_t step = f.integer("moe_layer_interval", 1, 4096, 1),
                first = f.integer("moe_layer_start_index", 0, 4096, 0);
  int64_t last = f.integer("moe_layer_end_index", -1, 4096, -1);
  if (last < 0) last = int64_t(d.layers.size()) - 1;
  for (int64_t i = first; i <= std::min(last, int64_t(d.layers.size()) - 1); ++i)
    d.layers[size_t(i)].has_experts = (i + 1) % step == 0;
  build_with_rope(c, f, 500000, 1, d, b);
}

}  // namespace

extern const Recipe dots1_recipe, glm4_moe_recipe, solar_open_recipe, hy_v3_recipe, minimax_m2_recipe, ernie_moe_recipe;
const Recipe dots1_recipe = {"dots1", {}, {"dots1"}, build_dots1};
const Recipe glm4_moe_recipe = {"glm4_moe", {}, {"glm4_moe"}, build_glm4_moe};
const Recipe solar_open_recipe = {"solar_open", {}, {"solar_open"}, build_solar_open};
const Recipe hy_v3_recipe = {"hy_v3", {}, {"hy_v3"}, build_hy_v3};
const Recipe minimax_m2_recipe = {"minimax_m2", {}, {"minimax_m2"}, build_minimax_m2};
const Recipe ernie_moe_recipe = {"ernie4_5_moe", {}, {"ernie4_5_moe"}, build_ernie_moe};

}  // namespace runnel::convert
