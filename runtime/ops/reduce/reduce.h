// reduce: one axis summed, averaged, or its largest or smallest value; the axis is gone from the result.
//
// inputs   x  f32, rank 1 or more
// outputs  y  x's shape without the axis; an axis of 0 gives 0 for sum, NaN for mean, -infinity and infinity for max
//          and min
// attrs    kind (sum, mean, max, min), axis
// tolerance 1e-6 of the sum of |x|; max and min exact, NaN wins
// source   numpy's sum, mean, max, min
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of ReduceKind in model.fbs.
enum class ReduceKind : uint8_t { kSum = 0, kMean = 1, kMax = 2, kMin = 3 };

struct ReduceParams {
  ReduceKind kind;
  int32_t axis;
};

}  // namespace runnel
