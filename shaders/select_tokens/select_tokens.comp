#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup.
#include "../common/common.glsl"
#include "../common/rank.glsl"
#include "../common/reduce.glsl"
#include "../common/highest.glsl"

layout(push_constant) uniform Push { uint n, capacity, threshold, least, scores, ids, count; } p;

uint rank_at(uint i) { return rank_of(heap_u[p.scores + i]); }
void list(uint place, uint i) { heap_i[p.ids + place] = int(i); }

void main() {
  const uint lane = gl_LocalInvocationIndex;
  const uint numbers = count_from(p.n, 1u), reaching = count_from(p.n, max(1u, p.threshold));
  const uint taken = min(max(reaching, min(numbers, p.least)), p.capacity);
  list_highest(p.n, taken);
  for (uint i = taken + lane; i < p.capacity; i += LOCAL) heap_i[p.ids + i] = -1;
  if (lane == 0u && p.count != kAbsent) heap_i[p.count] = int(taken);
}
