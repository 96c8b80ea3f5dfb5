// gather_rows: y[r, ...] = x[rows[r], ...]
//
// inputs   x     [tokens, ...] any element type
//          rows  [R] i32, each in [0, tokens), checked before each run
// outputs  y     [R, ...] of x's type
// attrs, states  none
// tolerance exact
// source   numpy.take along axis 0
#pragma once

#include "contract/op.h"
