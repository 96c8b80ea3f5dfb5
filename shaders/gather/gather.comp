#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

// Elements of y: [outer][count][inner], of x: [outer][size][inner].
layout(push_constant) uniform Push { uint n, x, ids, y, inner, count, size; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint row = i / p.inner;
  int id = heap_i[p.ids + row % p.count];
  if (id < 0) id += int(p.size);
  if (id < 0 || id >= int(p.size)) {
    fault(kFaultIndex);
    id = 0;
  }
  heap_u[p.y + i] = heap_u[p.x + (row / p.count * p.size + uint(id)) * p.inner + i % p.inner];
}
