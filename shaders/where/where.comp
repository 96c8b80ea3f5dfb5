#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, condition, a, b, y; uint dims[6], stride_condition[6], stride_a[6], stride_b[6]; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint condition = p.condition, a = p.a, b = p.b, rest = i;
  for (int d = 5; d >= 0; --d) {
    const uint at = rest % p.dims[d];
    rest /= p.dims[d];
    condition += at * p.stride_condition[d];
    a += at * p.stride_a[d];
    b += at * p.stride_b[d];
  }
  heap_u[p.y + i] = heap_u[heap_i[condition] != 0 ? a : b];
}
