#version 450
#extension GL_GOOGLE_include_directive : require
// Reports a value that holds NaN or infinity.
#include "common.glsl"

layout(push_constant) uniform Push { uint n, x; } p;

void main() {
  const uint i = item();
  if (i < p.n && (heap_u[p.x + i] & 0x7f800000u) == 0x7f800000u) fault(kFaultNonFinite);
}
