#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kActivation = 0;
layout(constant_id = 1) const uint kReverse = 0;
layout(push_constant) uniform Push { uint n, x, weight, bias, state, bounds, segments, y, tokens, channels, taps, dilation; } p;

// An item is a channel of a token.
void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint t = i / p.channels, c = i % p.channels;
  uvec2 own = uvec2(0, p.tokens);
  for (uint s = 0; s < p.segments; ++s) {
    own = segment(p.bounds, s, p.tokens);
    if (t >= own.x && t < own.x + own.y) break;
  }
  const uint step = kReverse != 0u ? own.x + own.y - 1u - t : t - own.x, past = (p.taps - 1u) * p.dilation;
  float sum = p.bias != kAbsent ? heap_f[p.bias + c] : 0.0;
  for (uint j = 0; j < p.taps; ++j) {
    const uint back = (p.taps - 1u - j) * p.dilation;
    float v = 0.0;
    if (back <= step) {
      const uint at = step - back;
      v = heap_f[p.x + (kReverse != 0u ? own.x + own.y - 1u - at : own.x + at) * p.channels + c];
    } else if (p.state != kAbsent) {
      v = state_f[p.state + (past + step - back) * p.channels + c];
    }
    sum += heap_f[p.weight + c * p.taps + j] * v;
  }
  heap_f[p.y + i] = apply_unary(kActivation, sum, 1.0);
}
