#version 450
#extension GL_GOOGLE_include_directive : require
// An invocation an element of y looks for the last of the rows that is its own.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, base, rows, values, y, inner, count, size; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint row = i / p.inner;
  uint from = p.base + i;
  for (uint k = 0; k < p.count; ++k) {
    const uint given = heap_u[p.rows + k];
    if (given >= p.size) fault(kFaultIndex);
    if (given == row) from = p.values + k * p.inner + i % p.inner;
  }
  heap_u[p.y + i] = heap_u[from];
}
