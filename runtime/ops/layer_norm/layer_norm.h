// layer_norm: y[t, c] = (x[t, c] - mean_c) / sqrt(mean_c((x[t, c] - mean_c)^2) + eps) * weight[c] + bias[c]
//
// inputs   x       [..., channels] f32
//          weight  [channels] f32, optional (1)
//          bias    [channels] f32, optional (0)
// outputs  y       the shape of x, f32; may share memory with x
// attrs    eps in (0, 1)
// states   none
// tolerance 16 epsilons of f32, relative to the largest |y|, times the largest |x| over the row's deviation where that
// is above 1
// source   Ba, Kiros & Hinton 2016, "Layer Normalization"; torch.nn.LayerNorm
#pragma once

#include "contract/op.h"

namespace runnel {

struct LayerNormParams {
  float eps;
};

}  // namespace runnel
