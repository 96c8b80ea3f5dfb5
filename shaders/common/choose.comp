#version 450
#extension GL_GOOGLE_include_directive : require
// The number of the highest of n values, of equal ones the lowest: the best of each workgroup's part, then the best of those.
#include "common.glsl"

layout(constant_id = 0) const uint kLast = 0;
// part: values of a workgroup; x: the values or, for the last one, pairs of a key and a number.
layout(push_constant) uniform Push { uint n, x, part, to; } p;
shared uint best_key[LOCAL], best_at[LOCAL];

// Values as integers of the same order, so that no driver's rounding of small ones matters. Both zeros are equal; 0 is below every value.
uint key_of(uint bits) { return (bits & 0x7fffffffu) == 0u ? 0x80000000u : (bits >> 31) != 0u ? ~bits : bits | 0x80000000u; }

void main() {
  const uint lane = gl_LocalInvocationIndex, begin = group() * p.part, end = min(p.n, begin + p.part);
  uint key = 0u, at = 0xffffffffu;
  for (uint i = begin + lane; i < end; i += LOCAL) {
    const uint word = heap_u[kLast != 0u ? p.x + 2u * i : p.x + i];
    if (kLast == 0u && (word & 0x7f800000u) == 0x7f800000u) fault(kFaultNonFinite);
    const uint own = kLast != 0u ? word : key_of(word);
    if (own <= key) continue;
    key = own;
    at = kLast != 0u ? heap_u[p.x + 2u * i + 1u] : i;
  }
  best_key[lane] = key;
  best_at[lane] = at;
  for (uint half_size = LOCAL / 2; half_size > 0; half_size /= 2) {
    barrier();
    if (lane >= half_size) continue;
    const uint other = best_key[lane + half_size], other_at = best_at[lane + half_size];
    if (other < best_key[lane] || (other == best_key[lane] && other_at >= best_at[lane])) continue;
    best_key[lane] = other;
    best_at[lane] = other_at;
  }
  if (lane != 0u) return;
  if (kLast != 0u) {
    call_word[kChoice] = best_at[0];
    return;
  }
  heap_u[p.to + 2u * group()] = best_key[0];
  heap_u[p.to + 2u * group() + 1u] = best_at[0];
}
