// math: y = f(x), element by element: the functions that graphs from elsewhere use beside those of unary. kinds:
//   ceil   round (halves to the even number)   sign   erf   sin cos tan asin acos atan sinh cosh asinh acosh atanh
//   elu x, below 0 alpha (e^x - 1)   leaky_relu x, below 0 alpha x   hard_sigmoid alpha x + beta within 0 and 1
//   hard_swish x times hard_sigmoid   clip x within alpha and beta, which may be infinite
//
// inputs   x  any shape, f32
// outputs  y  the shape of x, f32; may share memory with x
// attrs    kind, alpha, beta
// states   none
// tolerance 1e-6 of the largest |y|, angles below 1e4; NaN stays NaN
// source   ONNX's operators of the same names
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of MathKind in model.fbs; math.cpp asserts that they agree.
enum class MathKind : uint8_t {
  kCeil = 0,
  kRound = 1,
  kSign = 2,
  kErf = 3,
  kSin = 4,
  kCos = 5,
  kTan = 6,
  kAsin = 7,
  kAcos = 8,
  kAtan = 9,
  kSinh = 10,
  kCosh = 11,
  kAsinh = 12,
  kAcosh = 13,
  kAtanh = 14,
  kElu = 15,
  kLeakyRelu = 16,
  kHardSigmoid = 17,
  kHardSwish = 18,
  kClip = 19
};
inline constexpr int kMathKinds = 20;

struct MathParams {
  MathKind kind;
  float alpha, beta;
};

}  // namespace runnel
