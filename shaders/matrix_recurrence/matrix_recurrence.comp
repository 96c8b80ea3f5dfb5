#version 450
#extension GL_GOOGLE_include_directive : require
// An item is one column of a head's matrix through all tokens; its `key` elements stay with the invocation.
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kKey = 64;
layout(constant_id = 1) const uint kRule = 0;  // add, delta, dplr
layout(constant_id = 2) const uint kReadBefore = 0;
layout(constant_id = 3) const uint kNormalise = 0;  // none, sum, bounded
layout(constant_id = 4) const uint kDecay = 0;      // rank of the decay, 0: none
layout(constant_id = 5) const uint kHasGate = 0;
layout(constant_id = 6) const uint kReverse = 0;
layout(constant_id = 7) const uint kSteps = 1;
// heads_*: heads of each operand, together one word each. decay_step: 0 when one row serves all tokens.
layout(push_constant) uniform Push {
  uint tokens, heads, value, heads_q, heads_k, heads_v, heads_ab;
  uint q, k, v, decay, decay_step, beta, a, b, bonus, gate, state, norm, largest, bounds, segments;
  uint y, out_state, out_norm, out_largest;
  float scale, eps;
} p;

void main() {
  const uint i0 = item();
  if (i0 >= p.heads * p.value) return;
  const uint head = i0 / p.value, column = i0 % p.value;
  const uint qh = head / (p.heads / p.heads_q), kh = head / (p.heads / p.heads_k), vh = head / (p.heads / p.heads_v);
  const uint abh = kRule == 2u ? head / (p.heads / p.heads_ab) : 0u;
  float s[kKey], n[kNormalise != 0u ? kKey : 1u];
  for (uint g = 0; g < p.segments; ++g) {
    const uvec2 own = segment(p.bounds, g, p.tokens);
    for (uint d = 0; d < kKey; ++d) s[d] = p.state != kAbsent ? state_f[p.state + (head * kKey + d) * p.value + column] : 0.0;
    if (kNormalise != 0u)
      for (uint d = 0; d < kKey; ++d) n[d] = p.norm != kAbsent ? state_f[p.norm + head * kKey + d] : 0.0;
    float m = p.largest != kAbsent ? state_f[p.largest + head] : 0.0;
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, q = p.q + (t * p.heads_q + qh) * kKey;
      // Decay of the whole matrix, where it is not one a key.
      float keep = 1.0, take = 1.0;
      if (kDecay == 1u || kDecay == 2u) keep = heap_f[p.decay + (kDecay == 1u ? 0u : t * p.heads) + head];
      if (kHasGate != 0u) {
        const float kept = (kDecay == 0u ? 0.0 : keep) + m, gate = heap_f[p.gate + t * p.heads + head];
        m = max(kept, gate);
        keep = exp_exact(kept - m);
        take = exp_exact(gate - m);
      } else if (kDecay == 1u || kDecay == 2u) {
        keep = exp_exact(keep);
      }
      float result = 0.0;
      if (kReadBefore != 0u) {
        float bonus = 0.0;
        const uint k = p.k + (t * p.heads_k + kh) * kKey;
        for (uint d = 0; d < kKey; ++d) {
          result += heap_f[q + d] * s[d];
          if (p.bonus != kAbsent) bonus += heap_f[q + d] * heap_f[p.bonus + head * kKey + d] * heap_f[k + d];
        }
        result += bonus * heap_f[p.v + (t * p.heads_v + vh) * p.value + column];
      }
      for (uint step = 0; step < kSteps; ++step) {
        const uint row = t * kSteps + step, k = p.k + (row * p.heads_k + kh) * kKey, ab = (row * p.heads_ab + abh) * kKey;
        float low = 0.0, seen = 0.0;
        if (kRule == 2u)
          for (uint d = 0; d < kKey; ++d) low += heap_f[p.a + ab + d] * s[d];
        if (step == 0u && kDecay == 3u) {
          const uint decay = p.decay + (t * p.decay_step + head) * kKey;
          for (uint d = 0; d < kKey; ++d) s[d] *= exp_exact(heap_f[decay + d]);
        } else if (step == 0u && (kDecay != 0u || kHasGate != 0u)) {
          for (uint d = 0; d < kKey; ++d) s[d] *= keep;
        }
        float v = heap_f[p.v + (row * p.heads_v + vh) * p.value + column];
        if (kRule == 1u) {
          for (uint d = 0; d < kKey; ++d) seen += heap_f[k + d] * s[d];
          v = (p.beta != kAbsent ? heap_f[p.beta + row * p.heads + head] : 1.0) * (v - seen);
        }
        v *= take;
        for (uint d = 0; d < kKey; ++d) s[d] += heap_f[k + d] * v;
        if (kRule == 2u)
          for (uint d = 0; d < kKey; ++d) s[d] += heap_f[p.b + ab + d] * low;
      }
      if (kReadBefore == 0u)
        for (uint d = 0; d < kKey; ++d) result += heap_f[q + d] * s[d];
      result *= p.scale;
      if (kNormalise != 0u) {
        const uint k = p.k + (t * p.heads_k + kh) * kKey, decay = p.decay + (t * p.decay_step + head) * kKey;
        float size = 0.0;
        for (uint d = 0; d < kKey; ++d) {
          n[d] = (kDecay == 3u ? exp_exact(heap_f[decay + d]) : kDecay != 0u || kHasGate != 0u ? keep : 1.0) * n[d] + take * heap_f[k + d];
          size += heap_f[q + d] * n[d];
        }
        size *= p.scale;
        result /= (kNormalise == 1u ? size : max(abs(size), exp_exact(-m))) + p.eps;
      }
      heap_f[p.y + (t * p.heads + head) * p.value + column] = result;
    }
    if (p.out_state != kAbsent)
      for (uint d = 0; d < kKey; ++d) state_f[p.out_state + (head * kKey + d) * p.value + column] = s[d];
    // Into scratch: other columns may not have read the states yet.
    if (column == 0u && p.out_norm != kAbsent && kNormalise != 0u)
      for (uint d = 0; d < kKey; ++d) heap_f[p.out_norm + head * kKey + d] = n[d];
    if (column == 0u && p.out_largest != kAbsent) heap_f[p.out_largest + head] = m;
  }
}
