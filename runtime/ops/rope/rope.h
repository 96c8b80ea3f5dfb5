// rope: rotates the first 2 P dims of each head by the token's position: with angle = float(position) * inv_freq[i],
// rounded to f32 as the original implementations round it, c = scale cos(angle), s = scale sin(angle):
//   y_a = x_a c - x_b s,   y_b = x_b c + x_a s
// where (a, b) = (i, i + P), or (2i, 2i + 1) when interleaved. The other dims are copied. The position is positions[t],
// or of tokens that stand on several axes (time, height and width of a picture) positions[t, sections[i]]. With all of
// a token's positions the same that has the bits of the first form.
//
// inputs   x          [tokens, heads, dim] f32
//          positions  [tokens] i32; with sections [tokens, axes]
//          inv_freq   [P] f32, 2 P <= dim
// outputs  y          the shape of x, f32; may share memory with x
// attrs    interleaved; scale, finite; of version 2: sections, none, or for each of at most 192 pairs the number of the
//          axis from which it takes its position, below min(axes, 4); limit, positions above it count as it, 0: none,
//          below 2^31; exact, the angle is not rounded to f32, so that far into a stream it turns on evenly
// states   none
// tolerance 1e-6 of the largest |x| of a pair, for |positions| up to 2^24, with exact up to 2^31
// source   Su et al. 2021, "RoFormer"; transformers LlamaRotaryEmbedding (half-split), GPT-J (interleaved); of several
//          axes Qwen2-VL (one section behind the other) and Qwen3-VL (axes in turn)
#pragma once

#include "contract/op.h"

namespace runnel {

// Two bits a pair.
struct RopeSections {
  static constexpr unsigned kMost = 4, kPairs = 192;
  uint32_t words[kPairs / 16];
};

struct RopeParams {
  float scale;
  bool interleaved, exact;
  uint8_t axes;    // that sections need; 0: positions have none
  uint16_t pairs;  // that have a section
  uint32_t limit;  // 0: none
  RopeSections sections;
};

}  // namespace runnel
