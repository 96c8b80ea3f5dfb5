// group_norm: the channels of each image in groups, each normalised over its channels and all places.
//   y[b, ..., c] = (x[b, ..., c] - mean) / sqrt(variance + eps) weight[c] + bias[c], of the group of c in image b
//
// inputs   x       [batch, ..., channels] f32, rank 2 or more
//          weight  [channels] f32, optional (1)
//          bias    [channels] f32, optional (0)
// outputs  y       the shape of x, f32; may share memory with x
// attrs    groups, which divide the channels (as many as channels: instance norm); eps in (0, 1)
// states   none
// tolerance 1e-5 of the largest |y|, times the largest |x| over the group's deviation where that is above 1
// source   Wu & He 2018, "Group Normalization"; torch.nn.GroupNorm
#pragma once

#include "contract/op.h"

namespace runnel {

struct GroupNormParams {
  int64_t groups;
  float eps;
};

}  // namespace runnel
