#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, x, rows, y, inner, tokens; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint row = heap_u[p.rows + i / p.inner];
  if (row >= p.tokens) {
    fault(kFaultIndex);
    row = 0;
  }
  heap_u[p.y + i] = heap_u[p.x + row * p.inner + i % p.inner];
}
