// inner_model: a small model a head whose weights are the state: every token trains it on its key and value, then asks
// it with its query.
//   model  z = x W1 (+ b1), or with hidden > 0  z = act(x W1 (+ b1)) W2 (+ b2);   f(x) = (residual: x +) (norm:
//          layer_norm(z) weight + bias, else z)
//   loss   of e = f(k) - v, by elements: squared 1/2 e^2; power |e|^p; huber 1/2 e^2 up to delta, beyond it delta (|e|
//          - delta / 2)
//   G_t    the loss's gradient by the weights, at the weights that the stream had when the token's batch of `batch`
//          tokens began
//   S_t  = momentum_t S_{t-1} - rate_t G_t                 (momentum absent: S_t = -rate_t G_t)
//   A_t  = keep_t A_{t-1} + S_t                            (keep absent: 1)
//   W_t  = map(A_t): identity; power A / |A|_q^(q-2), the norm over a whole matrix; softmax over each row of a matrix.
//        Biases: identity.
//   with `read`: W_t = W + read_t A_t, W the batch's first weights; when the batch ends W = W_t and A = 0
//   y_t  = f(scale q_t) with W_t
// Batches are counted from the start of the stream, not of the call.
//
// inputs   0 q, 1 k, 2 v  [tokens, heads, dim] f32        3 rate [tokens, heads] f32      4 keep, 5 momentum, 6 read
//          [tokens, heads] f32, optional;
//          read only with the identity and without keep and momentum      7 norm_weight, 8 norm_bias [heads, dim] f32,
//          optional, both or none
//          9 state [heads, planes, parameters] f32, optional (zeros). Planes: W of the batch's start, A, and with
//          momentum S. Parameters of a plane:
//          W1 [dim, dim | hidden], b1, W2 [hidden, dim], b2, one behind the other; biases only with `bias`
// outputs  0 y [tokens, heads, dim] f32, shares no memory with an input     1 state, optional, may be the memory that
//          came in
// attrs    hidden (0: no hidden layer), activation (relu, silu, gelu_tanh), bias, residual, loss, loss_power >= 1,
//          loss_delta > 0, map, map_power >= 2, batch >= 1, scale, eps
// tolerance 1e-4 of the largest |y| over streams of some hundred tokens whose training does not diverge; bits depend
// neither on the cut nor on threads
// source   TTT-Linear and TTT-MLP (Sun et al. 2024; read is their token scale), Titans (Behrouz et al. 2025), Moneta,
//          Yaad, Memora of Miras (Behrouz et al. 2025)
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of InnerLoss and InnerMap in model.fbs.
enum class InnerLoss : uint8_t { kSquared = 0, kPower = 1, kHuber = 2 };
enum class InnerMap : uint8_t { kIdentity = 0, kPower = 1, kSoftmax = 2 };

struct InnerModelParams {
  int64_t batch;
  int32_t hidden;
  uint8_t activation;  // UnaryKind
  InnerLoss loss;
  InnerMap map;
  bool bias, residual;
  float loss_power, loss_delta, map_power, scale, eps;
};

// Of one plane. Kernels call it, so that no copy of it may be left to the linker.
[[gnu::always_inline]] inline int64_t parameters_of(const InnerModelParams& p, int64_t dim) {
  const int64_t h = p.hidden;
  return h == 0 ? dim * dim + (p.bias ? dim : 0) : 2 * dim * h + (p.bias ? h + dim : 0);
}

}  // namespace runnel
