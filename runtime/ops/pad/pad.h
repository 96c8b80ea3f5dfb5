// pad: x with places around it. The axes of the output say how many there are behind; negative numbers of places cut x.
// kinds: constant (the value), edge (the nearest place of x), reflect (mirrored at the edge, which is not repeated),
// wrap (x again).
//
// inputs   x  f32 or i32, rank 1 or more
// outputs  y  x's type and rank
// attrs    kind; begin: places before each axis; value (of i32 its whole part)
// states   none
// limits   reflect: an axis of 1 is repeated
// tolerance exact
// source   numpy.pad
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of PadKind in model.fbs.
enum class PadKind : uint8_t { kConstant = 0, kEdge = 1, kReflect = 2, kWrap = 3 };

struct PadParams {
  int32_t begin[kMaxRank];
  int32_t rank;
  float value;
  PadKind kind;
};

}  // namespace runnel
