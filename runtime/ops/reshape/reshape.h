// reshape: y holds the elements of x in the same order under another shape, which the output declares.
//
// inputs   x  any element type and shape
// outputs  y  x's type, as many elements; may share memory with x, then nothing is to be done
// attrs, states  none
// tolerance exact
// source   numpy.reshape, C order
#pragma once

#include "contract/op.h"
