// Blocks that many families share, as functions on a Net. Each takes the normed input of the layer's half and gives what is added to
// the residual; in the last layer they go on with the wanted rows only.
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

struct Attention {
  std::string prefix = "self_attn.";
  const char *q = "q_proj", *k = "k_proj", *v = "v_proj", *o = "o_proj";
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;       // newest positions that are seen, the own one included; 0: all
  double scale = 0;
  double softcap = 0;
  std::string rope;         // name of the frequencies' tensor; empty: no rotation
  bool is_interleaved = false;
  float rope_scale = 1;
  std::string q_norm, k_norm;  // short names of norm weights; empty: none. norm_is_whole: over all heads at once
  bool norm_is_whole = false;
  double eps = 1e-6;
  float norm_offset = 0;
  std::string gate;         // short name of a projection whose sigmoid multiplies the heads' output; empty: none
};
Var attention(Net& net, const Attention& a, const Var& x);

// The attention operator with states of its own, called `name` within the layer: q [heads, key], k [kv_heads, key], v [kv_heads, value] to
// [heads * value]. sinks: name of a tensor in the file, empty for none.
struct Softmax {
  double scale = 1, softcap = 0;
  int64_t window = 0;
};
Var attend(Net& net, const Softmax& s, const Var& q, const Var& k, const Var& v, const std::string& sinks = "", const std::string& name = "kv");

struct FeedForward {
  std::string prefix = "mlp.";
  const char *gate = "gate_proj", *up = "up_proj", *down = "down_proj";
  int64_t width = 0;
  format::UnaryKind activation = format::UnaryKind::silu;
};
Var gated_feed_forward(Net& net, const FeedForward& f, const Var& x);

}  // namespace runnel::convert
