// sparse_attention: attention (ops/attention/attention.h) in which a query sees only some of the keys, told by lists, a
// neighbourhood, chunks or a tree. No mask is ever stored; tiles of keys that nobody sees are skipped.
//
// Of the keys that causality, window and segments leave, query t at position p sees key j when all that is given holds:
//   ranges         j lies in one of its ranges: begin <= j < end and (j - begin) mod step = 0. Parts outside of the
//   keys
//                  are cut off, an empty range adds nothing, a step below 1 counts as 1, order does not matter, and a
//                  key in several ranges counts once.
//   neighbourhood  tokens lie on axes (q of rank 4 or 5); on each of them, with length n, kernel K, dilation D, step S,
//                  i and j are the places of query and key: j mod D = i mod D, and of the n' = ceil((n - i mod D) / D)
//                  places of that kind, j / D lies in [b, min(b + K, n')), where b = max(min(l - floor(K / 2), n' - K),
//                  0) and l = min(floor(i / D / S) S + floor(S / 2), n' - 1); on a causal axis j / D lies in [max(l - K
//                  + 1, 0), i / D] with l = min(floor(i / D / S) S + S - 1, n' - 1).
//   chunk > 0      j / chunk = p / chunk
//   first > 0      j < first, and with a window also j <= p - window: what the window has left behind. With states only
//                  tokens at positions below `first` are stored.
//   parents        j is not among the call's tokens, or it is t, parents[t], parents[parents[t]], ...
//
// sigmoid: y[t, h] = sum_j sigmoid(score[h, t, j] + shift) v[j, g], without a denominator.
// before, lse_before: the result over other keys, as attention gives it: y and lse are those over both.
//
// inputs   q, k, v, k_state, v_state, sinks, bias, segments, rows as attention. With a neighbourhood of n > 1 axes q, k
//          and v are [sizes of the n axes, heads, key | value] and y [sizes, heads, value | heads * value]; tokens are
//          their product, row-major.
//          ranges     [1 | heads, lists, n, 3] i32, optional: begin, end, step. List p / range_block - p0 /
//                     range_block is for the query at position p, p0 being the position of the call's first token (0
//                     without states); not together with segments or a stride
//          parents    [tokens] i32, optional: index in the call of the token before, -1 none; below t
//          before     [tokens, heads, value] or [tokens, heads * value] f32, optional together with lse_before
//                     [tokens, heads] f32; not together with sinks
// outputs  y, lse as attention; lse not with sigmoid
// attrs    scale, window, softcap, causal, stride as attention; range_block >= 1; kernel, dilation, step of each axis
//          (empty: no neighbourhood; dilation, step may be empty: 1), below 65536; causal_axes: bit of each axis;
//          chunk; first; sigmoid with shift, without sinks and before
//          A neighbourhood takes neither states nor window, segments or causal.
//
// tolerance, bits as attention
// source   neighbourhoods: NATTEN 0.21 (Hassani et al. 2023, 2024, 2025); ranges: FlexAttention's block masks, S2
//          attention, Longformer; chunk: Llama 4; first: StreamingLLM (Xiao et al. 2024); parents: SpecInfer (Miao et
//          al. 2024); sigmoid: Ramapuram et al. 2024; before: Hydragen (Juravsky et al. 2024)
#pragma once

#include "ops/attention/attention.h"

namespace runnel {

inline constexpr int kMaxAxes = 3;

struct SparseAttentionParams {
  float scale, softcap, shift;
  uint32_t window, stride, range_block, chunk, first;
  uint16_t kernel[kMaxAxes], dilation[kMaxAxes], step[kMaxAxes];
  uint8_t axes;  // 0: no neighbourhood
  uint8_t causal_axes;
  bool causal, sigmoid;
};

// The call with tokens along one axis, as attention takes it.
struct FlatAttention {
  explicit FlatAttention(const OpCall& call);
  FlatAttention(const FlatAttention&) = delete;
  OpCall call;
  int64_t sizes[kMaxAxes];  // of the axes of a neighbourhood
  TensorView in[9], out[2];
  OpParams params;
};

// Places of an axis that a query at place i sees: begin, begin + step, ... below end.
struct Places {
  int64_t begin, end, step;
};
Places places_of(const SparseAttentionParams& p, int axis, int64_t n, int64_t i);

}  // namespace runnel
