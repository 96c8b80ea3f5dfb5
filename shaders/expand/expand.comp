#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, x, y; uint dims[6], stride[6]; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint from = p.x, rest = i;
  for (int d = 5; d >= 0; --d) {
    from += rest % p.dims[d] * p.stride[d];
    rest /= p.dims[d];
  }
  heap_u[p.y + i] = heap_u[from];
}
