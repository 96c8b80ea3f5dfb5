// softmax over the last axis: y[t, c] = exp(scale x[t, c] - m_t) / sum_c exp(scale x[t, c] - m_t), m_t the largest
// scale x[t, c]. A row that holds nothing but -infinity gives 0 everywhere; a row with NaN or +infinity gives NaN.
//
// inputs   x  [..., channels] f32
// outputs  y  the shape of x, f32; may share memory with x
// attrs    scale, finite
// states   none
// tolerance 16 epsilons of f32, relative to the largest y
// source   torch.softmax
#pragma once

#include "contract/op.h"

namespace runnel {

struct SoftmaxParams {
  float scale;
};

}  // namespace runnel
