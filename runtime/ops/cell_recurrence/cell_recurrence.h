// cell_recurrence: recurrent cells whose gates see their own output. The products of the inputs (and their bias) come
// in as x; the operator adds those of the output before, head by head (one head: a full matrix):
//   p_g = x_t[g] + R[g] h_{t-1} + r_bias[g]                   for each gate g, per head
//   rnn    (1 gate)       h = tanh(p_0)
//   lstm   (i, f, g, o)   c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
//   gru    (r, z, n)      n' = tanh(x_t[n] + sigmoid(r) (R[n] h + r_bias[n]));  h = (1 - sigmoid(z)) n' + sigmoid(z) h
//   slstm  (i, f, z, o)   l = log sigmoid(f), or f itself with forget_exp;  m' = max(l + m, i), or i while n = 0;
//                         c = e^{l + m - m'} c + e^{i - m'} tanh(z);  n = e^{l + m - m'} n + e^{i - m'};  h =
//                         sigmoid(o) c / n
//
// inputs   x        [tokens, gates, heads, dim] f32
//          R        [gates, heads, dim, dim] f32, rows are outputs
//          r_bias   [gates, heads, dim] f32, optional
//          h, c, n, m  [heads, dim] f32 or f16, optional: before the call, zeros when absent. c of lstm and slstm, n
//          and m of slstm alone
//          segments [n + 1] i32, optional, without states only: bounds of independent sequences
// outputs  y        [tokens, heads * dim] f32: h of each token; shares no memory with x
//          h, c, n, m  optional: after the call; may be the same memory as those that come in
// attrs    kind; forget_exp (slstm only); reverse: from the last token to the first
//
// tolerance 1e-5 of the largest |y|; bits depend neither on the cut into calls (f32 states) nor on threads
// source   torch.nn.RNN, LSTM, GRU (gate orders as theirs); sLSTM of Beck et al. 2024, "xLSTM"
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of CellKind in model.fbs.
enum class CellKind : uint8_t { kRnn = 0, kLstm = 1, kGru = 2, kSlstm = 3 };

inline constexpr int kCellStates = 4;  // h, c, n, m

struct CellParams {
  CellKind kind;
  bool forget_exp, reverse;
};

}  // namespace runnel
