#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;  // max, average
layout(push_constant) uniform Push {
  uint n, x, y, height, width, channels, out_height, out_width;
  int kernel_down, kernel_right, stride_down, stride_right, dilation_down, dilation_right, before_down, before_right;
  uint count_padding;
} p;

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint pixel = i / p.channels, line = pixel / p.out_width, image = line / p.out_height * p.height;
  const int row = int(line % p.out_height) * p.stride_down - p.before_down, column = int(pixel % p.out_width) * p.stride_right - p.before_right;
  float best = uintBitsToFloat(0xff800000u), sum = 0.0;
  int count = 0;
  for (int a = 0; a < p.kernel_down; ++a)
    for (int b = 0; b < p.kernel_right; ++b) {
      const int r = row + a * p.dilation_down, c = column + b * p.dilation_right;
      if (r < 0 || r >= int(p.height) || c < 0 || c >= int(p.width)) continue;
      const float v = heap_f[p.x + ((image + uint(r)) * p.width + uint(c)) * p.channels + i % p.channels];
      if (!is_nan(best)) best = is_nan(v) ? v : max(best, v);
      sum += v;
      ++count;
    }
  if (p.count_padding != 0u) count = p.kernel_down * p.kernel_right;
  heap_f[p.y + i] = kKind == 0u ? best : count == 0 ? 0.0 : sum / float(count);
}
