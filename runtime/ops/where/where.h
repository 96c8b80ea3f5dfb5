// where: y = a where the condition is not 0, else b; with numpy broadcasting.
//
// inputs   condition  i32
//          a, b       of one type with elements of 4 bytes: f32 or i32
// outputs  y          the broadcast shape of all three, that type
// attrs, states  none
// tolerance exact
// source   numpy.where
#pragma once

#include "contract/op.h"
