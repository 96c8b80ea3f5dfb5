#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kParts = 1;  // 2: complex
layout(constant_id = 1) const uint kLogDecay = 0;
layout(constant_id = 2) const uint kReverse = 0;
layout(push_constant) uniform Push { uint tokens, channels, a, a_step, b, state, bounds, segments, y, out_state; } p;

// An item is a channel through all tokens.
void main() {
  const uint c = item();
  if (c >= p.channels) return;
  for (uint s = 0; s < p.segments; ++s) {
    const uvec2 own = segment(p.bounds, s, p.tokens);
    vec2 h = vec2(0);
    if (p.state != kAbsent)
      for (uint k = 0; k < kParts; ++k) h[k] = state_f[p.state + c * kParts + k];
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, at = (t * p.channels + c) * kParts;
      vec2 f = vec2(kLogDecay != 0u ? 0.0 : 1.0, 0);
      if (p.a != kAbsent)
        for (uint k = 0; k < kParts; ++k) f[k] = heap_f[p.a + (t * p.a_step + c) * kParts + k];
      if (kLogDecay != 0u) {
        const float size = exp_exact(f.x);
        f = kParts == 2u ? size * vec2(cos(f.y), sin(f.y)) : vec2(size, 0);
      }
      if (kParts == 1u) h.x = f.x * h.x + heap_f[p.b + at];
      else h = vec2(f.x * h.x - f.y * h.y, f.x * h.y + f.y * h.x) + vec2(heap_f[p.b + at], heap_f[p.b + at + 1u]);
      for (uint k = 0; k < kParts; ++k) heap_f[p.y + at + k] = h[k];
    }
    if (p.out_state != kAbsent)
      for (uint k = 0; k < kParts; ++k) state_f[p.out_state + c * kParts + k] = h[k];
  }
}
