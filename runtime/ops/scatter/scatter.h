// scatter: x with rows of another array put in, or met with the rows that stand there, one after the other.
// y = x; then for each i: y[ids[i]] = f(y[ids[i]], updates[i])
// kinds    set (the new row), add, mul, max, min; max and min: NaN wins
//
// inputs   x        [rows, ...] f32 or i32
//          ids      [n] i32, of rows; below 0: from behind
//          updates  [n, ...] x's type and other axes
// outputs  y        the shape and type of x; may share memory with x
// attrs    kind
// states   none
// limits   i32 wraps around; rows whose number stands twice are met in order
// tolerance exact
// source   ONNX ScatterND, ScatterElements; numpy's ufunc.at
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of ScatterKind in model.fbs.
enum class ScatterKind : uint8_t { kSet = 0, kAdd = 1, kMul = 2, kMax = 3, kMin = 4 };

struct ScatterParams {
  ScatterKind kind;
};

}  // namespace runnel
