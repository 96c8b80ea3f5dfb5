#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;  // sum, mean, max, min
layout(push_constant) uniform Push { uint n, x, y, size, inner; } p;

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint at = p.x + i / p.inner * p.size * p.inner + i % p.inner;
  if (kKind < 2u) {
    // Pairs of compensated sums keep the error independent of the length.
    precise float sum = 0.0, rest = 0.0;
    for (uint k = 0; k < p.size; ++k) {
      precise float v = heap_f[at + k * p.inner] - rest;
      precise float next = sum + v;
      rest = (next - sum) - v;
      sum = next;
    }
    heap_f[p.y + i] = kKind == 0u ? sum : p.size == 0u ? uintBitsToFloat(0x7fc00000u) : sum / float(p.size);
    return;
  }
  float best = uintBitsToFloat(kKind == 2u ? 0xff800000u : 0x7f800000u);
  for (uint k = 0; k < p.size; ++k) {
    const float v = heap_f[at + k * p.inner];
    if (is_nan(best)) break;
    best = is_nan(v) ? v : kKind == 2u ? max(best, v) : min(best, v);
  }
  heap_f[p.y + i] = best;
}
