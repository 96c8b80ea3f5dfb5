// BERT and those that differ from it in names, heads or the table of positions: RoBERTa and its kin, ELECTRA, ERNIE,
// and Jina's BERT (arXiv 2310.19923), whose scores fall with the distance and whose feed-forward is gated.
#include <bit>
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// llama.cpp's names.
const std::map<std::string, std::string> kNames = {{"embeddings.word_embeddings", "token_embd"},
                                                   {"embeddings.position_embeddings", "position_embd"},
                                                   {"embeddings.token_type_embeddings", "token_types"},
                                                   {"embeddings.LayerNorm", "token_embd_norm"},
                                                   {"attention.self.query", "attn_q"},
                                                   {"attention.self.key", "attn_k"},
                                                   {"attention.self.value", "attn_v"},
                                                   {"attention.output.dense", "attn_output"},
                                                   {"attention.output.LayerNorm", "attn_output_norm"},
                                                   {"intermediate.dense", "ffn_up"},
                                                   {"output.dense", "ffn_down"},
                                                   {"output.LayerNorm", "layer_output_norm"}};

// The first releases call the parts of a norm gamma and beta.
void name_norms(Checkpoint& c) {
  const std::pair<const char*, const char*> kNewer[] = {{"LayerNorm.gamma", "weight"}, {"LayerNorm.beta", "bias"}};
  std::vector<std::pair<std::string, std::string>> renamed;
  for (const SourceTensor& t : c.tensors())
    for (const auto& [older, newer] : kNewer)
      if (t.name.ends_with(older)) renamed.push_back({t.name, t.name.substr(0, t.name.rfind('.') + 1) + newer});
  for (const auto& [older, newer] : renamed) {
    SourceTensor t = *c.find(older);
    t.name = newer;
    c.add(t, c.path.string());
  }
}

// ALiBi (arXiv 2108.12409): a head's score falls by this for each place between the tokens.
std::vector<float> slopes_of(int64_t heads) {
  const auto power = [](int64_t n, int64_t i) { return float(std::exp2(-8.0 / double(n) * double(i + 1))); };
  const int64_t whole = int64_t(std::bit_floor(uint64_t(heads)));
  std::vector<float> out;
  for (int64_t h = 0; h < heads; ++h) out.push_back(h < whole ? power(whole, h) : power(2 * whole, 2 * (h - whole)));
  return out;
}

// [heads, T, T].
Var falling_scores(Net& net, int64_t heads) {
  using format::BinaryKind;
  std::vector<float> slopes = slopes_of(heads);
  for (float& v : slopes) v = -v;
  const Var places = net.float_positions(), query = net.op("reshape", {places.name}, "T 1", {}),
            key = net.op("reshape", {places.name}, "1 T", {});
  const Var forth = arithmetic(net, BinaryKind::sub, query, key, "T T"),
            back = arithmetic(net, BinaryKind::sub, key, query, "T T");
  const Var slope = {net.constant("/slopes", slopes, {heads, 1, 1}), "", {heads, 1, 1}};
  return arithmetic(net, BinaryKind::mul, slope, arithmetic(net, BinaryKind::max, forth, back, "T T"),
                    std::to_string(heads) + " T T");
}

// Of both releases of the code: the later one has norms on queries and keys.
void build_jina(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_values({{"position_embedding_type", "absolute"}});
  Encoder e = bert_like(f, "bert.");
  f.pass_over({"emb_pooler", "attn_implementation"});  // beside the model; how it is computed
  e.positions.clear();
  e.score_bias = [&](Net& net) { return falling_scores(net, e.attention.heads); };
  const std::string kind = f.text("feed_forward_type", "original");
  if (kind != "geglu" && kind != "reglu")
    f.refuse("feed_forward_type", "is \"" + printable(kind) + "\", which is not supported");
  e.ffn.activation = kind == "geglu" ? format::UnaryKind::gelu : format::UnaryKind::relu;
  e.ffn.is_gated = true;
  const std::string norm = "attention.self.layer_norm_q.weight", first = e.naming.layer + "0.";
  if (c.has(e.naming.root + first + norm) || c.has(first + norm)) {
    Attention& a = e.attention;
    a.q_norm = "self.layer_norm_q", a.k_norm = "self.layer_norm_k";
    a.norm_is_layer = a.norm_is_whole = true, a.eps = e.eps;
    e.mixed_norm = e.attn_norm, e.attn_norm = "layer_norm_1", e.ffn_norm = "layer_norm_2";
    e.ffn.gate_up = "mlp.up_gated_layer", e.ffn.down = "mlp.down_layer", e.ffn.is_up_first = true;
  } else {
    e.ffn.gate_up = "mlp.gated_layers", e.ffn.down = "mlp.wo", e.ffn_norm = "mlp.layernorm";
  }
  build_encoder(c, e, b);
}

void build_bert(Checkpoint& c, ModelBuilder& b) {
  name_norms(c);
  const Facts f = source_facts(c);
  if (f.text("position_embedding_type", "absolute") == "alibi") return build_jina(c, b);
  Encoder e = bert_like(f, "bert.");
  e.naming.gguf = kNames;
  build_encoder(c, e, b);
}

void build_roberta(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, f.text("model_type", "") == "data2vec-text" ? "data2vec_text." : "roberta.");
  as_roberta(f, e);
  build_encoder(c, e, b);
}

void build_electra(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "electra.");
  e.embedding = f.integer("embedding_size", 1, 1 << 20, 128);
  if (e.embedding != e.hidden) e.projection = "embeddings_project";
  e.pooler = {};
  e.masked_lm = {"/generator_predictions.dense", "/generator_predictions.LayerNorm", "/generator_lm_head",
                 format::UnaryKind::gelu};
  e.sequence = {"/classifier.dense", "", "/classifier.out_proj", format::UnaryKind::gelu, Pool::kFirst};
  e.discriminator = {"/discriminator_predictions.dense", "", "/discriminator_predictions.dense_prediction",
                     e.ffn.activation};
  build_encoder(c, e, b);
}

void build_ernie(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  if (f.boolean("use_task_id", false)) f.refuse("use_task_id", "is true, which is not supported");
  f.pass_over({"task_type_vocab_size"});
  build_encoder(c, bert_like(f, "ernie."), b);
}

}  // namespace

extern const Recipe bert_recipe;
const Recipe bert_recipe = {"bert", {"bert"}, {"bert"}, build_bert};
extern const Recipe roberta_recipe;
const Recipe roberta_recipe = {"roberta", {}, {"roberta", "xlm-roberta", "camembert", "data2vec-text"}, build_roberta};
extern const Recipe electra_recipe;
const Recipe electra_recipe = {"electra", {}, {"electra"}, build_electra};
extern const Recipe ernie_encoder_recipe;
const Recipe ernie_encoder_recipe = {"ernie", {}, {"ernie"}, build_ernie};

}  // namespace runnel::convert
