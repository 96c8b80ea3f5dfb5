#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a row. Each round finds the best of those elements that come behind the one that was found before.
#include "../common/common.glsl"
#include "../common/rank.glsl"

layout(constant_id = 0) const uint kSmallest = 0;
layout(constant_id = 1) const uint kLast = 0;
layout(push_constant) uniform Push { uint n, k, rows, x, values, ids; } p;

shared uint ranks[LOCAL], places[LOCAL];  // a lane's best

uint rank_at(uint i) {
  const uint bits = heap_u[p.x + i];
  return rank_of(kSmallest != 0u ? bits ^ 0x80000000u : bits);
}
// Whether the element at `a` comes before the one at `b`.
bool is_before(uint rank_a, uint a, uint rank_b, uint b) {
  return rank_a != rank_b ? rank_a > rank_b : kLast != 0u ? a > b : a < b;
}

void main() {
  const uint row = group(), lane = gl_LocalInvocationIndex, begin = row * p.n;
  if (row >= p.rows) return;
  uint rank = 0u, place = 0u;
  for (uint round = 0u; round < p.k; ++round) {
    uint best = 0u, at = 0xffffffffu;
    for (uint i = lane; i < p.n; i += LOCAL) {
      const uint own = rank_at(begin + i);
      if (round > 0u && !is_before(rank, place, own, i)) continue;
      if (at == 0xffffffffu || is_before(own, i, best, at)) best = own, at = i;
    }
    barrier();
    ranks[lane] = best;
    places[lane] = at;
    for (uint step = LOCAL / 2u; step > 0u; step /= 2u) {
      barrier();
      const uint other = lane < step ? places[lane + step] : 0xffffffffu;
      if (other != 0xffffffffu && (places[lane] == 0xffffffffu || is_before(ranks[lane + step], other, ranks[lane], places[lane]))) {
        ranks[lane] = ranks[lane + step];
        places[lane] = other;
      }
    }
    barrier();
    rank = ranks[0];
    place = places[0];
    if (lane == 0u) {
      heap_u[p.values + row * p.k + round] = heap_u[p.x + begin + place];
      if (p.ids != kAbsent) heap_i[p.ids + row * p.k + round] = int(place);
    }
  }
}
