// unary: y = f(x), element by element. kinds:
//   relu max(x, 0)   sigmoid 1 / (1 + e^-x)   tanh   silu x sigmoid(x)   gelu x Phi(x), Phi by erf   exp  log  sqrt
//   rsqrt 1 / sqrt(x)
//   gelu_tanh x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the tanh form   gelu_quick x sigmoid(1.702 x)
//   square  neg  abs  floor  softplus log(1 + e^x)   relu_squared max(x, 0)^2   scale alpha x   softcap alpha tanh(x /
//           alpha)
//
// inputs   x  any shape, f32
// outputs  y  the shape of x, f32; may share memory with x
// attrs    kind; alpha: finite, used by scale and softcap (there positive)
// states   none
// limits   NaN stays NaN; large |x| saturates: x sigmoid(..) and gelu are 0 at -infinity. exp below -87.3 is 0 (no
//          subnormals).
// tolerance 8 epsilons of f32 of the value, times 1 + |argument of the sigmoid| for gelu_tanh and gelu_quick, plus
// 1e-36
//           32-bit Arm's NEON takes and gives subnormals as 0: there an x below 1.2e-38 counts as 0, and so does a
//           sigmoid
// source   torch.nn.functional of the same names; gelu_quick: transformers QuickGELUActivation; relu_squared: Primer,
//          So et al. 2021
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of UnaryKind in model.fbs; unary.cpp asserts that they agree.
enum class UnaryKind : uint8_t {
  kNone = 0,
  kRelu = 1,
  kSigmoid = 2,
  kTanh = 3,
  kSilu = 4,
  kGelu = 5,
  kGeluTanh = 6,
  kExp = 7,
  kLog = 8,
  kSqrt = 9,
  kRsqrt = 10,
  kSquare = 11,
  kNeg = 12,
  kAbs = 13,
  kSoftplus = 14,
  kReluSquared = 15,
  kGeluQuick = 16,
  kScale = 17,
  kSoftcap = 18,
  kFloor = 19
};
inline constexpr int kUnaryKinds = 20;

struct UnaryParams {
  UnaryKind kind;
  float alpha;
};

// One value in double; the reference of unary and glu.
double unary_reference(UnaryKind kind, double x, double alpha);

}  // namespace runnel
