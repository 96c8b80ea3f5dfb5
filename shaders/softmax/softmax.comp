#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/reduce.glsl"

layout(push_constant) uniform Push { uint rows, channels, x, y; float scale; } p;

#define kMinusInfinity uintBitsToFloat(0xff800000u)

void main() {
  const uint row = group();
  if (row >= p.rows) return;
  const uint at = row * p.channels;
  // The element that gives the largest scale * x; differences to it are taken before they are scaled.
  float best = kMinusInfinity, bad = 0.0;
  const float side = p.scale < 0.0 ? -1.0 : 1.0;
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) {
    const float v = heap_f[p.x + at + c];
    const uint bits = floatBitsToUint(p.scale * v);
    if ((bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u) bad = 1.0;
    best = max(best, side * v);
  }
  bad = group_max(bad);
  best = side * group_max(best);
  const bool nothing = floatBitsToUint(p.scale * best) == 0xff800000u;
  float sum = 0.0;
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) sum += nothing ? 0.0 : exp_exact(p.scale * (heap_f[p.x + at + c] - best));
  const float inverse = 1.0 / group_sum(sum);
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) {
    float v = nothing ? 0.0 : exp_exact(p.scale * (heap_f[p.x + at + c] - best)) * inverse;
    if (bad != 0.0) v = uintBitsToFloat(0x7fc00000u);
    heap_f[p.y + at + c] = v;
  }
}
