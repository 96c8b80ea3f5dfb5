// transpose: axis i of y is axis perm[i] of x: y[j_0, j_1, ...] = x[k], k[perm[i]] = j_i.
//
// inputs   x  any element type, rank n
// outputs  y  x's type, dims[i] = x.dims[perm[i]]
// attrs    perm, a permutation of 0 .. n - 1; without it y is x
// states   none
// tolerance exact
// source   numpy.transpose
#pragma once

#include "contract/op.h"

namespace runnel {

struct TransposeParams {
  int32_t rank;  // -1: any
  uint8_t perm[kMaxRank];
};

}  // namespace runnel
