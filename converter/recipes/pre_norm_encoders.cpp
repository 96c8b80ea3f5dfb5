// BERTs whose norms stand before the halves of a layer: Megatron-BERT, XLM-RoBERTa XL, RoBERTa-PreLayerNorm.
#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void build_megatron_bert(Checkpoint& c, ModelBuilder& b) {
  Encoder e = bert_like(source_facts(c), "bert.");
  e.is_pre_norm = true;
  e.embedding_norm.clear();
  e.attn_norm = "attention.ln", e.ffn_norm = "ln", e.last_norm = "encoder.ln";
  build_encoder(c, e, b);
}

void build_xlm_roberta_xl(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_defaults({{"layer_norm_eps", 1e-5}});
  Encoder e = bert_like(f, "roberta.");
  as_roberta(f, e);
  e.is_pre_norm = true;
  e.embedding_norm.clear();
  e.attn_norm = "attention.self_attn_layer_norm", e.ffn_norm = "LayerNorm", e.last_norm = "encoder.LayerNorm";
  build_encoder(c, e, b);
}

void build_roberta_prelayernorm(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "roberta_prelayernorm.");
  as_roberta(f, e);
  e.is_pre_norm = true;
  e.attn_norm = "attention.LayerNorm", e.ffn_norm = "intermediate.LayerNorm", e.last_norm = "LayerNorm";
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe megatron_bert_recipe;
const Recipe megatron_bert_recipe = {"megatron-bert", {}, {"megatron-bert"}, build_megatron_bert};
extern const Recipe xlm_roberta_xl_recipe;
const Recipe xlm_roberta_xl_recipe = {"xlm-roberta-xl", {}, {"xlm-roberta-xl"}, build_xlm_roberta_xl};
extern const Recipe roberta_prelayernorm_recipe;
const Recipe roberta_prelayernorm_recipe = {
    "roberta-prelayernorm", {}, {"roberta-prelayernorm"}, build_roberta_prelayernorm};

}  // namespace runnel::convert
