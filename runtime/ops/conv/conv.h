// conv: a convolution over images, one filter bank a group of channels.
//   y[b, i, j, o] = act(bias[o] + sum_{p, q, c} w[o, p, q, c] x[b, i stride - before + p dilation, j ..., g in + c])
// g = the group of output o, in = channels / groups; places outside of x count as 0. Lines are images of height 1.
//
// inputs   x       [batch, height, width, channels] f32
//          weight  [out, kernel height x kernel width x in] packed, of a float kind; rows in the order [p, q, c]
//                  or, with one filter for each channel (groups = channels = out), [kernel height x kernel width,
//                  channels] f32
//          bias    [out] f32, optional (0)
// outputs  y       [batch, (height + before + behind - reach) / stride + 1, ..., out] f32, reach = (kernel - 1)
// dilation
//                  + 1; shares no memory with x
// attrs    kernel, stride, dilation, pad (before and behind), groups; activation (of unary), then results are held
//          within least and most
// states   none
// tolerance 2 sqrt(columns) epsilons of f32 of the largest sum of |w x|; a result's bits do not depend on threads
// source   torch.nn.functional.conv2d; Zhang et al. 2018 for products over windows that are never written out
#pragma once

#include "ops/window.h"

namespace runnel {

// The weight is one of filters for single channels.
inline bool is_channelwise(const TensorView& weight) { return weight.dtype == DType::kF32; }

}  // namespace runnel
