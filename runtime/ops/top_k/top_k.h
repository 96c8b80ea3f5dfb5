// top_k: the k highest elements of each row, from the highest down, and where they stand; with smallest the k lowest
// from the lowest up. Of equal ones the one that stands first comes first, with last the one that stands last. NaN
// comes behind all numbers.
//
// inputs   x       [..., n] f32
// outputs  values  [..., k] f32, k <= n; shares no memory with x
//          ids     [..., k] i32, optional: places on the last axis
// attrs    smallest; last
// states   none
// tolerance exact
// source   ONNX TopK, ArgMax and ArgMin (k of 1; last: select_last_index)
#pragma once

#include "contract/op.h"

namespace runnel {

struct TopKParams {
  bool smallest, last;
};

}  // namespace runnel
