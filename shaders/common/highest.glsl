// The `taken` of n numbers with the highest ranks, of equal ones the first, listed in their order. The rank of the last one is
// found bit by bit; then each round of numbers gets its places from the counts before it. By all invocations of a workgroup;
// behind reduce.glsl. The including shader says how:
uint rank_at(uint i);           // at least 1 for as many numbers as are taken
void list(uint place, uint i);  // number i is the one at this place of the list

shared uint listed[LOCAL];  // numbers of a round up to an invocation's: above the last rank, and those at it << 16

uint count_from(uint n, uint rank) {
  float own = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < n; i += LOCAL) own += rank_at(i) >= rank ? 1.0 : 0.0;
  return uint(group_sum(own));
}

void list_highest(uint n, uint taken) {
  const uint lane = gl_LocalInvocationIndex;
  uint last = 0u;
  for (uint bit = 0x80000000u; bit != 0u; bit >>= 1)
    if (count_from(n, last | bit) >= taken) last |= bit;
  const uint of_equal = taken - (last == 0xffffffffu ? 0u : count_from(n, last + 1u));
  uint higher = 0u, equal = 0u;  // numbers before the round
  for (uint begin = 0u; begin < n; begin += LOCAL) {
    const uint rank = begin + lane < n ? rank_at(begin + lane) : 0u;
    const bool is_higher = rank > last, is_equal = rank == last;
    barrier();
    listed[lane] = uint(is_higher) | uint(is_equal) << 16;
    for (uint step = 1u; step < LOCAL; step *= 2u) {
      barrier();
      const uint left = lane >= step ? listed[lane - step] : 0u;
      barrier();
      listed[lane] += left;
    }
    barrier();
    const uint up_to = equal + (listed[lane] >> 16);
    if (is_higher || (is_equal && up_to <= of_equal))
      list(higher + (listed[lane] & 0xffffu) + min(up_to, of_equal) - 1u, begin + lane);
    higher += listed[LOCAL - 1] & 0xffffu;
    equal += listed[LOCAL - 1] >> 16;
  }
}
