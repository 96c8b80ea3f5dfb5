#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup. The rank of the last score that is taken is found bit by bit; then each round of tokens gets its places
// from the sums over those before.
#include "../common/common.glsl"
#include "../common/rank.glsl"
#include "../common/reduce.glsl"

layout(push_constant) uniform Push { uint n, capacity, threshold, least, scores, ids, count; } p;

shared uint higher[LOCAL], equal[LOCAL];  // tokens of the round up to an invocation's: above the last rank, at it

uint count_from(uint rank) {
  float own = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < p.n; i += LOCAL) own += rank_of(heap_u[p.scores + i]) >= rank ? 1.0 : 0.0;
  return uint(group_sum(own));
}

void main() {
  const uint lane = gl_LocalInvocationIndex;
  const uint numbers = count_from(1u), reaching = count_from(max(1u, p.threshold));
  const uint taken = min(max(reaching, min(numbers, p.least)), p.capacity);
  uint last = 0u;
  for (uint bit = 0x80000000u; bit != 0u; bit >>= 1)
    if (count_from(last | bit) >= taken) last |= bit;
  const uint of_equal = taken - (last == 0xffffffffu ? 0u : count_from(last + 1u));
  uint at = 0u, seen = 0u;  // tokens taken so far, and those at the last rank, taken or not
  for (uint begin = 0u; begin < p.n; begin += LOCAL) {
    const uint rank = begin + lane < p.n ? rank_of(heap_u[p.scores + begin + lane]) : 0u;
    const bool is_number = rank != 0u, is_higher = is_number && rank > last, is_equal = is_number && rank == last;
    barrier();
    higher[lane] = uint(is_higher);
    equal[lane] = uint(is_equal);
    for (uint step = 1u; step < LOCAL; step *= 2u) {
      barrier();
      const uint h = lane >= step ? higher[lane - step] : 0u, e = lane >= step ? equal[lane - step] : 0u;
      barrier();
      higher[lane] += h;
      equal[lane] += e;
    }
    barrier();
    const uint before = min(seen, of_equal), mine = min(seen + equal[lane], of_equal);
    const bool is_taken = is_higher || (is_equal && seen + equal[lane] <= of_equal);
    if (is_taken) heap_i[p.ids + at + higher[lane] + mine - before - 1u] = int(begin + lane);
    at += higher[LOCAL - 1] + min(seen + equal[LOCAL - 1], of_equal) - before;
    seen += equal[LOCAL - 1];
  }
  for (uint i = taken + lane; i < p.capacity; i += LOCAL) heap_i[p.ids + i] = -1;
  if (lane == 0u && p.count != kAbsent) heap_i[p.count] = int(taken);
}
