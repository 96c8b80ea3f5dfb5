// gather: y[..., j..., ...] = x[..., ids[j...], ...] along one axis, in whose place the axes of the ids stand.
//
// inputs   x    any element type, rank >= 1
//          ids  i32, any shape, each in [-n, n), n the size of the axis; negative ones count from behind; checked
//          before
//               each run
// outputs  y    x's type; x's axes before the axis, those of the ids, x's axes behind it
// attrs    axis
// states   none
// tolerance exact
// source   numpy.take
#pragma once

#include "contract/op.h"

namespace runnel {

struct GatherParams {
  int32_t axis;
};

}  // namespace runnel
