// What the decoder-only transformers share: attention and gated feed-forward blocks with RMS norms. A recipe fills in the description;
// build_decoder turns it into the graph.
#pragma once

#include "converter/recipes/facts.h"
#include "converter/write/builder.h"

namespace runnel::convert {

// Names of the source's tensors, {} stands for the layer. Null where the architecture has none. Biases, where a source has them, are
// called the same with .bias in place of .weight.
struct TensorNames {
  const char* embedding;
  const char* output;  // absent in models that share it with the embedding
  const char* final_norm;
  const char *attn_norm, *q, *k, *v, *o, *q_norm, *k_norm, *attn_post_norm;
  const char *ffn_norm, *gate, *up, *down, *ffn_post_norm;
};
extern const TensorNames kGgufNames;         // llama.cpp's names, post norms and q/k norms included
extern const TensorNames kLlamaNames;        // transformers: llama, mistral
extern const TensorNames kGemmaNames;        // transformers: gemma2, gemma3

struct Layer {
  int64_t window = 0;  // newest positions that are seen, the own one included; 0: all
  int rope = 0;        // index into Decoder::ropes
};

struct Decoder {
  std::string prefix;  // before every name of TensorNames but output
  TensorNames names;
  int64_t context = 0, vocab = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0;
  float eps = 1e-6f;
  float norm_offset = 0;  // added to norm weights
  float embedding_scale = 1;
  float attention_scale = 0, attention_softcap = 0, output_softcap = 0;
  format::UnaryKind activation = format::UnaryKind::silu;
  bool is_interleaved = false;  // rope pairs (2i, 2i + 1)
  bool has_qk_norm = false, has_post_norms = false;
  bool is_tied = true;          // output matrix = embedding
  enum class Bias { kNever, kAlways, kIfPresent };
  Bias attention_bias = Bias::kNever, ffn_bias = Bias::kNever;  // attention: on q, k, v and o
  std::vector<std::vector<float>> ropes;
  std::vector<Layer> layers;
};

// Sizes that every description of these models has. Axes, layers and eps of a GGUF; fills hidden, heads, kv_heads, head_dim, ffn, context,
// eps, the vocabulary from the embedding, and as many layers as there are.
void read_gguf_sizes(Checkpoint& checkpoint, const Facts& facts, Decoder& decoder);
// The same from config.json's keys.
void read_config_sizes(const Facts& facts, Decoder& decoder);
format::UnaryKind activation_named(const Facts& facts, const std::string& key, const std::string& otherwise);

// Adds symbols, tensors, states and the program "main".
void build_decoder(Checkpoint& checkpoint, const Decoder& decoder, ModelBuilder& builder);

}  // namespace runnel::convert
