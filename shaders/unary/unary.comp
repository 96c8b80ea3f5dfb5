#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"

layout(constant_id = 0) const uint kKind = 0;
layout(push_constant) uniform Push { uint n, x, y; float alpha; } p;

void main() {
  const uint i = item();
  if (i < p.n) heap_f[p.y + i] = apply_unary(kKind, heap_f[p.x + i], p.alpha);
}
