#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kIsFloat = 1;
layout(push_constant) uniform Push { uint n, y; float begin, step; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const float v = p.begin + p.step * float(i);
  if (kIsFloat != 0u) heap_f[p.y + i] = v;
  else heap_i[p.y + i] = int(v);
}
