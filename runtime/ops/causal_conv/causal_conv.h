// causal_conv: a depthwise convolution along the sequence that sees the past only.
//   y[t, c] = act(bias[c] + sum_j weight[c, j] x[t - (taps - 1 - j) dilation, c])
// Inputs before the call's first token come from the state; without one (and before a segment's first token) they are
// 0.
//
// inputs   x        [tokens, channels] f32
//          weight   [channels, taps] f32, tap taps - 1 meets the own token
//          bias     [channels] f32, optional
//          state    [(taps - 1) * dilation, channels] f32 or f16, optional: the inputs before the call, oldest first
//          segments [n + 1] i32, optional, without states only: bounds of independent sequences
// outputs  y        [tokens, channels] f32; shares no memory with x
//          state    optional: the newest inputs after the call; may be the same memory as the one that comes in
// attrs    activation (of unary; none by default); dilation >= 1; reverse: from the last token to the first
//
// tolerance 1e-6 of the largest sum of |weight x|; bits depend neither on the cut into calls (f32 state) nor on threads
// source   torch.nn.functional.conv1d with groups = channels and left padding; causal-conv1d of Dao-AILab
#pragma once

#include "contract/op.h"
#include "ops/unary/unary.h"

namespace runnel {

struct CausalConvParams {
  UnaryKind activation;
  bool reverse;
  int64_t dilation;
};

}  // namespace runnel
