// What models of sound share.
#pragma once

#include <functional>

#include "converter/recipes/signal.h"

namespace runnel::convert {

// Inputs side by side that sounds are planned for, unless the person who converts says otherwise (--axis batch=N).
constexpr int64_t kSoundsAtOnce = 2;

struct SpeechAttention {
  std::string prefix;
  const char *q = "q_proj", *k = "k_proj", *v = "v_proj", *o = "out_proj";
  int64_t heads = 1, kv_heads = 0, head = 0;   // kv_heads 0: as many as heads; head 0: the width over the heads
  Attending how = {};                          // a scale of 1 stands for 1 / sqrt(head)
  std::function<Var(const Var&)> rotate = {};  // of queries and keys in heads; none where it is empty
};
// x [batch, places, width]; keys and values of `other` where it has a name.
Var speech_attention(Signal& net, const SpeechAttention& a, const Var& x, const Var& other = {});
// x [.., width] through two products with an activation between them.
Var speech_mlp(Signal& net, const Var& x, const std::string& in, const std::string& out, int64_t width,
               format::UnaryKind activation);
// A bias by the distance from query to key, [heads, size, size]: a row of the table "{name}" [buckets, heads] for each
// of the near ones, for those as far as `most` and more the last, for those between in logarithmic steps; the second
// half of the table serves keys behind the query. adds_first: how the float that says the step is rounded.
Var distance_bias(Signal& net, const std::string& name, int64_t buckets, int64_t most, int64_t heads,
                  const std::string& size, bool adds_first);
// The first half of the channels by the sigmoid of the second.
Var gated_halves(Signal& net, const Var& x);

}  // namespace runnel::convert
