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

const GgufForm kGguf = {{},
                        {{"attn_logit_softcapping", 50}, {"final_logit_softcapping", 30}, {"sliding_window", 4096}}};

void build(Checkpoint& c, Decoder& d, ModelBuilder& b) {
  const Facts f = source_facts(c, kGguf);
  read_sizes(f, d);
  d.norm_offset = d.attention.norm_offset = 1;
  d.embedding_scale = float(std::sqrt(double(d.hidden)));
  d.attention.softcap = float(f.number("attn_logit_softcapping", 0));
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  d.attention.scale = gemma_scale(f, 46, d);
  d.ffn.activation = gemma_activation(f);
  f.pass_over({"sliding_window_size"});  // once more
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 2, d.layers);
  d.is_tied = f.boolean("tie_word_embeddings", true);
  read_biases(f, d.naming);
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
