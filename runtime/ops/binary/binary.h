// binary: y = a op b with numpy broadcasting: shapes are aligned at the last axis, an axis of 1 (or a missing one) is
// repeated. kinds: add sub mul div max min (NaN in either operand gives NaN).
//
// inputs   a, b  f32, any rank
// outputs  y     the broadcast shape, f32; may share memory with an input that has this shape
// attrs    kind
// states   none
// tolerance exact
// source   numpy's broadcasting rules
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of BinaryKind in model.fbs; binary.cpp asserts that they agree.
enum class BinaryKind : uint8_t { kAdd = 0, kSub = 1, kMul = 2, kDiv = 3, kMax = 4, kMin = 5 };

struct BinaryParams {
  BinaryKind kind;
};

}  // namespace runnel
