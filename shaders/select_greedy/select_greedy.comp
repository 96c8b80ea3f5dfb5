#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup for a group of a batch. Each round finds the highest key, then changes those of all others by what was
// taken. Keys are compared by rank, as numbers that are NaN need it.
#include "../common/common.glsl"
#include "../common/rank.glsl"

layout(push_constant) uniform Push {
  uint n, width, groups, capacity, all, rows, scores, limit, threshold, ids, keys;
} p;

const uint kGone = 0xff800000u, kGoneRank = 0x007fffffu;  // -infinity

shared uint ranks[LOCAL], places[LOCAL];  // a lane's best

float at(uint row, uint i) { return heap_f[row + i]; }

float shared_length(float a, float b, float c, float d) {
  return max(0.0, min(max(a, b), max(c, d)) - max(min(a, b), min(c, d)));
}

bool overlap(uint a, uint b, float limit) {
  const float area_a = abs((at(a, 2) - at(a, 0)) * (at(a, 3) - at(a, 1)));
  const float area_b = abs((at(b, 2) - at(b, 0)) * (at(b, 3) - at(b, 1)));
  if (!(area_a > 0.0 && area_b > 0.0)) return false;
  const float both = shared_length(at(a, 0), at(a, 2), at(b, 0), at(b, 2)) *
                     shared_length(at(a, 1), at(a, 3), at(b, 1), at(b, 3));
  return both / (area_a + area_b - both) > limit;
}

void main() {
  const uint lane = gl_LocalInvocationIndex, g = group();
  if (g >= p.all) return;
  const uint rows = p.rows + g / p.groups * p.n * p.width, keys = p.keys + g * p.n, ids = p.ids + g * p.capacity;
  const bool suppresses = p.limit != kAbsent;
  const float limit = suppresses ? heap_f[p.limit] : 0.0;
  const uint threshold = p.threshold == kAbsent ? kGoneRank : rank_of(heap_u[p.threshold]);
  for (uint i = lane; i < p.n; i += LOCAL) {
    const uint key = p.scores == kAbsent ? 0u : heap_u[p.scores + g * p.n + i];
    heap_u[keys + i] = threshold != 0u && rank_of(key) > max(threshold, kGoneRank) ? key : kGone;
  }
  uint count = 0u;
  for (; count < p.capacity; ++count) {
    uint best = kGoneRank, place = p.n;
    for (uint i = lane; i < p.n; i += LOCAL) {
      const uint own = rank_of(heap_u[keys + i]);
      if (own > best) best = own, place = i;
    }
    barrier();
    ranks[lane] = best;
    places[lane] = place;
    for (uint step = LOCAL / 2u; step > 0u; step /= 2u) {
      barrier();
      if (lane < step) {
        const uint other = ranks[lane + step], there = places[lane + step];
        if (other > ranks[lane] || (other == ranks[lane] && there < places[lane])) {
          ranks[lane] = other;
          places[lane] = there;
        }
      }
    }
    barrier();
    place = places[0];
    if (place == p.n) break;
    if (lane == 0u) heap_i[ids + count] = int(place);
    const uint taken = rows + place * p.width;
    // A lane keeps to its own keys.
    for (uint i = lane; i < p.n; i += LOCAL) {
      const uint key = rank_of(heap_u[keys + i]), row = rows + i * p.width;
      if (i == place) {
        heap_u[keys + i] = kGone;
      } else if (key > kGoneRank) {
        if (suppresses) {
          if (overlap(taken, row, limit)) heap_u[keys + i] = kGone;
        } else {
          float sum = 0.0;
          for (uint k = 0u; k < p.width; ++k) {
            const float d = at(taken, k) - at(row, k);
            sum = fma(d, d, sum);
          }
          const uint far = floatBitsToUint(sum);
          if (count == 0u || rank_of(far) < key) heap_u[keys + i] = far;
        }
      }
    }
  }
  for (uint i = count + lane; i < p.capacity; i += LOCAL) heap_i[ids + i] = -1;
}
