// index: y[i] = begin + step i, the numbers of the places on an axis.
//
// inputs   none
// outputs  y  [n] f32 or i32
// attrs    begin, step; whole for i32
// states   none
// limits   i32 beyond its range is cut to it
// tolerance exact while the numbers are below 2^24, else 1 epsilon of f32
// source   numpy.arange
#pragma once

#include "contract/op.h"

namespace runnel {

struct IndexParams {
  float begin, step;
};

}  // namespace runnel
