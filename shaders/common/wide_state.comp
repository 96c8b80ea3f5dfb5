#version 450
#extension GL_GOOGLE_include_directive : require
// A state of halves to floats in the heap and back, for operators that know floats alone. An item is a word of two halves.
#include "common.glsl"
#include "half.glsl"

layout(constant_id = 0) const uint kBack = 0;
layout(push_constant) uniform Push { uint n, state, wide; } p;  // n: elements

void main() {
  const uint i = item() * 2u;
  if (i >= p.n) return;
  const bool is_pair = i + 1u < p.n;
  if (kBack != 0u) {
    state_u[p.state + i / 2u] = half_bits(heap_f[p.wide + i]) | (is_pair ? half_bits(heap_f[p.wide + i + 1u]) << 16 : 0u);
    return;
  }
  const vec2 v = unpackHalf2x16(state_u[p.state + i / 2u]);
  heap_f[p.wide + i] = v.x;
  if (is_pair) heap_f[p.wide + i + 1u] = v.y;
}
