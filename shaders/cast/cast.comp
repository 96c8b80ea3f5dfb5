#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kFromFloat = 1;
layout(push_constant) uniform Push { uint n, x, y; } p;

// Beyond the range of integers what a conversion gives is left to the device.
int whole(float x) {
  const uint bits = floatBitsToUint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0;
  if ((bits & 0x7fffffffu) >= 0x4f000000u) return bits >= 0x80000000u ? int(0x80000000u) : 0x7fffffff;
  return int(x);
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  if (kFromFloat != 0u) heap_i[p.y + i] = whole(heap_f[p.x + i]);
  else heap_f[p.y + i] = float(heap_i[p.x + i]);
}
