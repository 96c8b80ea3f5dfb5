// matmul: y_i[..., n] = sum_k x[..., k] * w_i[n, k] + b_i[n]   for i = 1..count
//
// inputs   x        [..., K] f32
//          w_1..w_count  [N_i, K] packed, count = number of outputs (1..8)
//          b_1..b_count  [N_i] f32, each optional (0); trailing absent ones may be left out
// outputs  y_i      f32: the leading axes of x, then axes whose product is N_i, so heads need no reshape
// attrs    none
// states   none
// One call shares the rounding of x and one parallel region between its weights (query/key/value, gate/up).
//
// Float kinds of w: sums in f32, one fused multiply-add a column in the order of K.
//   tolerance 4 sqrt(K) epsilons of f32 times sqrt(sum x^2) * sqrt(sum w^2)
// Integer kinds: the kernels round x to int8 in blocks of 32 columns, scale sx = max |x| / 127 of the block. A block's
// product
//   dot = sum q * qx - zero_point * sum qx is exact in int32; then acc = fma(float(dot), scale_w * sx, acc) in the
//   order of blocks, with
//   minimums acc = fma(-min_w, sx * float(sum qx), acc) after it. So each x is off by at most sx / 2.
//   tolerance 2e-2 of the largest |y| against the reference, which uses x as it is; 1e-5 against the formula above
//   Blocks with max |x| below 2e-36 count as 0. A block with NaN or infinity makes all outputs of its row NaN.
// With OpCall::best = k, one weight that is split, one row of x and no bias, outputs below the k-th highest are
// -infinity (screen.h) and the others have the bits that they have without it. So it is with the rows that are not
// among OpCall::wanted. The bits of a row depend neither on the other rows of the call nor on threads.
#pragma once

#include "contract/op.h"

namespace runnel {

inline constexpr int kMaxMatmulWeights = 8;

// Index of bias i among the inputs when there are `count` weights.
#define RNL_MATMUL_BIAS(count, i) (1 + (count) + (i))

}  // namespace runnel
