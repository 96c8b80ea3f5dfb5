#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kN = 16;  // elements of a channel's state
layout(constant_id = 1) const uint kSoftplus = 0;
layout(constant_id = 2) const uint kReverse = 0;
layout(push_constant) uniform Push {
  uint tokens, channels, groups, x, dt, a, b, c, d, dt_bias, state, bounds, segments, y, out_state;
  float dt_min, dt_max;
} p;

// An item is a channel through all tokens.
void main() {
  const uint ch = item();
  if (ch >= p.channels) return;
  const uint g = ch / (p.channels / p.groups);
  const float skip = p.d != kAbsent ? heap_f[p.d + ch] : 0.0, bias = p.dt_bias != kAbsent ? heap_f[p.dt_bias + ch] : 0.0;
  float a[kN], h[kN];
  for (uint k = 0; k < kN; ++k) a[k] = heap_f[p.a + ch * kN + k];
  for (uint s = 0; s < p.segments; ++s) {
    const uvec2 own = segment(p.bounds, s, p.tokens);
    for (uint k = 0; k < kN; ++k) h[k] = p.state != kAbsent ? state_f[p.state + ch * kN + k] : 0.0;
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, at = (t * p.groups + g) * kN;
      float d = heap_f[p.dt + t * p.channels + ch] + bias;
      if (kSoftplus != 0u) d = softplus(d);
      d = min(max(d, p.dt_min), p.dt_max);
      const float x = heap_f[p.x + t * p.channels + ch], dx = d * x;
      float y = skip * x;
      for (uint k = 0; k < kN; ++k) {
        h[k] = exp_exact(d * a[k]) * h[k] + heap_f[p.b + at + k] * dx;
        y += heap_f[p.c + at + k] * h[k];
      }
      heap_f[p.y + t * p.channels + ch] = y;
    }
    if (p.out_state != kAbsent)
      for (uint k = 0; k < kN; ++k) state_f[p.out_state + ch * kN + k] = h[k];
  }
}
