// slice: y = x[..., begin : begin + n, ...] along one axis, n the output's size of that axis.
//
// inputs   x  any element type, rank >= 1
// outputs  y  x's type and shape but for the axis
// attrs    axis; begin, counted from the end when negative
// states   none
// tolerance exact
// source   numpy basic slicing
#pragma once

#include "contract/op.h"

namespace runnel {

struct SliceParams {
  int64_t begin;
  int32_t axis;
};

}  // namespace runnel
