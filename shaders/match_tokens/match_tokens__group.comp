#version 450
#extension GL_GOOGLE_include_directive : require
// Behind match_tokens__best. kStep 0: which tokens at even places join their match, those of the highest scores; the others' matches become kAbsent.
// kStep 1: every token's group.
#include "../common/common.glsl"

layout(constant_id = 0) const uint kStep = 0;
layout(push_constant) uniform Push { uint tokens, first, merged, groups, matches, chosen; } p;

void choose(uint a) {
  uint before = a < p.first ? p.merged : 0u;
  if (a >= p.first) {
    const float score = heap_f[p.matches + a];
    for (uint other = p.first; before < p.merged && other < p.tokens; other += 2u) {
      const float s = heap_f[p.matches + other];
      if (s > score || (other < a && s == score)) ++before;
    }
  }
  heap_u[p.chosen + a / 2u] = before < p.merged ? heap_u[p.matches + a + 1u] : kAbsent;
}

uint group_of(uint token) {
  const uint alone = (p.tokens + 1u) / 2u - p.merged;
  if ((token & 1u) != 0u) return alone + token / 2u;
  const uint with = heap_u[p.chosen + token / 2u];
  if (with != kAbsent) return alone + with / 2u;
  uint at = 0u;
  for (uint a = 0u; a < token / 2u; ++a) at += heap_u[p.chosen + a] == kAbsent ? 1u : 0u;
  return at;
}

void main() {
  const uint i = item();
  if (kStep == 0u) {
    if (2u * i < p.tokens) choose(2u * i);
  } else if (i < p.tokens) {
    heap_u[p.groups + i] = group_of(i);
  }
}
