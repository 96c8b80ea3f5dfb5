// What the decoder-only transformers share: attention and gated feed-forward blocks with RMS norms. A recipe fills in
// the description; build_decoder turns it into the graph.
#pragma once

#include <functional>
#include <optional>

#include "converter/recipes/blocks.h"
#include "converter/recipes/latent.h"

namespace runnel::convert {

// llama.cpp's names of the tensors of such models, by the short names of transformers' Llama.
extern const std::map<std::string, std::string> kGgufNames;

struct Layer {
  int64_t window = 0;  // newest positions that are seen, the own one included; 0: all
  int rope = 0;        // index into Decoder::ropes; -1: no positions
  bool has_experts = false;
};

struct Decoder {
  Naming naming = {"model.", "layers.", kGgufNames};
  // Short names of norm weights, null for none; with post norms, those behind attention and feed-forward.
  const char *attn_norm = "input_layernorm", *ffn_norm = "post_attention_layernorm";
  const char *attn_post_norm = nullptr, *ffn_post_norm = nullptr, *last_norm = "norm";
  int64_t context = 0, vocab = 0, hidden = 0;
  double eps = 1e-6;
  float norm_offset = 0;       // added to norm weights
  bool is_layer_norm = false;  // norms subtract the mean and may have a bias
  bool norms_have_weights = true;
  bool has_embedding_norm = false;  // last_norm behind the embedding too
  bool is_parallel = false;  // both halves of a layer see the same input, normed once or, with ffn_norm, by a norm for
                             // each
  bool is_bidirectional = false;  // tokens see those behind them; a window reaches to both sides then
  float residual_factor = 1;      // of what both halves add
  float logit_factor = 1;
  float embedding_scale = 1;
  float output_softcap = 0;
  bool is_tied = true;    // output matrix = embedding
  double query_beta = 0;  // queries are scaled by their position (query_scale in blocks.h); 0: not
  int64_t query_original = 0, query_first = 0;
  Attention attention;           // window and rope are set layer by layer
  std::optional<Latent> latent;  // in its place; rope is set layer by layer
  FeedForward ffn;
  Experts experts;
  FeedForward shared;        // beside the experts, for every token; width 0: none
  float experts_factor = 1;  // of what both give together
  std::string shared_gate;   // short name of a projection whose sigmoid multiplies what that gives; empty: none
  std::vector<Rope> ropes;
  const char* position_table = nullptr;  // short name of an embedding of positions, `context` rows
  std::vector<Layer> layers;
  std::function<void(size_t layer, Attention&)> own_attention;  // what else one layer's attention has of its own
};

// Norms behind attention and feed-forward too, as Gemma names them.
void add_post_norms(Decoder& decoder);
// Sizes that every description of these models has; as many layers as there are.
void read_sizes(const Facts& facts, Decoder& decoder);
// The size of a head where the configuration does not say it; the scores' scale follows.
void set_head_dim(const Facts& facts, int64_t head_dim, Decoder& decoder);
// Norms of queries and keys, under the names that most files give them.
void norm_heads(Decoder& decoder);
// The usual keys of a mixture of experts in every layer, when there is one.
void read_experts(const Facts& facts, Decoder& decoder);
// A feed-forward of this width beside the experts; Qwen2-MoE's has a gate.
void add_shared_experts(int64_t width, Decoder& decoder, const char* prefix = "mlp.shared_experts.");
void add_gated_expert(int64_t width, Decoder& decoder);
// Gemma's, which older files call hidden_act.
format::UnaryKind gemma_activation(const Facts& facts);
// Of its scores, by query_pre_attn_scalar.
double gemma_scale(const Facts& facts, size_t layers_of_27b, const Decoder& decoder);
format::UnaryKind activation_named(const Facts& facts, const std::string& key, const std::string& otherwise);

// What most recipes share: sizes, scale, activation, biases, tied output matrix.
void read_basics(const Facts& facts, Decoder& decoder);

// Granite's constant factors: of the scores (`scale` when it is not said), the embedding, what each half of a layer
// adds, and the logits.
void read_granite_factors(const Facts& facts, double scale, Decoder& decoder);

// Adds symbols, tensors, states and the program "main".
void build_decoder(Checkpoint& checkpoint, const Decoder& decoder, ModelBuilder& builder);

// Reads what the configuration says about biases of self_attn and mlp: attention_bias, mlp_bias.
void read_biases(const Facts& facts, Naming& naming);
// The output matrix: `table`, or lm_head when the model has one of its own; a tied model does when the source holds
// another one.
std::string output_matrix(Net& net, const std::string& table, bool is_tied, int64_t vocab, int64_t hidden,
                          const std::string& head = "/lm_head.weight");

}  // namespace runnel::convert
