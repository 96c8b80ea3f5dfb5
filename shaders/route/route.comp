#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a token; scores, choices and chosen ids are in shared memory, and one invocation chooses.
#include "../common/common.glsl"
#include "../common/math.glsl"

layout(constant_id = 0) const uint kExperts = 64;
layout(constant_id = 1) const uint kScoring = 0;  // softmax, sigmoid, none
layout(constant_id = 2) const uint kSelectFirst = 0;
layout(constant_id = 3) const uint kRenormalise = 0;
layout(constant_id = 4) const uint kTop2 = 0;
layout(constant_id = 5) const uint kGroups = 1;
layout(push_constant) uniform Push { uint tokens, k, logits, bias, weights, ids, top_groups; float eps, scale; } p;

shared float score[kExperts];
shared float choice[kExperts];
shared float group_score[kGroups];

#define kMinusInfinity uintBitsToFloat(0xff800000u)
// Taken entries: NaN compares false with everything.
#define kTaken uintBitsToFloat(0x7fc00000u)
bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

uint best_choice(uint first, uint n, uint but) {
  uint best = 0xffffffffu;
  for (uint i = first; i < first + n; ++i) {
    if (i == but || is_nan(choice[i])) continue;
    if (best == 0xffffffffu || choice[i] > choice[best]) best = i;
  }
  return best;
}

void main() {
  const uint t = group(), lane = gl_LocalInvocationIndex;
  if (t >= p.tokens) return;
  const uint at = p.logits + t * kExperts;
  float largest = kMinusInfinity, sum = 0.0;
  if (kScoring == 0u && kSelectFirst == 0u) {
    for (uint i = 0; i < kExperts; ++i) largest = heap_f[at + i] > largest ? heap_f[at + i] : largest;
    for (uint i = 0; i < kExperts; ++i) sum += exp_exact(heap_f[at + i] - largest);
  }
  for (uint i = lane; i < kExperts; i += LOCAL) {
    const float x = heap_f[at + i];
    const float s = kSelectFirst != 0u || kScoring == 2u ? x : kScoring == 1u ? sigmoid(x) : exp_exact(x - largest) / sum;
    const float c = s + (p.bias != kAbsent ? heap_f[p.bias + i] : 0.0);
    score[i] = s;
    choice[i] = is_nan(c) ? kMinusInfinity : c;
  }
  barrier();
  if (lane != 0u) return;
  if (kGroups > 1u) {
    const uint size = kExperts / kGroups;
    for (uint g = 0; g < kGroups; ++g) {
      const uint first = best_choice(g * size, size, 0xffffffffu);
      group_score[g] = choice[first];
      if (kTop2 != 0u) group_score[g] += choice[best_choice(g * size, size, first)];
    }
    for (uint n = 0; n < p.top_groups; ++n) {
      uint best = 0xffffffffu;
      for (uint g = 0; g < kGroups; ++g)
        if (!is_nan(group_score[g]) && (best == 0xffffffffu || group_score[g] > group_score[best])) best = g;
      group_score[best] = kTaken;
    }
    for (uint i = 0; i < kExperts; ++i)
      if (!is_nan(group_score[i / size])) choice[i] = kTaken;
  }
  const uint out_at = t * p.k;
  float by = 0.0, first_logit = 0.0, total = 0.0;
  for (uint n = 0; n < p.k; ++n) {
    const uint best = best_choice(0, kExperts, 0xffffffffu);
    choice[best] = kTaken;
    heap_u[p.ids + out_at + n] = best;
    if (n == 0u) first_logit = heap_f[at + best];
    float s = score[best];
    if (kSelectFirst != 0u) s = kScoring == 0u ? exp_exact(s - first_logit) : kScoring == 1u ? sigmoid(s) : s;
    total += s;
    heap_f[p.weights + out_at + n] = s;
  }
  const float share = kSelectFirst != 0u && kScoring == 0u ? total : 1.0;
  by = kRenormalise != 0u ? p.eps + total / share : 1.0;
  for (uint n = 0; n < p.k; ++n) heap_f[p.weights + out_at + n] = heap_f[p.weights + out_at + n] / share / by * p.scale;
}
