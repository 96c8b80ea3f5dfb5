// cell_recurrence: recurrent cells whose gates see their own output. The products of the inputs (and their bias) come
// in as x; the operator adds those of the output before, head by head (one head: a full matrix):
//   p_g = x_t[g] + R[g] h_{t-1} + r_bias[g]                   for each gate g, per head
//   rnn    (1 gate)       h = tanh(p_0)
//   lstm   (i, f, g, o)   c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
//   gru    (r, z, n)      n' = tanh(x_t[n] + sigmoid(r) (R[n] h + r_bias[n]));  h = (1 - sigmoid(z)) n' + sigmoid(z) h
//   slstm  (i, f, z, o)   l = log sigmoid(f), or f itself with forget_exp;  m' = max(l + m, i), or i while n = 0;
//                         c = e^{l + m - m'} c + e^{i - m'} tanh(z);  n = e^{l + m - m'} n + e^{i - m'};  h =
//                         sigmoid(o) c / n
// With reset_first a gru's candidate is tanh(x_t[n] + R[n] (sigmoid(r) h) + r_bias[n]). With peepholes w an lstm's
// gates see its cell: i and f add w[i] c and w[f] c of the token before, o adds w[o] c of its own. clip bounds what the
// functions of rnn, lstm and gru take to [-clip, clip]. gate stands in the place of sigmoid, candidate in that of the
// tanh over a candidate (rnn: over its gate), read in that of an lstm's tanh(c).
//
// inputs   x        [tokens, gates, heads, dim] f32
//          R        [gates, heads or 1, dim, dim] f32, rows are outputs; 1: of all heads, which are then sequences side
//                   by side
//          r_bias   [gates, heads or 1, dim] f32, optional
//          h, c, n, m  [heads, dim] f32 or f16, optional: before the call, zeros when absent. c of lstm and slstm, n
//          and m of slstm alone
//          segments [n + 1] i32, optional, without states only: bounds of independent sequences
//          peepholes [3, heads or 1, dim] f32, optional, of lstm alone: i, f, o
// outputs  y        [tokens, heads * dim] f32: h of each token; shares no memory with x
//          h, c, n, m  optional: after the call; may be the same memory as those that come in
// attrs    kind; forget_exp (slstm only); reverse: from the last token to the first; reset_first (gru only); clip, 0:
// none;
//          gate, candidate (not of slstm), read (lstm only): sigmoid, tanh or relu
//
// tolerance 1e-5 of the largest |y|; bits depend neither on the cut into calls (f32 states) nor on threads
// source   torch.nn.RNN, LSTM, GRU (gate orders as theirs); sLSTM of Beck et al. 2024, "xLSTM"; ONNX's RNN, LSTM and
// GRU
#pragma once

#include <cmath>

#include "contract/op.h"
#include "ops/unary/unary.h"

namespace runnel {

// Numbers of CellKind in model.fbs.
enum class CellKind : uint8_t { kRnn = 0, kLstm = 1, kGru = 2, kSlstm = 3 };

inline constexpr int kCellStates = 4;  // h, c, n, m

struct CellParams {
  CellKind kind;
  bool forget_exp = false, reverse = false, reset_first = false;
  UnaryKind gate = UnaryKind::kSigmoid, candidate = UnaryKind::kTanh, read = UnaryKind::kTanh;
  float clip = INFINITY;  // none
};

}  // namespace runnel
