// matrix_recurrence: a matrix of memory S [key, value] a head, changed by every token and read with a query.
//   S' = diag(e^decay) S                            (before the first of a token's steps only)
//   add    S = S' + k v^T
//   delta  S = S' + beta k (v - S'^T k)^T           = (I - beta k k^T) S' + beta k v^T
//   dplr   S = S' + b (a^T S)^T + k v^T             with S undecayed
//   read after:  y = scale S_t^T q
//   read before: y = scale (S_{t-1}^T q + (sum_i q_i bonus_i k_i) v)
//   gate:  m_t = max(decay + m_{t-1}, gate_t), S = e^{decay + m_{t-1} - m_t} S + e^{gate_t - m_t} k v^T, n likewise
//          with k; rule add
//   n_t = e^decay n_{t-1} + k;  sum: y /= scale q . n + eps;  bounded: y /= max(|scale q . n|, e^-m) + eps, m = 0
//   without a gate
//
// inputs   0 q        [tokens, q_heads, key] f32          1 k  [tokens * steps, k_heads, key] f32      2 v  [tokens *
//          steps, v_heads, value] f32
//          3 decay    natural log: [heads], [tokens, heads] or [tokens | 1, heads, key] f32, optional
//          4 beta     [tokens * steps, heads] f32: delta (1 when absent)
//          5 a, 6 b   [tokens * steps, ab_heads, key] f32: dplr
//          7 bonus    [heads, key] f32, optional, read before
//          8 gate     [tokens, heads] f32, optional: log input gate; decay must be [tokens, heads] or [heads]
//          9 state    [heads, key, value] f32 or f16, optional       10 norm  [heads, key], optional, normalise only
//          11 max  [heads] f32, optional, gate only
//          12 segments [n + 1] i32, optional, without states only
//          heads is that of y; q_heads, k_heads, v_heads and ab_heads divide it, and head h uses their head h / (heads
//          / q_heads)
// outputs  0 y [tokens, heads, value] f32, shares no memory with an input      1 state   2 norm   3 max, all optional,
//          each may be the memory that came in
// attrs    rule, scale (of q), steps >= 1 (decay, gate and normalise only with 1 but for decay), read, normalise, eps,
//          reverse
//
// tolerance 2e-5 of the largest |y|; bits depend neither on the cut into calls (f32 states) nor on threads
// source   flash-linear-attention's naive forms (gla, gated_delta_rule, kda, dplr, rwkv6, gated_delta_product,
//          simple_gla); Mamba-2 (Dao & Gu 2024),
//          RWKV-5/6/7 (Peng et al.), xLSTM (Beck et al. 2024), DeltaProduct (Siems et al. 2025)
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of RecurrenceRule, RecurrenceRead and RecurrenceNorm in model.fbs.
enum class RecurrenceRule : uint8_t { kAdd = 0, kDelta = 1, kDplr = 2 };
enum class RecurrenceRead : uint8_t { kAfter = 0, kBefore = 1 };
enum class RecurrenceNorm : uint8_t { kNone = 0, kSum = 1, kBounded = 2 };

struct MatrixRecurrenceParams {
  RecurrenceRule rule;
  RecurrenceRead read;
  RecurrenceNorm normalise;
  bool reverse;
  int32_t steps;
  float scale, eps;
};

}  // namespace runnel
