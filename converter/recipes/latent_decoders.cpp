// Decoders with latent attention in every layer: DeepSeek-V2 and V3 and GLM 4.7 Flash with experts behind the first
// layers, Youtu-LLM without, MiniCPM 3 with constant factors.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

// Yarn's magnitude counts once more for the scores.
double yarn_scale(const Facts& f) {
  if (f.is_gguf()) {  // which holds a tenth of mscale_all_dim
    const double magnitude =
        yarn_magnitude(f.number("rope.scaling.factor", 1), 10 * f.number("rope.scaling.yarn_log_multiplier", 0));
    return magnitude * magnitude;
  }
  const auto how = rope_facts(f);
  if (!how) return 1;
  const double all = how->number("mscale_all_dim", 0);
  if (all == 0 || how->text(how->has("rope_type") ? "rope_type" : "type", "default") == "default") return 1;
  const double magnitude = yarn_magnitude(how->number("factor", 1), all);
  return magnitude * magnitude;
}

const GgufForm kGguf = {{{"head_dim", ""},
                         {"q_lora_rank", "attention.q_lora_rank"},
                         {"kv_lora_rank", "attention.kv_lora_rank"},
                         {"n_routed_experts", "expert_count"},
                         {"n_shared_experts", "expert_shared_count"},
                         {"first_k_dense_replace", "leading_dense_block_count"},
                         {"routed_scaling_factor", "expert_weights_scale"},
                         {"norm_topk_prob", "expert_weights_norm"},
                         {"n_group", "expert_group_count"},
                         {"topk_group", "expert_group_used_count"}},
                        {{"norm_topk_prob", false}}};

// A GGUF says how wide heads are in all, newer ones under keys of their own, and which part of them turns.
Facts latent_facts(Checkpoint& c) {
  const Facts f = source_facts(c, kGguf);
  if (!f.is_gguf()) return f;
  const char *key = "attention.key_length", *value = "attention.value_length";
  const bool is_new = f.has("attention.key_length_mla");
  f.pass_over({key, value});
  const int64_t width = f.integer(is_new ? "attention.key_length_mla" : key, 2, 65536),
                turning = f.integer("rope.dimension_count", 1, width - 1);
  Json plain = f.tree();
  plain["qk_rope_head_dim"] = turning;
  plain["qk_nope_head_dim"] = width - turning;
  const int64_t heads = f.integer("num_attention_heads", 1, 65536);
  if (f.has(value)) plain["v_head_dim"] = f.integer(is_new ? "attention.value_length_mla" : value, 1, 65536);
  else if (const SourceTensor* both = c.peek("blk.0.attn_kv_b.weight"))
    plain["v_head_dim"] = int64_t(both->shape[0]) / heads - (width - turning);
  plain.erase(value);
  plain.emplace("rope.scaling.original_context_length", f.integer("max_position_embeddings"));
  return f.with(std::move(plain));
}

void name_latent_gguf(Naming& n) {
  name_routed_gguf(n);
  n.gguf.insert({{"self_attn.q_a_proj", "attn_q_a"},
                 {"self_attn.q_a_layernorm", "attn_q_a_norm"},
                 {"self_attn.q_b_proj", "attn_q_b"},
                 {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
                 {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
                 {"self_attn.kv_b_proj", "attn_kv_b"},
                 {"self_attn.k_b_proj", "attn_k_b"},
                 {"self_attn.v_b_proj", "attn_v_b"}});
}

Facts read_latent_basics(Checkpoint& c, bool is_tied, Decoder& d) {
  const Facts f = latent_facts(c);
  read_basics(f, d);
  name_latent_gguf(d.naming);
  if (is_tied && !f.has("tie_word_embeddings")) d.is_tied = true;
  d.naming.biases.clear();
  expect_biases(f, "attention_bias", {"q_a_proj", "kv_a_proj_with_mqa", "o_proj"}, d.naming);
  expect_biases(f, "mlp_bias", {"gate_proj", "up_proj", "down_proj"}, d.naming);
  d.latent = read_latent(f);
  d.latent->scale *= yarn_scale(f);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.latent->turning));
  if (f.is_gguf() && f.text("rope.scaling.type", "") == "yarn") d.ropes[0].scale = 1;  // both magnitudes are the same
  return f;
}

// Neighbouring channels turn together, unless the configuration says otherwise.
void build_youtu(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, true, d);
  d.latent->is_interleaved = f.boolean("rope_interleave", true);
  build_decoder(c, d, b);
}

// DeepSeek-V2 chooses by softmax scores. A GGUF has one name for it and V3.
bool is_second(const Facts& f) {
  return f.is_gguf() ? f.has("n_routed_experts") && f.integer("expert_gating_func", 0, 16, 1) <= 1
                     : f.text("model_type", "") == "deepseek_v2";
}

void read_softmax_experts(const Facts& f, Decoder& d) {
  f.expect("scoring_func", "softmax");
  f.expect("norm_topk_prob", false);
  Experts& e = d.experts;
  e.count = f.integer("n_routed_experts");
  e.chosen = f.integer("num_experts_per_tok", 1, e.count);
  e.width = f.integer("moe_intermediate_size");
  e.activation = d.ffn.activation;
  e.route.scale = float(f.number("routed_scaling_factor", 1));
  const std::string method = f.text("topk_method", f.has("n_group") ? "group_limited_greedy" : "greedy");
  if (method != "greedy" && method != "group_limited_greedy")
    f.refuse("topk_method", "is \"" + printable(method) + "\"; greedy and group_limited_greedy are supported");
  f.pass_over({"n_group", "topk_group"});
  if (method != "greedy") {
    e.route.groups = uint32_t(f.integer("n_group", 1, 65536, 1));
    e.route.top_groups = uint32_t(f.integer("topk_group", 1, 65536, 1));
  }
  add_shared_experts(e.width * f.integer("n_shared_experts", 0, 65536, 0), d);
  set_sparse_layers(f, 0, d);
}

void build_deepseek(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, false, d);
  d.latent->is_interleaved = f.boolean("rope_interleave", true);
  f.expect("moe_layer_freq", 1);
  if (is_second(f)) read_softmax_experts(f, d);
  else if (f.has("n_routed_experts") || !f.is_gguf()) read_sigmoid_experts(f, 3, d);
  else f.pass_over({"moe_intermediate_size", "n_shared_experts", "first_k_dense_replace"});  // a GGUF of Youtu
  build_decoder(c, d, b);
}

void build_minicpm3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, true, d);
  d.embedding_scale = float(f.number("scale_emb", 12));
  d.residual_factor = float(f.number("scale_depth", 1.4) / std::sqrt(double(d.layers.size())));
  d.logit_factor = float(f.number("dim_model_base", 256) / double(d.hidden));
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe youtu_recipe, deepseek_recipe, minicpm3_recipe;
const Recipe youtu_recipe = {"youtu", {}, {"youtu"}, build_youtu};
const Recipe deepseek_recipe = {
    "deepseek", {"deepseek2"}, {"deepseek_v2", "deepseek_v3", "glm4_moe_lite"}, build_deepseek};
const Recipe minicpm3_recipe = {"minicpm3", {"minicpm3"}, {"minicpm3"}, build_minicpm3};

}  // namespace runnel::convert
