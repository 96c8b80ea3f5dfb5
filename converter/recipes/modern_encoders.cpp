// Encoders whose norms stand before the halves of a layer: ModernBERT with local and global layers, EuroBERT.
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

constexpr double kGlobalBase = 160000, kLocalBase = 10000;

const GgufForm kForm = {{{"sliding_window", ""},  // it reaches to both sides
                         {"local_attention", "attention.sliding_window"},
                         {"global_attn_every_n_layers", "attention.sliding_window_pattern"},
                         {"norm_eps", "attention.layer_norm_epsilon"}},
                        {}};
const std::map<std::string, std::string> kNames = {{"embeddings.tok_embeddings", "token_embd"},
                                                   {"embeddings.norm", "token_embd_norm"},
                                                   {"final_norm", "output_norm"},
                                                   {"attn_norm", "attn_norm"},
                                                   {"attn.Wqkv", "attn_qkv"},
                                                   {"attn.Wo", "attn_output"},
                                                   {"mlp_norm", "ffn_norm"},
                                                   {"mlp.Wi", "ffn_up"},
                                                   {"mlp.Wo", "ffn_down"}};

Pool pool_of(const Facts& f, const std::string& otherwise) {
  static const std::map<std::string, Pool> kPools = {
      {"cls", Pool::kFirst}, {"bos", Pool::kFirst}, {"mean", Pool::kMean}, {"late", Pool::kLate}};
  const auto found = kPools.find(f.text("classifier_pooling", otherwise));
  if (found == kPools.end()) f.refuse("classifier_pooling", "is a pooling that is not supported");
  return found->second;
}

// The older keys stand for rope_parameters, layer_types and layer_norm_eps.
Facts modern_facts(const Facts& own) {
  Json plain = own.tree();
  const auto base = [&](const char* key, double otherwise) { return own.number(key, otherwise); };
  const double global = base("global_rope_theta", kGlobalBase), local = base("local_rope_theta", kLocalBase);
  Json& rope = plain["rope_parameters"];
  if (rope.is_null()) rope = Json::object();
  for (const auto& [type, theta] : {std::pair("full_attention", global), std::pair("sliding_attention", local)}) {
    if (rope.value(type, Json()).is_null()) rope[type] = {{"rope_type", "default"}};
    if (!rope[type].contains("rope_theta")) rope[type]["rope_theta"] = theta;
  }
  const int64_t every = own.integer("global_attn_every_n_layers", 1, 4096, 3);
  if (!own.has("layer_types")) {
    Json types = Json::array();
    for (int64_t i = 0; i < own.integer("num_hidden_layers", 1, 4096, 22); ++i)
      types.push_back(i % every ? "sliding_attention" : "full_attention");
    plain["layer_types"] = types;
  }
  plain["layer_norm_eps"] = own.number("norm_eps", own.number("rms_norm_eps", 1e-5));  // of a GGUF one of both
  plain["type_vocab_size"] = 0;
  plain["hidden_act"] = own.text("hidden_activation", "gelu");
  return own.with(plain);
}

void build_modernbert(Checkpoint& c, ModelBuilder& b) {
  const Facts own = source_facts(c, kForm), f = modern_facts(own);
  f.pass_over({"hidden_activation", "reference_compile", "deterministic_flash_attn", "sparse_prediction",
               "sparse_pred_ignore_index", "repad_logits_with_grad", "norm_bias", "decoder_bias", "classifier_bias",
               "mlp_bias", "attention_bias"});
  Encoder e = bert_like(f, "model.");
  e.naming = {"model.", "layers.", kNames};
  e.words = "embeddings.tok_embeddings", e.embedding_norm = "embeddings.norm", e.positions.clear();
  e.is_pre_norm = true;
  e.attn_norm = "attn_norm", e.ffn_norm = "mlp_norm", e.last_norm = "final_norm";
  e.attention = {.prefix = "attn.",
                 .o = "Wo",
                 .heads = e.attention.heads,
                 .kv_heads = e.attention.heads,
                 .head_dim = e.attention.head_dim,
                 .scale = e.attention.scale,
                 .qkv = "Wqkv"};
  e.ffn = {"mlp.", "Wi", "Wi", "Wo", e.ffn.width, e.ffn.activation, "Wi"};
  const int64_t window = f.integer("local_attention", 2, 1 << 30, 128);
  const std::vector<std::string> types = layer_types(f, e.layers.size(), "full_attention");
  e.ropes = {read_rope(c, f, "full_attention", kGlobalBase, e.attention.head_dim),
             read_rope(c, f, "sliding_attention", kLocalBase, e.attention.head_dim)};
  for (size_t i = 0; i < types.size(); ++i) {
    const bool is_local = types[i] == "sliding_attention";
    e.layers[i].rope = is_local;
    e.layers[i].window = is_local ? window / 2 + 1 : 0;
  }
  const format::UnaryKind activation = activation_named(f, "classifier_activation", "gelu");
  e.pooler = {};
  e.masked_lm = {"/head.dense", "/head.norm", "/decoder", activation};
  e.tokens = e.answers = e.sequence = {"/head.dense", "/head.norm", "/classifier", activation};
  e.sequence.pool = pool_of(f, "cls");
  build_encoder(c, e, b);
}

void build_eurobert(Checkpoint& c, ModelBuilder& b) {
  const Facts own = source_facts(c);
  const Facts f = own.with_values({{"layer_norm_eps", own.number("rms_norm_eps", 1e-5)}, {"type_vocab_size", 0}})
                      .with_defaults({{"hidden_act", "silu"}, {"tie_word_embeddings", false}});
  Encoder e = bert_like(f, "model.");
  e.naming = {"model.", "layers.", {}};
  read_biases(f, e.naming);
  e.words = "embed_tokens", e.embedding_norm.clear(), e.positions.clear();
  e.is_rms = e.is_pre_norm = true;
  e.attn_norm = "input_layernorm", e.ffn_norm = "post_attention_layernorm", e.last_norm = "norm";
  e.attention = {.heads = e.attention.heads,
                 .kv_heads = f.integer("num_key_value_heads", 1, 65536, e.attention.heads),
                 .head_dim = e.attention.head_dim,
                 .scale = e.attention.scale};
  e.ffn = {"mlp.", "gate_proj", "up_proj", "down_proj", e.ffn.width, e.ffn.activation, ""};
  e.ropes = {read_rope(c, f, "", 250000, e.attention.head_dim)};
  for (EncoderLayer& layer : e.layers) layer.rope = 0;
  e.pooler = {};
  e.masked_lm = {"", "", "/lm_head", format::UnaryKind::none};
  e.sequence = {"/dense", "", "/classifier", format::UnaryKind::gelu, pool_of(f, "late")};
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe modernbert_recipe;
const Recipe modernbert_recipe = {"modernbert", {"modern-bert"}, {"modernbert"}, build_modernbert};
extern const Recipe eurobert_recipe;
const Recipe eurobert_recipe = {"eurobert", {}, {"eurobert"}, build_eurobert};

}  // namespace runnel::convert
