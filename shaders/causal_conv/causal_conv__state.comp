#version 450
#extension GL_GOOGLE_include_directive : require
// The newest inputs become the state, in rising order: a row is read before it is written, also when both states are the same memory.
#include "../common/common.glsl"

layout(constant_id = 0) const uint kReverse = 0;
layout(push_constant) uniform Push { uint x, state, out_state, tokens, channels, past; } p;

void main() {
  const uint c = item();
  if (c >= p.channels) return;
  for (uint i = 0; i < p.past; ++i) {
    float v = 0.0;
    if (p.tokens + i >= p.past) {
      const uint at = p.tokens + i - p.past;
      v = heap_f[p.x + (kReverse != 0u ? p.tokens - 1u - at : at) * p.channels + c];
    } else if (p.state != kAbsent) {
      v = state_f[p.state + (p.tokens + i) * p.channels + c];
    }
    state_f[p.out_state + i * p.channels + c] = v;
  }
}
