// Encoders with BERT's layers under other names or with other embeddings: DistilBERT, ALBERT, RemBERT.
#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void build_distilbert(Checkpoint& c, ModelBuilder& b) {
  const Facts own = source_facts(c);
  own.pass_over({"sinusoidal_pos_embds"});  // how the table of positions began
  const Facts f = own.renamed({{"dim", "hidden_size"},
                               {"hidden_dim", "intermediate_size"},
                               {"n_layers", "num_hidden_layers"},
                               {"n_heads", "num_attention_heads"},
                               {"activation", "hidden_act"}})
                      .with_values({{"type_vocab_size", 0}});
  Encoder e = bert_like(f, "distilbert.");
  e.naming.layer = "transformer.layer.";
  Attention& a = e.attention;
  a.q = "q_lin", a.k = "k_lin", a.v = "v_lin", a.o = "out_lin";
  e.attn_norm = "sa_layer_norm", e.ffn_norm = "output_layer_norm";
  e.ffn.up = "ffn.lin1", e.ffn.down = "ffn.lin2";
  e.pooler = {};
  e.masked_lm = {"/vocab_transform", "/vocab_layer_norm", "/vocab_projector", e.ffn.activation};
  e.sequence = {"/pre_classifier", "", "/classifier", format::UnaryKind::relu, Pool::kFirst};
  build_encoder(c, e, b);
}

// Layers of a group share their weights.
void build_albert(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "albert.");
  f.expect("inner_group_num", 1);
  const size_t layers = e.layers.size(), groups = size_t(f.integer("num_hidden_groups", 1, int64_t(layers), 1));
  for (size_t i = 0; i < layers; ++i) e.layers[i].number = size_t(double(i) / (double(layers) / double(groups)));
  e.embedding = f.integer("embedding_size", 1, 1 << 20, 128);
  e.projection = "encoder.embedding_hidden_mapping_in";
  e.naming.layer = "encoder.albert_layer_groups.";
  Attention& a = e.attention;
  a.prefix = "albert_layers.0.attention.";
  a.q = "query", a.k = "key", a.v = "value", a.o = "dense";
  e.attn_norm = "albert_layers.0.attention.LayerNorm", e.ffn_norm = "albert_layers.0.full_layer_layer_norm";
  e.ffn.prefix = "albert_layers.0.";
  e.ffn.up = "ffn", e.ffn.down = "ffn_output";
  e.pooler.dense = e.sequence.dense = "pooler";
  e.masked_lm = {"/predictions.dense", "/predictions.LayerNorm", "/predictions.decoder", e.ffn.activation,
                 Pool::kNone,          "/predictions.bias"};
  build_encoder(c, e, b);
}

void build_rembert(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "rembert.");
  e.embedding = f.integer("input_embedding_size", 1, 1 << 20, 256);
  f.pass_over({"output_embedding_size"});
  e.projection = "encoder.embedding_hidden_mapping_in";
  e.is_tied = false;
  e.masked_lm = {"/cls.predictions.dense", "/cls.predictions.LayerNorm", "/cls.predictions.decoder", e.ffn.activation};
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe distilbert_recipe;
const Recipe distilbert_recipe = {"distilbert", {}, {"distilbert"}, build_distilbert};
extern const Recipe albert_recipe;
const Recipe albert_recipe = {"albert", {}, {"albert"}, build_albert};
extern const Recipe rembert_recipe;
const Recipe rembert_recipe = {"rembert", {}, {"rembert"}, build_rembert};

}  // namespace runnel::convert
