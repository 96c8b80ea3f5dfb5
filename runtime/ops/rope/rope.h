// rope: rotates the first 2 P dims of each head by the token's position: with angle = float(positions[t]) *
// inv_freq[i], rounded to f32 as the original implementations round it, c = scale cos(angle), s = scale sin(angle):
//   y_a = x_a c - x_b s,   y_b = x_b c + x_a s
// where (a, b) = (i, i + P), or (2i, 2i + 1) when interleaved. The other dims are copied.
//
// inputs   x          [tokens, heads, dim] f32
//          positions  [tokens] i32
//          inv_freq   [P] f32, 2 P <= dim
// outputs  y          the shape of x, f32; may share memory with x
// attrs    interleaved; scale, finite; limit (version 2): positions above it count as it, 0: none, below 2^31; exact
//          (version 2): the angle is not rounded to f32, so that far into a stream it turns on evenly
// states   none
// tolerance 1e-6 of the largest |x| of a pair, for |positions| up to 2^24, with exact up to 2^31
// source   Su et al. 2021, "RoFormer"; transformers LlamaRotaryEmbedding (half-split), GPT-J (interleaved)
#pragma once

#include "contract/op.h"

namespace runnel {

struct RopeParams {
  float scale;
  bool interleaved, exact;
  uint32_t limit;
};

}  // namespace runnel
