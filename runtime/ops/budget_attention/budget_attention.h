// budget_attention: attention over a stream in constant memory. Some of the keys and values stay, and how much
// attention they drew decides which.
//
// Positions are cut into blocks of P = block. A query at position p of block b = floor(p / P) sees the kept positions
// K_b and b P .. p:
//   w[h, p, j] = softmax over these j of scale q[p, h] . k[j, g],  y[p, h] = sum_j w[h, p, j] v[j, g],
//   g = h / (heads / kv_heads)
// K_0 is empty. When the last position of block b has been computed, the candidates are K_b and block b; with at most
// `budget` of them all stay, else the `recent` newest ones and of the others the budget - recent most important ones
// (of equal ones the earlier position; what is not a number counts as most important), each kv head for itself:
//   window = 0   important[j] = sum over the queries p that saw j so far, and over the heads of g, of w[h, p, j]
//   window > 0   the same over the last `window` queries of block b alone; of these sums the mean over the at most
//                `pool` candidates around j in their order (floor(pool / 2) on each side, fewer at the ends, the sum
//                still divided by pool)
// So a policy is decided at fixed positions, and the cut of a stream into calls changes nothing. A budget that is never
// reached gives attention over all.
//
// inputs   q        [tokens, heads, key] f32, heads a multiple of kv_heads
//          k        [tokens, kv_heads, key] f32
//          v        [tokens, kv_heads, value] f32
//          keys     [kv_heads, slots / 16, key, 16], recurrent state, f32 or f16; slots a multiple of 16, at least
//                   budget + block
//          values   [kv_heads, slots, value], recurrent state of the type of keys
//          weights  [kv_heads, slots] f32, recurrent state: sums of w
// outputs  y [tokens, heads, value] or [tokens, heads * value] f32; keys, values, weights after the call, which may be
//          the same memory as those that come in
// attrs    scale finite; block >= 1; recent <= budget; window <= block; pool odd
//          Slots 0 .. n - 1 are in use, in the order of their positions: n = min(budget, b P) + p - b P at position p.
//          What a state of f16 holds is seen rounded, by the call that brings it too.
//
// tolerance 1e-5 of the largest |v|; the choice is by sums in f32: positions whose importance differs by less than 1e-5
//           of the largest may change places. Bits depend neither on the cut into calls nor on threads
// source   H2O (Zhang et al. 2023): window 0; SnapKV (Li et al. 2024): window > 0
#pragma once

#include "contract/op.h"

namespace runnel {

struct BudgetAttentionParams {
  float scale;
  uint32_t budget, recent, block, window, pool;
};

// Slots in use when the stream holds `position` tokens.
int64_t slots_in_use(const BudgetAttentionParams& params, int64_t position);
// Which of n candidates stay: their slots, ascending, into `kept`; how many. weights: n sums; order: memory of n
// integers.
int64_t keep_slots(const BudgetAttentionParams& params, const float* weights, int64_t n, int32_t* order, int32_t* kept);

}  // namespace runnel
