// RWKV 4 to 7 (Peng et al.): every layer mixes over time with a recurrence, then over channels; both see the token
// before through a shift. Tensors are named as the authors do, without "blocks.N." and ".weight".
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

struct Rwkv {
  int version = 0;
  int64_t hidden = 0, vocab = 0, layers = 0;
  int64_t heads = 0, head_dim = 0;  // 4: heads is 1 and head_dim the width of the time mix
  int64_t ffn = 0;
  double eps = 1e-5, group_eps = 64e-5;
  // transformers divides what layer l adds by 2^(l / rescale_every) and halves the stream after each such group, so
  // that f16 does not overflow. Only the eps of the norms notices: each halving makes it 4 times as large.
  int64_t rescale_every = 0;
  bool is_divided = false;     // the source holds the divided weights, so the stream is halved
  bool is_transposed = false;  // low-rank matrices lie as [out, in]; the authors multiply from the right
  Naming naming;
};

Var rwkv_time_mix(Net& net, const Rwkv& r, const Var& x, Var* first_value);
Var rwkv_channel_mix(Net& net, const Rwkv& r, const Var& x);

}  // namespace runnel::convert
