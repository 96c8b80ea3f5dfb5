// arithmetic: y = a op b with numpy broadcasting, for integers too, and what binary has not. kinds:
//   add sub mul div max min (integers: div towards zero, products and sums modulo 2^32)
//   mod with the sign of b, fmod with the sign of a, pow (floats)
//   equal unequal less at_most: i32, 1 where it holds, else 0 (NaN is unequal to all)
//   bit_and bit_or bit_xor of integers, truths of 0 and 1 among them
//
// inputs   a, b  f32 or i32, both of one type
// outputs  y     the broadcast shape; i32 of comparisons, else the type of a and b
// attrs    kind
// states   none
// limits   an integer divided by 0 gives 0
// tolerance exact; pow 1e-5 of the largest |y|
// source   numpy; ONNX's operators
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of ArithmeticKind in model.fbs.
enum class ArithmeticKind : uint8_t {
  kAdd = 0,
  kSub = 1,
  kMul = 2,
  kDiv = 3,
  kMax = 4,
  kMin = 5,
  kMod = 6,
  kFmod = 7,
  kPow = 8,
  kEqual = 9,
  kUnequal = 10,
  kLess = 11,
  kAtMost = 12,
  kAnd = 13,
  kOr = 14,
  kXor = 15
};
inline constexpr bool is_comparison(ArithmeticKind k) {
  return k >= ArithmeticKind::kEqual && k <= ArithmeticKind::kAtMost;
}

struct ArithmeticParams {
  ArithmeticKind kind;
};

}  // namespace runnel
