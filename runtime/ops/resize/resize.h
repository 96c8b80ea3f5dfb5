// resize: images with another number of rows and columns. Each axis by itself: a place j of y's axis stands at a place
// of x's axis, and y is a sum of x's values around it.
// places   with s = scale, or size of y / size of x where it is 0
//   half_pixel (j + 0.5) / s - 0.5                pytorch_half_pixel the same, 0 where y has one place
//   half_pixel_symmetric half_pixel + (1 - size of y / (s size of x)) size of x / 2
//   align_corners j (size of x - 1) / (size of y - 1), 0 where y has one place
//   asymmetric j / s                              tf_half_pixel_for_nn (j + 0.5) / s
//   tf_crop_and_resize (begin + j (end - begin) / (size of y - 1)) (size of x - 1); where that lies beyond x, y is
//   `outside`; where y has one place, j / (size of y - 1) is 0.5
// An axis that keeps its size with a scale of 1 stays as it is, but for the crop.
// modes    nearest by `rounding`; linear over the two neighbours; cubic over four, with the coefficient `cubic`.
//          antialias: where s is below 1, linear and cubic reach 1 / s as far.
// edges    places beyond x count as the nearest within; exclude_outside: they have no weight, and the others are
//          divided by their sum
//
// inputs   x  [batch, height, width, channels] f32
// outputs  y  [batch, any, any, channels] f32, shares no memory with x
// attrs    mode, place, rounding, scale, roi (of the crop), cubic, antialias, exclude_outside, outside
// states   none
// limits   antialias: no crop, and a scale that is given is that of the sizes but for the rounding of y's; the weights
//          and places are f32
// tolerance 4e-6 of the largest |x|, for terms of up to 12 in cubic weights cancel; nearest exact. A device whose
// division is not exact may miss a place's last bit: then
//           a weight differs by 1e-7 of the place, and nearest takes the other of two that are as near
// source   ONNX Resize-19 as onnxruntime computes it; torch.nn.functional.interpolate
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of ResizeMode, ResizePlace and ResizeRounding in model.fbs.
enum class ResizeMode : uint8_t { kNearest = 0, kLinear = 1, kCubic = 2 };
enum class ResizePlace : uint8_t {
  kHalfPixel = 0,
  kSymmetric = 1,
  kPytorch = 2,
  kAlignCorners = 3,
  kAsymmetric = 4,
  kHalfPixelNearest = 5,
  kCrop = 6
};
enum class ResizeRounding : uint8_t { kPreferFloor = 0, kPreferCeil = 1, kFloor = 2, kCeil = 3 };

struct ResizeParams {
  float scale[2], begin[2], end[2];
  float cubic, outside;
  ResizeMode mode;
  ResizePlace place;
  ResizeRounding rounding;
  bool antialias, exclude_outside;
};

// Of one axis, how far a place reaches: taps of a sum, at most.
int64_t resize_taps(const ResizeParams& p, int axis, int64_t from, int64_t to);
// Taps of place j: `count` places of x from `first` on, with their weights. count 0: y is `outside`.
struct ResizeTaps {
  int32_t first, count;
};
ResizeTaps resize_taps_of(const ResizeParams& p, int axis, int64_t from, int64_t to, int64_t j, float* weights);

}  // namespace runnel
