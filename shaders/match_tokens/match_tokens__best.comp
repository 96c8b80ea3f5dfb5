#version 450
#extension GL_GOOGLE_include_directive : require
// A workgroup for each token at an even place: its highest score, and with which token. Its lanes share the tokens at odd places.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint tokens, width, first, first_odd, features, factor, matches; } p;

shared float best_score[LOCAL];
shared uint best_with[LOCAL];

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

// Products of two tokens' features.
float dot_of(uint a, uint b) {
  float sum = 0.0;
  for (uint i = 0u; i < p.width; ++i) sum += heap_f[p.features + a * p.width + i] * heap_f[p.features + b * p.width + i];
  return sum;
}

void main() {
  const uint a = p.first + 2u * group(), lane = gl_LocalInvocationIndex;
  if (a >= p.tokens) return;
  const float norm = sqrt(dot_of(a, a));
  float score = uintBitsToFloat(0xff800000u);
  uint with = p.first_odd;
  for (uint b = p.first_odd + 2u * lane; b < p.tokens; b += 2u * LOCAL) {
    float s = 0.5 + 0.5 * (dot_of(a, b) / (norm * sqrt(dot_of(b, b))));
    if (p.factor != kAbsent) s *= heap_f[p.factor + a] * heap_f[p.factor + b];
    if (!is_nan(s) && s > score) score = s, with = b;
  }
  best_score[lane] = score, best_with[lane] = with;
  for (uint step = LOCAL / 2u; step > 0u; step /= 2u) {
    barrier();
    if (lane < step) {
      const float other = best_score[lane + step];
      const uint at = best_with[lane + step];
      if (other > best_score[lane] || (other == best_score[lane] && at < best_with[lane])) best_score[lane] = other, best_with[lane] = at;
    }
  }
  if (lane == 0u) heap_f[p.matches + a] = best_score[0], heap_u[p.matches + a + 1u] = best_with[0];
}
