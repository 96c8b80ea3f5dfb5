// Encoders with BERT's order of norms and rotary positions in the place of a table: RoFormer (arXiv 2104.09864), Nomic,
// GTE, Jina v3.
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/weights/encode.h"

namespace runnel::convert {
namespace {

// BERT without the table of positions: rotary ones, and the matrices of q, k and v in one.
Encoder rotary(Checkpoint& c, const Facts& f, const std::string& root, double base) {
  Encoder e = bert_like(f, root);
  e.naming.layer = "encoder.layers.";
  e.positions.clear();
  e.embedding_norm = "emb_ln", e.attn_norm = "norm1", e.ffn_norm = "norm2";
  e.attention = {.o = "out_proj",
                 .heads = e.attention.heads,
                 .kv_heads = e.attention.heads,
                 .head_dim = e.attention.head_dim,
                 .scale = e.attention.scale,
                 .qkv = "Wqkv"};
  e.ffn.prefix = "mlp.";
  e.ropes = {read_rope(c, f, "", base, e.attention.head_dim)};
  for (EncoderLayer& layer : e.layers) layer.rope = 0;
  return e;
}

// Files hold the sines and cosines; angles that a model has learned are none of rotary positions.
void expect_sinusoids(Checkpoint& c, const std::string& name, int64_t dims) {
  const SourceTensor* t = c.find(name);
  if (!t) return;
  const std::vector<float> frequencies = rope_frequencies(10000, dims);
  if (t->shape.size() != 2 || t->shape[1] != uint64_t(dims))
    fail("%s: tensor \"%s\" has not %lld columns", c.path.c_str(), name.c_str(), static_cast<long long>(dims));
  std::vector<float> row(static_cast<size_t>(dims));
  for (uint64_t i = 0; i < t->shape[0]; ++i) {
    decode_values(*t, i * uint64_t(dims), uint64_t(dims), row.data());
    for (size_t k = 0; k < frequencies.size(); ++k) {
      const double angle = double(i) * double(frequencies[k]);
      if (!(std::abs(row[k] - std::sin(angle)) < 0.01) ||
          !(std::abs(row[k + frequencies.size()] - std::cos(angle)) < 0.01))
        fail("%s: tensor \"%s\" holds other numbers than the sines and cosines of rotary positions", c.path.c_str(),
             name.c_str());
    }
  }
}

void build_roformer(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "roformer.");
  f.expect("rotary_value", false);
  e.positions.clear();
  for (const char* root : {"", "roformer."})
    expect_sinusoids(c, std::string(root) + "encoder.embed_positions.weight", e.attention.head_dim);
  c.ignore_containing("encoder.embed_positions.");
  e.embedding = f.integer("embedding_size", 1, 1 << 20, e.hidden);
  if (e.embedding != e.hidden) e.projection = "embeddings_project";
  e.attention.is_interleaved = true;
  e.ropes = {{rope_frequencies(10000, e.attention.head_dim)}};
  for (EncoderLayer& layer : e.layers) layer.rope = 0;
  e.pooler = {};
  e.sequence = {"/classifier.dense", "", "/classifier.out_proj", e.ffn.activation, Pool::kFirst};
  build_encoder(c, e, b);
}

const std::map<std::string, std::string> kNomicNames = {{"embeddings.word_embeddings", "token_embd"},
                                                        {"embeddings.token_type_embeddings", "token_types"},
                                                        {"emb_ln", "token_embd_norm"},
                                                        {"attn.Wqkv", "attn_qkv"},
                                                        {"attn.out_proj", "attn_output"},
                                                        {"norm1", "attn_output_norm"},
                                                        {"mlp.fc12", "ffn_gate"},
                                                        {"mlp.fc11", "ffn_up"},
                                                        {"mlp.fc2", "ffn_down"},
                                                        {"norm2", "layer_output_norm"}};

void build_nomic(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_defaults({{"hidden_act", "silu"}});
  Encoder e = rotary(c, f, "nomic_bert.", 1000);
  e.naming.gguf = kNomicNames;
  e.attention.prefix = "attn.";
  e.ffn = {"mlp.", "fc12", "fc11", "fc2", e.ffn.width, e.ffn.activation, ""};
  e.masked_lm.norm = "/cls.predictions.transform.layer_norm";
  build_encoder(c, e, b);
}

void build_gte(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = rotary(c, f, c.has("new.embeddings.word_embeddings.weight") ? "new." : "gte.", 160000);
  e.naming.layer = "encoder.layer.";
  e.embedding_norm = "embeddings.LayerNorm", e.attn_norm = "attn_ln", e.ffn_norm = "mlp_ln";
  e.attention.prefix = "attention.", e.attention.qkv = "qkv_proj", e.attention.o = "o_proj";
  e.ffn = {"mlp.", "gate_proj", "up_proj", "down_proj", e.ffn.width, e.ffn.activation, "up_gate_proj"};
  e.ffn.is_up_first = true;
  e.masked_lm = {"/lm_head.dense", "/lm_head.norm", "/lm_head.decoder", format::UnaryKind::gelu};
  build_encoder(c, e, b);
}

void build_jina(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = rotary(c, f, "roberta.", 20000);
  set_roberta_heads(e);
  e.attention.prefix = "mixer.";
  e.ffn.up = "fc1", e.ffn.down = "fc2";
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe roformer_recipe;
const Recipe roformer_recipe = {"roformer", {}, {"roformer"}, build_roformer};
extern const Recipe nomic_bert_recipe;
const Recipe nomic_bert_recipe = {"nomic_bert", {"nomic-bert"}, {"nomic_bert"}, build_nomic};
extern const Recipe gte_recipe;
const Recipe gte_recipe = {"gte", {}, {"gte"}, build_gte};
extern const Recipe jina_recipe;
const Recipe jina_recipe = {"jina_embeddings_v3", {}, {"jina_embeddings_v3"}, build_jina};

}  // namespace runnel::convert
