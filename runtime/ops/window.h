// Windows that move over images [batch, height, width, channels]: what conv and pool share.
#pragma once

#include "base/status.h"
#include "contract/op.h"

namespace runnel {

// Along height and width.
struct WindowParams {
  int32_t kernel[2], stride[2], dilation[2];
  int32_t before[2], behind[2];  // places of padding
  int32_t groups;
  float least, most;
  uint8_t activation;  // UnaryKind
  uint8_t pool;        // PoolKind
  bool count_padding;
};

Status parse_window(const char* op, const void* attrs, WindowParams* params);
// Proves that y [batch, height, width, any] is what the window makes of x.
Status check_window(const char* op, const WindowParams& params, const TensorView& x, const TensorView& y);

}  // namespace runnel
