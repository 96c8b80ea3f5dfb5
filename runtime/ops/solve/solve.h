// solve: the x of (a + ridge I) x = b for symmetric positive definite matrices, by Cholesky's decomposition in double.
//
// inputs   a  [batch..., n, n] f32, the lower triangle is read; n <= 128     b  [batch..., n, columns] f32, the same
//          batch
// outputs  x  the shape of b, f32; may share memory with b
// attrs    ridge >= 0, finite
// limits   a matrix that is not positive definite gives NaN for all of its x
// tolerance 1e-6 times the condition of a
// source   scipy.linalg.cho_solve; the local regression of Local Linear Attention (Zuo et al. 2025)
#pragma once

#include "contract/op.h"

namespace runnel {

inline constexpr int kMaxSolveSize = 128;

struct SolveParams {
  float ridge;
};

}  // namespace runnel
