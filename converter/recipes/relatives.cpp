// Near relatives of Llama, each as its differences: Gemma 1, GLM 4 (both forms), Helium, ERNIE 4.5, Seed-OSS, Arcee,
// HunYuan, InternLM 3, nanochat; and with layer norms OLMo 1, Nemotron, StableLM, Phi 1 and 2, Cohere 1, Jais 2.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

// Where the configuration leaves something out.
struct Defaults {
  double base = 10000, partial = 1;
  bool is_tied = false;
  int64_t head_dim = 0;  // 0: the width over the heads
};

void drop_gate(const Facts& f, const char* activation, Decoder& d) {
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", activation);
}

void build_plain(Checkpoint& c, const Facts& f, const Defaults& o, Decoder& d, ModelBuilder& b) {
  if (o.is_tied) d.is_tied = f.boolean("tie_word_embeddings", true);
  if (o.head_dim) set_head_dim(f, o.head_dim, d);
  if (d.ropes.empty()) d.ropes.push_back(read_rope(c, f, "", o.base, d.attention.head_dim, o.partial));
  set_window_layers(f, 0, d.layers);
  build_decoder(c, d, b);
}

void build_gemma(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  if (f.boolean("use_bidirectional_attention", false))
    f.refuse("use_bidirectional_attention", "is true: encoders are not supported");
  // The first releases say "gelu" and mean the tanh form.
  const std::string key = f.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  f.pass_over({"hidden_activation", "hidden_act"});
  d.ffn.activation = f.text(key, "gelu") == "gelu" ? format::UnaryKind::gelu_tanh : activation_named(f, key, "");
  d.norm_offset = 1;
  d.embedding_scale = float(std::sqrt(double(d.hidden)));
  build_plain(c, f, {10000, 1, true, 256}, d, b);
}

// GLM 4: neighbouring channels turn together; "glm4" has norms behind both halves of a layer too. ChatGLM's GGUF may
// have q, k and v in one.
void build_glm(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = text_facts(c, d.naming, {{"tie_word_embeddings", false}});
  read_basics(f, d);
  d.attention.is_interleaved = true;
  d.ffn.gate_up = "gate_up_proj";
  d.attention.qkv = "qkv_proj";
  d.naming.biases.erase("self_attn.o_proj");  // never has one
  d.naming.gguf.insert({{"self_attn.qkv_proj", "attn_qkv"},
                        {"mlp.gate_up_proj", "ffn_up"},
                        {"post_self_attn_layernorm", "post_attention_norm"},
                        {"post_mlp_layernorm", "post_ffw_norm"}});
  const std::string type = f.text("model_type", "");
  const bool sees = type.rfind("glm4v", 0) == 0;  // GLM-4V's text is a glm4
  if (type == "glm4" || sees) d.attn_post_norm = "post_self_attn_layernorm", d.ffn_post_norm = "post_mlp_layernorm";
  build_plain(c, f, {10000, 0.5, false, sees ? 0 : 128}, d, b);
}

void build_interleaved(Checkpoint& c, const Defaults& o, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.attention.is_interleaved = true;
  d.naming.biases.erase("self_attn.o_proj");  // never has one in Helium
  expect_biases(f, "use_bias", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, d.naming);
  build_plain(c, f, o, d, b);
}
void build_helium(Checkpoint& c, ModelBuilder& b) { build_interleaved(c, {100000, 1, false, 128}, b); }
void build_ernie(Checkpoint& c, ModelBuilder& b) { build_interleaved(c, {500000, 1, true, 128}, b); }

void build_seed_oss(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.naming.gguf["post_attention_layernorm"] = "post_attention_norm";
  d.naming.biases.erase("self_attn.o_proj");  // has a switch of its own
  expect_biases(f, "attention_out_bias", {"o_proj"}, d.naming);
  expect_biases(f, "qkv_bias", {"q_proj", "k_proj", "v_proj"}, d.naming);  // InternLM 3
  expect_biases(f, "bias", {"o_proj", "gate_proj", "up_proj", "down_proj"}, d.naming);
  build_plain(c, f, {10000, 1, false, 128}, d, b);
}

// A GGUF's rows of q and k are reordered for neighbouring pairs, as Llama's.
const GgufForm kNeighbours = {{}, {{"gguf.has_neighbours", true}}};

void build_arcee(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kNeighbours);
  read_basics(f, d);
  drop_gate(f, "relu2", d);
  build_plain(c, f, {}, d, b);
}

// HunYuan-A13B: experts in every layer, beside a feed-forward for every token.
void read_hunyuan_experts(const Facts& f, Decoder& d) {
  if (f.text("model_type", "") != "hunyuan_v1_moe") return;
  f.expect("use_mixed_mlp_moe", true);
  f.pass_over({"moe_drop_tokens", "moe_layer_num_skipped", "moe_random_routing_dropped_token", "num_shared_expert"});
  Experts& e = d.experts;
  e.count = f.integer("num_experts", 1, 65536);
  e.chosen = f.integers("moe_topk", d.layers.size(), 1, e.count)[0];
  e.width =
      f.integers(f.has("moe_intermediate_size") ? "moe_intermediate_size" : "intermediate_size", d.layers.size())[0];
  e.router = "gate.wg";
  e.activation = d.ffn.activation;
  e.route.renormalise = true;
  d.shared = d.ffn;
  d.shared.prefix = "mlp.shared_mlp.";
  for (Layer& layer : d.layers) layer.has_experts = true;
}

// Norms of queries and keys behind the rotation.
void build_hunyuan(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.attention.q_norm = "query_layernorm", d.attention.k_norm = "key_layernorm";
  d.attention.norm_is_late = true;
  f.expect("use_qk_norm", true);
  f.expect("use_cla", false);
  f.expect("norm_type", "rms");
  f.pass_over({"add_classification_head", "attention_head_dim", "cla_share_factor", "class_num", "dense_list",
               "enable_lm_head_fp32", "org_vocab_size", "pool_type", "use_rotary_pos_emb"});
  read_hunyuan_experts(f, d);
  d.naming.gguf.insert({{"self_attn.query_layernorm", "attn_q_norm"}, {"self_attn.key_layernorm", "attn_k_norm"}});
  build_plain(c, f, {}, d, b);
}

// Layer norms, a feed-forward without a gate.
void build_jais2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.eps = f.number("layer_norm_eps", 1e-5);
  drop_gate(f, "relu2", d);
  build_plain(c, f, {}, d, b);
}

// No norm has a weight, one more stands behind the embedding, those of queries and keys behind a rotation that turns
// the other way.
void build_nanochat(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.norms_have_weights = d.attention.norms_have_weights = false;
  d.has_embedding_norm = true;
  norm_heads(d);
  d.attention.norm_is_late = true;
  drop_gate(f, "relu2", d);
  d.ffn.up = "fc1", d.ffn.down = "fc2";
  const char* softcap = "final_logit_softcapping";
  d.output_softcap = float(f.is_null(softcap) ? 0 : f.number(softcap, 15));
  Rope rope = config_rope(f, "", 10000, d.attention.head_dim);
  for (std::vector<float>* list : {&rope.frequencies, &rope.long_frequencies})
    for (float& frequency : *list) frequency = -frequency;
  d.ropes.push_back(rope);
  build_plain(c, f, {}, d, b);
}

// Layer norms without weights; rows of q and k as Arcee's.
void build_olmo1(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kNeighbours);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.norms_have_weights = false;
  d.eps = 1e-5;
  d.attention.clip = f.number("clip_qkv", 0);
  build_plain(c, f, {}, d, b);
}

// Layer norms whose weights count from 1, a feed-forward without a gate.
void build_nemotron(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.norm_offset = 1;
  drop_gate(f, "relu2", d);
  build_plain(c, f, {10000, 0.5}, d, b);
}

void build_stablelm(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  if (f.boolean("qk_layernorm", false))
    f.refuse("qk_layernorm", "is true: norms of their own for each head are not supported");
  d.is_layer_norm = true;
  d.is_parallel = f.boolean("use_parallel_residual", false);
  if (d.is_parallel) d.ffn_norm = nullptr;
  expect_biases(f, "use_qkv_bias", {"q_proj", "k_proj", "v_proj"}, d.naming);
  build_plain(c, f, {10000, 0.25}, d, b);
}

void build_phi(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  if (f.boolean("qk_layernorm", false))
    f.refuse("qk_layernorm", "is true: layer norms of queries and keys are not supported");
  d.is_layer_norm = d.is_parallel = true;
  d.ffn_norm = nullptr;
  d.last_norm = "final_layernorm";
  d.attention.o = "dense";
  drop_gate(f, "gelu_new", d);
  d.ffn.up = "fc1", d.ffn.down = "fc2";
  d.naming.gguf.insert({{"final_layernorm", "output_norm"},
                        {"self_attn.dense", "attn_output"},
                        {"mlp.fc1", "ffn_up"},
                        {"mlp.fc2", "ffn_down"}});
  build_plain(c, f, {10000, 0.5}, d, b);
}

// Both halves of a layer see the same normed input; queries and keys may have layer norms.
void build_cohere(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.is_layer_norm = d.is_parallel = true;
  d.ffn_norm = nullptr;
  d.attention.is_interleaved = true;
  if (f.boolean("use_qk_norm", c.has("blk.0.attn_q_norm.weight")))
    d.attention.q_norm = "q_norm", d.attention.k_norm = "k_norm", d.attention.norm_is_layer = true;
  d.logit_factor = float(f.number("logit_scale", 0.0625));
  build_plain(c, f, {500000, 1, true}, d, b);
}

}  // namespace

extern const Recipe gemma_recipe, glm_recipe, helium_recipe, ernie_recipe, seed_oss_recipe, arcee_recipe,
    hunyuan_recipe, olmo1_recipe, nemotron_recipe, stablelm_recipe, phi_recipe, cohere_recipe, jais2_recipe,
    nanochat_recipe;
const Recipe gemma_recipe = {"gemma", {"gemma"}, {"gemma"}, build_gemma};
const Recipe glm_recipe = {"glm", {"glm4", "chatglm"}, {"glm", "glm4", "glm4v", "glm4v_text"}, build_glm};
const Recipe helium_recipe = {"helium", {}, {"helium"}, build_helium};
const Recipe ernie_recipe = {"ernie4_5", {"ernie4_5"}, {"ernie4_5"}, build_ernie};
const Recipe seed_oss_recipe = {"seed_oss", {"seed_oss"}, {"seed_oss", "internlm3"}, build_seed_oss};
const Recipe arcee_recipe = {"arcee", {"arcee"}, {"arcee"}, build_arcee};
const Recipe hunyuan_recipe = {"hunyuan", {"hunyuan-dense"}, {"hunyuan_v1_dense", "hunyuan_v1_moe"}, build_hunyuan};
const Recipe olmo1_recipe = {"olmo1", {"olmo"}, {"olmo"}, build_olmo1};
const Recipe nemotron_recipe = {"nemotron", {"nemotron"}, {"nemotron"}, build_nemotron};
const Recipe stablelm_recipe = {"stablelm", {"stablelm"}, {"stablelm"}, build_stablelm};
const Recipe phi_recipe = {"phi", {"phi2"}, {"phi"}, build_phi};
const Recipe jais2_recipe = {"jais2", {"jais2"}, {"jais2"}, build_jais2};
const Recipe nanochat_recipe = {"nanochat", {}, {"nanochat"}, build_nanochat};
const Recipe cohere_recipe = {"cohere", {"command-r"}, {"cohere"}, build_cohere};

}  // namespace runnel::convert
