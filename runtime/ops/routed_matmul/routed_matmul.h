// routed_matmul: products with the matrices that each token's experts have.
//   y_i[t, s, n] = sum_k x[t, s or shared, k] w_i[e, n, k] + b_i[e, n],  e = ids[t, s]
//
// inputs   x    [tokens, K] (the same for all slots) or [tokens, slots, K] f32
//          ids  [tokens, slots] i32, 0 .. experts - 1; absent: slot s uses expert s (block-diagonal products), x must
//               be [tokens, experts, K]
//          w_1..w_count  [experts * rows_i, K] packed, count = number of outputs (1..4); rows_i is N_i filled up to
//                        whole tiles of 16
//          b_1..b_count  [experts, N_i] f32, each optional
// outputs  y_i  [tokens, slots, N_i] f32; share no memory with x
//
// tolerance and rounding as matmul; the bits of a row depend neither on the other tokens of the call nor on threads
// source   Shazeer et al. 2017; transformers' eager expert loops
#pragma once

#include "contract/op.h"

namespace runnel {

inline constexpr int kMaxRoutedWeights = 4;

// Index of bias i among the inputs.
#define RNL_ROUTED_BIAS(count, i) (2 + (count) + (i))

}  // namespace runnel
