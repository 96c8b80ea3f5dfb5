#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a head: its output is in shared memory, from which every channel's gates are computed.
#define LOCAL 128
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kKind = 0;  // rnn, lstm, gru, slstm
layout(constant_id = 1) const uint kForgetExp = 0;
layout(constant_id = 2) const uint kReverse = 0;
layout(constant_id = 3) const uint kSlots = 1;  // channels of an invocation: dim / 128, rounded up
layout(constant_id = 4) const uint kDim = 128;
layout(constant_id = 5) const uint kResetFirst = 0;
layout(constant_id = 6) const uint kGate = 2;  // functions by their UnaryKind
layout(constant_id = 7) const uint kCandidate = 3;
layout(constant_id = 8) const uint kRead = 3;
layout(push_constant) uniform Push {
  uint tokens, heads, x, r, r_bias, bounds, segments, y;
  uint state[4], out_state[4];  // h, c, n, m
  uint peepholes, r_heads, bias_heads, peephole_heads;
  float clip;
} p;

const uint kGates = kKind == 0u ? 1u : kKind == 2u ? 3u : 4u;
const uint kResetDim = kResetFirst != 0u ? kDim : 1u;
shared float before[kDim], left[kResetDim];  // left: of h by a gru's reset

float function(uint f, float v, float clip) {
  v = v > clip ? clip : v < -clip ? -clip : v;
  return f == 2u ? sigmoid(v) : f == 3u ? tanh_exact(v) : v < 0.0 ? 0.0 : v;
}
float gate(float v) { return function(kGate, v, p.clip); }
float candidate(float v) { return function(kCandidate, v, p.clip); }

// What gate g of channel d has from the outputs before, or from what is left of them.
float from_before(uint g, uint head, uint d, bool is_left) {
  const uint row = (p.r_heads == 1u ? g : g * p.heads + head) * kDim + d;
  float sum = p.r_bias != kAbsent ? heap_f[p.r_bias + (p.bias_heads == 1u ? g : g * p.heads + head) * kDim + d] : 0.0;
  for (uint k = 0; k < kDim; ++k) sum += heap_f[p.r + row * kDim + k] * (is_left ? left[k % kResetDim] : before[k]);
  return sum;
}
float peephole(uint k, uint head, uint d) {
  return p.peepholes == kAbsent ? 0.0 : heap_f[p.peepholes + (p.peephole_heads == 1u ? k : k * p.heads + head) * kDim + d];
}

void main() {
  const uint head = gl_WorkGroupID.x, lane = gl_LocalInvocationIndex, width = p.heads * kDim;
  float h[kSlots], c[kSlots], n[kSlots], m[kSlots];
  for (uint s = 0; s < p.segments; ++s) {
    const uvec2 own = segment(p.bounds, s, p.tokens);
    for (uint e = 0; e < kSlots; ++e) {
      const uint d = e * LOCAL + lane, ch = head * kDim + d;
      if (d >= kDim) continue;
      h[e] = p.state[0] != kAbsent ? state_f[p.state[0] + ch] : 0.0;
      c[e] = p.state[1] != kAbsent ? state_f[p.state[1] + ch] : 0.0;
      n[e] = p.state[2] != kAbsent ? state_f[p.state[2] + ch] : 0.0;
      m[e] = p.state[3] != kAbsent ? state_f[p.state[3] + ch] : 0.0;
    }
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i;
      barrier();
      for (uint e = 0; e < kSlots; ++e)
        if (e * LOCAL + lane < kDim) before[e * LOCAL + lane] = h[e];
      barrier();
      if (kResetFirst != 0u) {
        for (uint e = 0; e < kSlots; ++e) {
          const uint d = e * LOCAL + lane;
          if (d < kDim) left[d % kResetDim] = gate(heap_f[p.x + t * kGates * width + head * kDim + d] + from_before(0u, head, d, false)) * h[e];
        }
        barrier();
      }
      for (uint e = 0; e < kSlots; ++e) {
        const uint d = e * LOCAL + lane, ch = head * kDim + d;
        if (d >= kDim) continue;
        float x[4], r[4];
        for (uint g = kResetFirst; g < kGates; ++g) {
          x[g] = heap_f[p.x + (t * kGates + g) * width + ch];
          r[g] = from_before(g, head, d, kResetFirst != 0u && g == 2u);
        }
        if (kKind == 0u) {
          h[e] = candidate(x[0] + r[0]);
        } else if (kKind == 1u) {
          const float i = gate(x[0] + r[0] + peephole(0u, head, d) * c[e]), f = gate(x[1] + r[1] + peephole(1u, head, d) * c[e]);
          c[e] = f * c[e] + i * candidate(x[2] + r[2]);
          h[e] = gate(x[3] + r[3] + peephole(2u, head, d) * c[e]) * function(kRead, c[e], uintBitsToFloat(0x7f800000u));
        } else if (kKind == 2u) {
          const float z = gate(x[1] + r[1]);
          h[e] = (1.0 - z) * candidate(kResetFirst != 0u ? x[2] + r[2] : x[2] + gate(x[0] + r[0]) * r[2]) + z * h[e];
        } else {
          const float in_gate = x[0] + r[0], f = x[1] + r[1];
          const float kept = m[e] + (kForgetExp != 0u ? f : min(f, 0.0) - log1p(exp_exact(-abs(f))));
          const float most = n[e] == 0.0 || in_gate > kept ? in_gate : kept;
          const float keep = n[e] == 0.0 ? 0.0 : exp_exact(kept - most), take = exp_exact(in_gate - most);
          c[e] = keep * c[e] + take * tanh_exact(x[2] + r[2]);
          n[e] = keep * n[e] + take;
          m[e] = most;
          h[e] = sigmoid(x[3] + r[3]) * c[e] / n[e];
        }
        heap_f[p.y + t * width + ch] = h[e];
      }
    }
    for (uint e = 0; e < kSlots; ++e) {
      const uint d = e * LOCAL + lane, ch = head * kDim + d;
      if (d >= kDim) continue;
      if (p.out_state[0] != kAbsent) state_f[p.out_state[0] + ch] = h[e];
      if (p.out_state[1] != kAbsent) state_f[p.out_state[1] + ch] = c[e];
      if (p.out_state[2] != kAbsent) state_f[p.out_state[2] + ch] = n[e];
      if (p.out_state[3] != kAbsent) state_f[p.out_state[3] + ch] = m[e];
    }
  }
}
