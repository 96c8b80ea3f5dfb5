#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a matrix. The decomposition goes to scratch, row by row; columns of b are independent.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint batch, n, columns, a, b, x, l; float ridge; } p;

void main() {
  const uint index = group();
  if (index >= p.batch) return;
  const uint a = p.a + index * p.n * p.n, l = p.l + index * p.n * p.n, lane = gl_LocalInvocationIndex;
  for (uint j = 0; j < p.n; ++j) {
    // Column j: every invocation computes the pivot, then its own rows below.
    float pivot = heap_f[a + j * p.n + j] + p.ridge;
    for (uint k = 0; k < j; ++k) pivot -= heap_f[l + j * p.n + k] * heap_f[l + j * p.n + k];
    pivot = pivot > 0.0 ? sqrt(pivot) : uintBitsToFloat(0x7fc00000u);
    for (uint i = j + 1 + lane; i < p.n; i += LOCAL) {
      float v = heap_f[a + i * p.n + j];
      for (uint k = 0; k < j; ++k) v -= heap_f[l + i * p.n + k] * heap_f[l + j * p.n + k];
      heap_f[l + i * p.n + j] = v / pivot;
    }
    barrier();
    if (lane == 0) heap_f[l + j * p.n + j] = pivot;
    memoryBarrierBuffer();
    barrier();
  }
  for (uint c = lane; c < p.columns; c += LOCAL) {
    const uint b = p.b + index * p.n * p.columns + c, x = p.x + index * p.n * p.columns + c;
    for (uint i = 0; i < p.n; ++i) {
      float v = heap_f[b + i * p.columns];
      for (uint k = 0; k < i; ++k) v -= heap_f[l + i * p.n + k] * heap_f[x + k * p.columns];
      heap_f[x + i * p.columns] = v / heap_f[l + i * p.n + i];
    }
    for (uint i = p.n; i-- > 0;) {
      float v = heap_f[x + i * p.columns];
      for (uint k = i + 1; k < p.n; ++k) v -= heap_f[l + k * p.n + i] * heap_f[x + k * p.columns];
      heap_f[x + i * p.columns] = v / heap_f[l + i * p.n + i];
    }
  }
}
