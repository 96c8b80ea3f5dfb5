// selective_scan: the diagonal state-space recurrence with input-dependent step, input and output vectors (Mamba).
//   d = dt + dt_bias, softplus of it if asked for, then clamped to dt_min .. dt_max
//   h[c, n] = e^(d[t, c] A[c, n]) h[c, n] + d[t, c] B[t, g, n] x[t, c]        y[t, c] = sum_n C[t, g, n] h[c, n] + D[c]
//   x[t, c],   g = c / (channels / groups)
//
// inputs   x        [tokens, channels] f32
//          dt       [tokens, channels] f32
//          A        [channels, n] f32, already negative
//          B        [tokens, n] or [tokens, groups, n] f32
//          C        as B
//          D        [channels] f32, optional
//          dt_bias  [channels] f32, optional
//          state    [channels, n] f32 or f16, optional: h before the call
//          segments [k + 1] i32, optional, without states only
// outputs  y        [tokens, channels] f32; shares no memory with an input
//          state    optional: h after the call; may be the same memory as the one that comes in
// attrs    softplus; dt_min, dt_max (0 and infinity: no limits); reverse: from the last token to the first
//
// tolerance 2e-5 of the largest |y|; bits depend neither on the cut into calls (f32 state) nor on threads
// source   Gu & Dao 2023, arXiv 2312.00752, algorithm 2; transformers MambaMixer
#pragma once

#include "contract/op.h"

namespace runnel {

struct SelectiveScanParams {
  float dt_min, dt_max;
  bool softplus, reverse;
};

}  // namespace runnel
