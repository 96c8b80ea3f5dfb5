#version 450
#extension GL_GOOGLE_include_directive : require
// An invocation an element of y meets its rows of the updates one after the other.
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;  // set, add, mul, max, min
layout(constant_id = 1) const uint kIsFloat = 1;
layout(push_constant) uniform Push { uint n, x, ids, updates, y, inner, count, size; } p;

bool is_nan(uint bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

uint met(uint a, uint b) {
  if (kKind == 0u) return b;
  if (kIsFloat == 0u) {
    if (kKind == 1u) return a + b;
    if (kKind == 2u) return a * b;
    return uint(kKind == 3u ? max(int(a), int(b)) : min(int(a), int(b)));
  }
  const float u = uintBitsToFloat(a), v = uintBitsToFloat(b);
  if (kKind == 1u) return floatBitsToUint(u + v);
  if (kKind == 2u) return floatBitsToUint(u * v);
  if (is_nan(a)) return a;
  if (is_nan(b)) return b;
  return (kKind == 3u ? u > v : u < v) ? a : b;
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint row = i / p.inner, column = i % p.inner;
  uint own = heap_u[p.x + i];
  for (uint k = 0; k < p.count; ++k) {
    const int id = heap_i[p.ids + k];
    const uint given = uint(id < 0 ? id + int(p.size) : id);
    if (given >= p.size) fault(kFaultIndex);
    if (given == row) own = met(own, heap_u[p.updates + k * p.inner + column]);
  }
  heap_u[p.y + i] = own;
}
