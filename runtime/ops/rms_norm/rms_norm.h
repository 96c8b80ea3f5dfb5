// rms_norm: y[t, c] = x[t, c] / sqrt(mean_c(x[t, c]^2) + eps) * weight[c] + residual[t, c]
//
// inputs   x        [..., channels] f32
//          weight   [channels] f32, optional (1). "1 + w" of Gemma is folded by the converter.
//          residual the shape of x, f32, optional (0)
// outputs  y        the shape of x, f32; may share memory with x or residual
// attrs    eps > 0
// states   none
// tolerance 8 epsilons of f32, relative to the largest |y| of the row
// source   Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; transformers LlamaRMSNorm, Gemma3RMSNorm
#pragma once

#include "contract/op.h"

namespace runnel {

struct RmsNormParams {
  float eps;
};

}  // namespace runnel
