#version 450
#extension GL_GOOGLE_include_directive : require
// A channel's state goes through all tokens in lanes side by side.
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"
#include "../common/lanes.glsl"

layout(constant_id = 5) const uint kSoftplus = 0;
layout(constant_id = 6) const uint kReverse = 0;
layout(push_constant) uniform Push {
  uint tokens, channels, groups, x, dt, a, b, c, d, dt_bias, state, bounds, segments, y, out_state;
  float dt_min, dt_max;
} p;

void main() {
  if (group() * kColumns >= p.channels) return;
  // Lanes without a channel follow the last channel for the sake of the barriers.
  const uint ch = min(column_of(), p.channels - 1u), g = ch / (p.channels / p.groups);
  const bool is_own = column_of() < p.channels;
  const float skip = p.d != kAbsent ? heap_f[p.d + ch] : 0.0, bias = p.dt_bias != kAbsent ? heap_f[p.dt_bias + ch] : 0.0;
  vec4 a[kQuads], h[kQuads];
  for (uint e = 0; e < kQuads; ++e) a[e] = row_quad(p.a + ch * kSize, e);
  for (uint s = 0; s < p.segments; ++s) {
    const uvec2 own = segment(p.bounds, s, p.tokens);
    for (uint e = 0; e < kQuads; ++e) h[e] = p.state != kAbsent ? state_quad(p.state + ch * kSize, 1u, e) : vec4(0.0);
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, at = (t * p.groups + g) * kSize;
      float d = heap_f[p.dt + t * p.channels + ch] + bias;
      if (kSoftplus != 0u) d = softplus(d);
      d = min(max(d, p.dt_min), p.dt_max);
      const float x = heap_f[p.x + t * p.channels + ch], dx = d * x;
      float y = 0.0;
      for (uint e = 0; e < kQuads; ++e) {
        h[e] = exp_quad(d * a[e]) * h[e] + row_quad(p.b + at, e) * dx;
        y += dot(row_quad(p.c + at, e), h[e]);
      }
      y = column_sum(y) + skip * x;
      if (lane_of() == 0u && is_own) heap_f[p.y + t * p.channels + ch] = y;
    }
    if (p.out_state != kAbsent && is_own)
      for (uint e = 0; e < kQuads; ++e) write_state_quad(p.out_state + ch * kSize, 1u, e, h[e]);
  }
}
