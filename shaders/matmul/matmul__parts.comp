#version 450
#extension GL_GOOGLE_include_directive : require
// Adds the parts that matmul computed side by side, in their order.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, parts, part_words, from, y, bias; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  float all = 0.0;
  for (uint k = 0; k < p.parts; ++k) all += heap_f[p.from + k * p.part_words + i];
  heap_f[p.y + i] = all + (p.bias != kAbsent ? heap_f[p.bias + i] : 0.0);
}
