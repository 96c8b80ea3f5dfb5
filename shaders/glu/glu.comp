#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"

layout(constant_id = 0) const uint kKind = 0;
layout(push_constant) uniform Push { uint n, gate, up, y; } p;

void main() {
  const uint i = item();
  if (i < p.n) heap_f[p.y + i] = apply_unary(kKind, heap_f[p.gate + i], 1.0) * heap_f[p.up + i];
}
