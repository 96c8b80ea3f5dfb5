// cast: the numbers of x as another type: f32 to i32 towards zero (beyond the range of i32 its nearest end, NaN 0), i32
// to f32 rounded to the nearest.
//
// inputs   x  f32 or i32, any shape
// outputs  y  the shape of x, the other of these types
// attrs, states  none
// tolerance exact
// source   numpy.ndarray.astype
#pragma once

#include "contract/op.h"
