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

constexpr int64_t kLayersOf27B = 62;
constexpr int64_t kPattern = 6;
constexpr double kLocalBase = 10000, kGlobalBase = 1000000;

void read_gguf_facts(Checkpoint& c, Decoder& d) {
  d.is_bidirectional = architecture_of(c) == "gemma-embedding";
  const Facts f = gguf_facts(c);
  read_gguf_sizes(c, f, d);
  // The file leaves out the attention scale, the pattern of the layers and the local rotary base.
  const bool is_27b = int64_t(d.layers.size()) == kLayersOf27B;
  d.attention.scale =
      1 / std::sqrt(is_27b ? double(d.hidden) / double(d.attention.heads) : double(d.attention.head_dim));
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  d.ropes.push_back(gguf_rope(c, f, kGlobalBase, d.attention.head_dim));
  d.ropes.push_back(gguf_local_rope(f, kLocalBase, d.attention.head_dim));
  f.integer("attention.sliding_window");
  set_gguf_window_layers(f, kPattern, d.layers);
}

// What published files leave to their reader, as of the first release of the 4B, 12B and 27B models.
const Json kDefaults = {{"num_attention_heads", 8}, {"num_key_value_heads", 4}, {"head_dim", 256},
                        {"vocab_size", 262208},     {"sliding_window", 4096},   {"max_position_embeddings", 131072}};

void read_config_facts(Checkpoint& c, Decoder& d) {
  const TextConfig text = read_text_config(c, d.naming, kDefaults);
  const Facts f = text.facts(c);
  read_config_sizes(f, d);
  d.is_tied = text.is_tied;
  read_biases(f, d.naming);
  d.is_bidirectional = f.boolean("use_bidirectional_attention", false);
  d.norm_offset = d.attention.norm_offset = 1;
  d.attention.scale = 1 / std::sqrt(f.number("query_pre_attn_scalar", 256));
  d.attention.softcap = float(f.number("attn_logit_softcapping", 0));
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  d.ffn.activation = gemma_activation(f);
  d.ropes.push_back(config_rope(f, "full_attention", kGlobalBase, d.attention.head_dim));
  d.ropes.push_back(config_rope(f, "sliding_attention", kLocalBase, d.attention.head_dim));
  set_window_layers(f, kPattern, d.layers);
}

void build(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.ffn.activation = format::UnaryKind::gelu_tanh;
  add_post_norms(d);
  d.attention.q_norm = "q_norm";
  d.attention.k_norm = "k_norm";
  if (c.is_gguf()) read_gguf_facts(c, d);
  else read_config_facts(c, d);
  d.embedding_scale = float(std::sqrt(double(d.hidden)));
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
