// BERT and those that differ from it in names, heads or the table of positions: RoBERTa and its kin, ELECTRA, ERNIE.
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

void build_bert(Checkpoint& c, ModelBuilder& b) {
  name_norms(c);
  const Facts f = source_facts(c);
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
