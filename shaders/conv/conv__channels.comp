#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/window.glsl"

layout(constant_id = 0) const uint kActivation = 0;

// One invocation a result, one filter a channel.
void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint o = i % p.out_channels, pixel = i / p.out_channels;
  int row, column;
  uint image;
  window_of(pixel, row, column, image);
  float sum = 0.0;
  for (int a = 0; a < p.kernel_down; ++a)
    for (int b = 0; b < p.kernel_right; ++b) {
      const int r = row + a * p.dilation_down, c = column + b * p.dilation_right;
      if (is_inside(r, c))
        sum = fma(heap_f[p.weights + uint(a * p.kernel_right + b) * p.channels + o], heap_f[p.x + ((image + uint(r)) * p.width + uint(c)) * p.channels + o], sum);
    }
  write_result(pixel, o, sum, kActivation);
}
