#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;
layout(constant_id = 1) const uint kIsDense = 0;  // both operands have y's shape
layout(push_constant) uniform Push { uint n, a, b, y; uint dims[6], stride_a[6], stride_b[6]; } p;

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

float combine(float u, float v) {
  switch (kKind) {
    case 0u: return u + v;
    case 1u: return u - v;
    case 2u: return u * v;
    case 3u: return u / v;
    case 4u: return is_nan(u) || is_nan(v) ? u + v : max(u, v);
    default: return is_nan(u) || is_nan(v) ? u + v : min(u, v);
  }
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint a = i, b = i;
  if (kIsDense == 0u) {
    uint rest = i;
    a = b = 0;
    for (int d = 5; d >= 0; --d) {
      const uint at = rest % p.dims[d];
      rest /= p.dims[d];
      a += at * p.stride_a[d];
      b += at * p.stride_b[d];
    }
  }
  heap_f[p.y + i] = combine(heap_f[p.a + a], heap_f[p.b + b]);
}
