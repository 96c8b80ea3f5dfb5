// pool: the largest value, or the average, of each channel within windows over an image.
//
// inputs   x  [batch, height, width, channels] f32
// outputs  y  [batch, (height + before + behind - reach) / stride + 1, ..., channels] f32, reach = (kernel - 1)
// dilation
//             + 1; shares no memory with x
// attrs    kernel, stride, dilation, pad; pool (max, average); count_padding: the average is over all places of the
//          window, those in the padding among them, else over those within x
// states   none
// limits   a window that lies in the padding alone gives -infinity, or 0 as an average; NaN wins
// tolerance max exact; average 1e-6 of the largest |x|
// source   torch.nn.functional.max_pool2d, avg_pool2d
#pragma once

#include "ops/window.h"

namespace runnel {

// Numbers of PoolKind in model.fbs.
enum class PoolKind : uint8_t { kMax = 0, kAverage = 1 };

}  // namespace runnel
