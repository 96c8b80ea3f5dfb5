#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kTransposeA = 0;
layout(constant_id = 1) const uint kTransposeB = 0;
// dims: the batch axes of y; the strides of a and b along them, in words
layout(push_constant) uniform Push { uint n, a, b, y, m, columns, k; float scale; uint dims[4], stride_a[4], stride_b[4]; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint column = i % p.columns, row = i / p.columns % p.m;
  uint rest = i / (p.columns * p.m), a = p.a, b = p.b;
  for (int d = 3; d >= 0; --d) {
    const uint at = rest % p.dims[d];
    rest /= p.dims[d];
    a += at * p.stride_a[d];
    b += at * p.stride_b[d];
  }
  const uint step_a = kTransposeA != 0u ? p.m : 1, step_b = kTransposeB != 0u ? 1 : p.columns;
  a += kTransposeA != 0u ? row : row * p.k;
  b += kTransposeB != 0u ? column * p.k : column;
  float sum = 0.0;
  for (uint d = 0; d < p.k; ++d) sum += heap_f[a + d * step_a] * heap_f[b + d * step_b];
  heap_f[p.y + i] = sum * p.scale;
}
