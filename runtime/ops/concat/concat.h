// concat: the inputs one after the other along one axis.
//
// inputs   x_1 .. x_n  2 to 16, one element type, the same shape but for the axis
// outputs  y           that type; its axis is the sum of theirs
// attrs    axis
// states   none
// tolerance exact
// source   numpy.concatenate
#pragma once

#include "contract/op.h"

namespace runnel {

struct ConcatParams {
  int32_t axis;
};

}  // namespace runnel
