// Gemma 3, text part: five layers with a window, then one that sees everything, each kind with its own rotary base;
// norms on queries and keys, before and after both halves of a layer; output matrix = embedding. The vision tower of
// the larger models is left out. EmbeddingGemma is one whose attention goes both ways, without an output matrix.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

constexpr double kLocalBase = 10000, kGlobalBase = 1000000;

// What published files leave to their reader, as of the first release of the 4B, 12B and 27B models.
const Json kDefaults = {{"num_attention_heads", 8}, {"num_key_value_heads", 4}, {"head_dim", 256},
                        {"vocab_size", 262208},     {"sliding_window", 4096},   {"max_position_embeddings", 131072}};
const GgufForm kGguf = {{}, {{"rope_theta", kGlobalBase}}};

void build(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  add_post_norms(d);
  const Facts f = text_facts(c, d.naming, kDefaults, kGguf);
  read_sizes(f, d);
  d.is_tied = f.boolean("tie_word_embeddings", true);
  read_biases(f, d.naming);
  d.is_bidirectional = f.boolean("use_bidirectional_attention", f.text("model_type", "") == "gemma-embedding");
  d.norm_offset = d.attention.norm_offset = 1;
  d.embedding_scale = float(std::sqrt(double(d.hidden)));
  norm_heads(d);
  d.attention.scale = gemma_scale(f, 62, d);
  d.attention.softcap = float(f.number("attn_logit_softcapping", 0));
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  d.ffn.activation = gemma_activation(f);
  d.ropes = {read_rope(c, f, "full_attention", kGlobalBase, d.attention.head_dim),
             read_rope(c, f, "sliding_attention", kLocalBase, d.attention.head_dim)};
  f.stated_in_gguf({"sliding_window"});
  set_window_layers(f, 6, d.layers);
  for (Layer& layer : d.layers) {
    layer.rope = layer.window ? 1 : 0;
    // The window's size counts both sides of an encoder's token.
    if (d.is_bidirectional && layer.window) layer.window = layer.window / 2 + 1;
  }
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe gemma3_recipe;
const Recipe gemma3_recipe = {"gemma3", {"gemma3", "gemma-embedding"}, {"gemma3_text", "gemma3"}, build};

}  // namespace runnel::convert
