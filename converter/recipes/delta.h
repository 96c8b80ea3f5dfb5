// Mixers of the delta-rule family: Gated DeltaNet (arXiv 2412.06464) and Kimi Delta Attention (arXiv 2510.26692).
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

struct DeltaSizes {
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0, taps = 4;
  format::UnaryKind activation = format::UnaryKind::silu;  // behind the short convolutions
  bool is_round_robin = false;  // value head h belongs to key head h mod key_heads, not to h / (value_heads /
                                // key_heads)
  int64_t key_width() const { return key_heads * key_dim; }
  int64_t value_width() const { return value_heads * value_dim; }
};

// q, k [key_heads * key_dim] and v through their short convolutions (weights [key + key + value channels], in this
// order) and an activation; q and k are normed to length 1, as the recurrence wants them.
struct DeltaInput {
  Var q, k, v;
};
DeltaInput delta_input(Net& net, const DeltaSizes& s, const std::vector<Var>& qkv, const std::vector<float>& conv,
                       const std::string& prefix);

// x / sqrt(sum of squares + eps) over the last axis, written as a norm to the mean square.
Var unit_length(Net& net, const Var& x, double eps = 1e-6);

// The convolutions' weights [channels, 1, taps] when q, k and v have one each, joined: the pieces may be cut elsewhere
// than between them.
std::vector<float> joined_convs(Net& net, const std::string& prefix, const DeltaSizes& s);

// -e^A_log softplus(a + dt_bias), for each head ([heads]) or each channel of a head ([heads, key]); A_log has one value
// a head.
Var delta_decay(Net& net, const Var& a, const std::string& prefix, const std::vector<int64_t>& a_log_shape);

// The same kept above `bound`: bound * sigmoid(e^A_log (a + dt_bias)).
Var bounded_delta_decay(Net& net, const Var& a, const std::string& prefix, const std::vector<int64_t>& a_log_shape,
                        double bound);

// The recurrence S = (I - beta k k^T) e^decay S + beta k v^T, read out with q / sqrt(key). Without a decay (a Var
// without a name) none. k, v and beta may have several steps a token: [T * steps, ...].
Var delta_rule(Net& net, const DeltaSizes& s, const DeltaInput& in, const Var& decay, const Var& beta,
               const std::string& prefix, int64_t steps = 1);

// Norm of each head's output with weight `weight` [value], times activation(gate).
Var gated_head_norm(Net& net, const Var& y, const Var& gate, const std::string& weight, format::UnaryKind activation,
                    double eps);

}  // namespace runnel::convert
