// expand: x repeated along its axes of 1, aligned at the last axis, until it has the shape of y.
//
// inputs   x  elements of 4 bytes: f32 or i32
// outputs  y  x's type, the shape that the output declares
// attrs, states  none
// tolerance exact
// source   numpy.broadcast_to
#pragma once

#include "contract/op.h"
