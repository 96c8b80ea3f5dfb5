#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kReverse = 0;
layout(push_constant) uniform Push { uint tokens, heads, value, width, w, k, v, u, state, bounds, segments, y, out_state; } p;

// Stands for minus infinity: nothing was seen. Differences of it with itself are not taken.
const float kNothing = -3.0e38;
float decayed_weight(float from, float to) { return from <= kNothing ? 0.0 : exp_exact(from - to); }

void main() {
  const uint c = item(), channels = p.heads * p.value;
  if (c >= channels) return;
  const uint kc = p.width == 1u ? c / p.value : c;
  for (uint s = 0; s < p.segments; ++s) {
    const uvec2 own = segment(p.bounds, s, p.tokens);
    float num = 0.0, den = 0.0, largest = kNothing;
    if (p.state != kAbsent) {
      num = state_f[p.state + c];
      den = state_f[p.state + channels + c];
      if (den != 0.0) largest = state_f[p.state + 2u * channels + c];
    }
    const float w = p.w != kAbsent ? heap_f[p.w + kc] : 0.0;
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i;
      const float k = max(heap_f[p.k + t * p.heads * p.width + kc], kNothing), v = heap_f[p.v + t * channels + c];
      if (p.u != kAbsent) {
        const float bonus = heap_f[p.u + kc] + k, m = max(largest, bonus), past = decayed_weight(largest, m), now = exp_exact(bonus - m);
        heap_f[p.y + t * channels + c] = (past * num + now * v) / (past * den + now);
      }
      const float decayed = largest <= kNothing ? kNothing : largest + w, m = max(decayed, k);
      const float past = decayed_weight(decayed, m), now = decayed_weight(k, m);
      num = past * num + now * v;
      den = past * den + now;
      largest = m;
      if (p.u == kAbsent) heap_f[p.y + t * channels + c] = den == 0.0 ? 0.0 : num / den;
    }
    if (p.out_state != kAbsent) {
      state_f[p.out_state + c] = num;
      state_f[p.out_state + channels + c] = den;
      state_f[p.out_state + 2u * channels + c] = den == 0.0 ? 0.0 : largest;
    }
  }
}
