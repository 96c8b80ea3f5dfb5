// Blocks that many families share, as functions on a Net. Each takes the normed input of the layer's half and gives
// what is added to the residual; in the last layer they go on with the wanted rows only.
#pragma once

#include "converter/recipes/net.h"
#include "converter/recipes/rope.h"

namespace runnel::convert {

struct Attention {
  std::string prefix = "self_attn.";
  const char *q = "q_proj", *k = "k_proj", *v = "v_proj", *o = "o_proj";
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t value_dim = 0;   // of a head's values; 0: head_dim
  double value_scale = 1;  // of the values
  int64_t window = 0;      // newest positions that are seen, the own one included; 0: all
  int64_t chunk = 0;       // what is seen lies in the own one of the chunks of as many positions; 0: not in chunks
  double scale = 0;
  double softcap = 0;
  std::string rope;  // name of the frequencies' tensor; empty: no rotation
  bool is_interleaved = false;
  float rope_scale = 1;
  std::string bias;            // name of a value that is added to the scores, [1 | heads, 1 | T, T]; empty: none
  Var query_scale;             // of the rotated queries; without a name: none
  std::string q_norm, k_norm;  // short names of norm weights; empty: none. norm_is_whole: over all heads at once
  bool norm_is_whole = false;
  bool norm_is_late = false;   // behind the rotation
  bool norm_is_layer = false;  // a layer norm with weights [heads, head_dim]; over all heads at once it has a bias too
  bool norms_have_weights = true;
  double clip = 0;  // q, k and v are kept within -clip .. clip; 0: not
  double eps = 1e-6;
  float norm_offset = 0;
  std::string gate;               // short name of a projection that multiplies the heads' output; empty: none
  bool gate_is_per_head = false;  // one value a head instead of one a channel
  format::UnaryKind gate_activation = format::UnaryKind::sigmoid;
  std::string qkv;              // short name of one matrix with the rows of q, k and v, where the source has it
  bool qkv_is_by_head = false;  // those rows head by head: of its q, its k and its v
  std::string sinks;            // short name of a learned logit for each head; empty: none
  bool k_is_v = false;          // values are the keys' product, before norm and rotation
  bool v_norm = false;          // values go through a norm without a weight
  std::string shared;  // keys and values are those that another layer wrote into states of this name; empty: own ones
};
// Puts the frequencies into the file as `name`, with the operators that choose among them where they depend on the
// context. Gives the name of what attention uses.
std::string rope_table(Net& net, const Rope& rope, const std::string& name);
// Puts the frequencies into the file and lets the attention use them.
void set_rope(Net& net, Attention& a, const Rope& rope, const std::string& name = "rope");
// A factor for the queries of each token, [T, 1, 1]: 1 + beta log(1 + floor((position + first) / original)), as Llama 4
// (first 1) and Ministral 3 (first 0) have it.
Var query_scale(Net& net, double beta, int64_t original, int64_t first = 0);
Var attention(Net& net, const Attention& a, const Var& x);

// The attention operator with states of its own, called `name` within the layer: q [heads, key], k [kv_heads, key], v
// [kv_heads, value] to [heads * value]. sinks: name of a tensor in the file, empty for none.
struct Softmax {
  double scale = 1, softcap = 0;
  int64_t window = 0, chunk = 0;  // chunk: with states only
  std::string bias = {};          // Attention's
};
Var attend(Net& net, const Softmax& s, const Var& q, const Var& k, const Var& v, const std::string& sinks = "",
           const std::string& name = "kv");
// The same with keys and values that an operator before wrote into `states`.k and .v. q may be on the wanted rows.
Var attend_shared(Net& net, const Softmax& s, const Var& q, const std::string& states, int64_t value_dim,
                  const std::string& sinks = "");

struct FeedForward {
  std::string prefix = "mlp.";
  const char *gate = "gate_proj", *up = "up_proj", *down = "down_proj";
  int64_t width = 0;
  format::UnaryKind activation = format::UnaryKind::silu;
  std::string gate_up;  // short name of one matrix with the rows of gate and up, where the source has it
  bool is_gated = true;
  bool is_up_first = false;  // of gate_up
};
Var feed_forward(Net& net, const FeedForward& f, const Var& x);

// A mixture of experts. Experts come one tensor each ({} in the names stands for the expert), or as one tensor
// [experts, rows, columns] whose name has no "{}."; gate and up may be one tensor, gate first (`gate_up`), which counts
// where the source has it.
struct Experts {
  std::string prefix = "mlp.";
  std::string router = "gate", choice_bias;  // choice_bias: whole short name, added to the scores for the choice only
  std::string factors;                       // whole short name of a factor for what each expert gives; empty: none
  std::string gate = "experts.{}.gate_proj", up = "experts.{}.up_proj", down = "experts.{}.down_proj", gate_up;
  int64_t count = 0, chosen = 0, width = 0;
  bool is_turned = false;     // the one tensor of all experts is [experts, columns, rows]
  bool weighs_input = false;  // experts see x times their weight, instead of being weighed themselves
  double router_softcap = 0;  // of the router's logits; 0: none
  int64_t latent = 0;         // width of the space in which the experts work; 0: that of x
  std::string latent_in, latent_out;
  format::RouteAttrsT route;
  format::UnaryKind activation = format::UnaryKind::silu;
  // Of gpt-oss: biases `name`_bias, and what gate and up give is clamped: (max(min(up, limit), -limit) + 1) * g *
  // sigmoid(alpha g), g = min(gate, limit). Its one tensor gate_up has rows of gate and up in turns; it and down may be
  // MXFP4 blocks [experts, rows, columns / 32, 16] with scales.
  bool is_clamped = false;
  double clamp_limit = 7, clamp_alpha = 1.702;
};
// scored: what the router sees; null: x.
Var experts(Net& net, const Experts& e, const Var& x, const Var* scored = nullptr);

// The published form of gpt-oss's experts: name_blocks, two 4-bit values a byte, neighbours together, and name_scales.
// As rows [experts * rows, columns] of MXFP4.
const SourceTensor& mxfp4_rows(Net& net, const std::string& name, int64_t experts, int64_t rows, int64_t columns);

// Sigmoid scores as DeepSeek-V3 routes by: norm_topk_prob, routed_scaling_factor.
void read_sigmoid_route(const Facts& f, format::RouteAttrsT& route);

// x + factor * part(norm of x), on the wanted rows when the part went on with those.
template <class Part>
Var with_residual(Net& net, const Var& x, const std::string& norm, double eps, Part part, double factor = 1) {
  const Var y = part(net.rms_norm(x, net.plain(norm + ".weight", {x.dims.back()}), eps));
  return net.add(net.wanted(x), net.scale(y, factor));
}

}  // namespace runnel::convert
