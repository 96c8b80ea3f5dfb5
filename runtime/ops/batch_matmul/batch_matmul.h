// batch_matmul: products of two arrays of matrices, both computed by the model: y = scale a b. (For weights there is
// matmul.)
//
// inputs   a  [batch..., m, k] f32, or [batch..., k, m] with transpose_a        b  [batch..., k, n] f32, or [batch...,
//          n, k] with transpose_b
//             batch: leading axes, aligned at their right ends, which broadcast as numpy's do (equal, 1, or absent)
// outputs  y  [batch..., m, n] f32, shares no memory with an input
// attrs    transpose_a, transpose_b, scale finite
// tolerance 1e-6 k of the largest |a| |b| (f32 accumulation in the order of k); a row's bits depend neither on the
// other rows nor on threads
// source   numpy.matmul
#pragma once

#include "contract/op.h"

namespace runnel {

struct BatchMatmulParams {
  bool transpose_a, transpose_b;
  float scale;
};

}  // namespace runnel
