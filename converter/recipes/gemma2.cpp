// Gemma 2: every other layer sees a window (the first one does), attention scores and logits are soft-capped, norms
// before and after both halves of a layer, embeddings scaled by the root of their width, output matrix = embedding.
// VaultGemma is the same without the norms behind.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"

namespace runnel::convert {
namespace {

constexpr int64_t kLayersOf27B = 46;

void read_gguf_facts(Checkpoint& c, Decoder& d) {
  const Facts f = gguf_facts(c);
  read_gguf_sizes(c, f, d);
  d.attention.softcap = float(f.number("attn_logit_softcapping", 50));
  d.output_softcap = float(f.number("final_logit_softcapping", 30));
  // The file leaves out the attention scale. Of the published sizes only 27B scales by the width over the heads.
  const bool is_27b = int64_t(d.layers.size()) == kLayersOf27B;
  d.attention.scale =
      1 / std::sqrt(is_27b ? double(d.hidden) / double(d.attention.heads) : double(d.attention.head_dim));
  d.ropes.push_back(gguf_rope(c, f, 10000, d.attention.head_dim));
  set_gguf_window_layers(f, 2, d.layers);
  if (!f.has("attention.sliding_window")) set_window_layers(4096, 2, d.layers);
}

void read_config_facts(Checkpoint& c, Decoder& d) {
  const Facts f = config_facts(c);
  read_config_sizes(f, d);
  d.norm_offset = d.attention.norm_offset = 1;
  d.attention.softcap = float(f.number("attn_logit_softcapping", 0));
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  d.attention.scale = 1 / std::sqrt(f.number("query_pre_attn_scalar", 256));
  d.ffn.activation = gemma_activation(f);
  f.pass_over({"sliding_window_size"});  // once more
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 2, d.layers);
  d.is_tied = f.boolean("tie_word_embeddings", true);
  read_biases(f, d.naming);
}

void build(Checkpoint& c, Decoder& d, ModelBuilder& b) {
  d.ffn.activation = format::UnaryKind::gelu_tanh;
  if (c.is_gguf()) read_gguf_facts(c, d);
  else read_config_facts(c, d);
  d.embedding_scale = float(std::sqrt(double(d.hidden)));
  build_decoder(c, d, b);
}

void build_gemma2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  add_post_norms(d);
  build(c, d, b);
}

void build_vault_gemma(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.ffn_norm = "pre_feedforward_layernorm";
  build(c, d, b);
}

}  // namespace

extern const Recipe gemma2_recipe, vault_gemma_recipe;
const Recipe gemma2_recipe = {"gemma2", {"gemma2"}, {"gemma2"}, build_gemma2};
const Recipe vault_gemma_recipe = {"vaultgemma", {}, {"vaultgemma"}, build_vault_gemma};

}  // namespace runnel::convert
