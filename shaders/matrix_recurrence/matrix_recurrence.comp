#version 450
#extension GL_GOOGLE_include_directive : require
// A column of a head's matrix, of as many elements as a key, goes through all tokens in lanes side by side.
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"
#include "../common/lanes.glsl"

layout(constant_id = 5) const uint kRule = 0;  // add, delta, dplr
layout(constant_id = 6) const uint kReadBefore = 0;
layout(constant_id = 7) const uint kNormalise = 0;  // none, sum, bounded
layout(constant_id = 8) const uint kDecay = 0;      // rank of the decay, 0: none
layout(constant_id = 9) const uint kHasGate = 0;
layout(constant_id = 10) const uint kReverse = 0;
layout(constant_id = 11) const uint kSteps = 1;
// heads_*: heads of each operand, together one word each. decay_step: 0 when one row serves all tokens.
layout(push_constant) uniform Push {
  uint tokens, heads, value, heads_q, heads_k, heads_v, heads_ab;
  uint q, k, v, decay, decay_step, beta, a, b, bonus, gate, state, norm, largest, bounds, segments;
  uint y, out_state, out_norm, out_largest;
  float scale, eps;
} p;

void main() {
  const uint columns = p.heads * p.value, own_column = column_of();
  if (group() * kColumns >= columns) return;
  // Lanes without a column follow the last column for the sake of the barriers.
  const uint i0 = min(own_column, columns - 1u), head = i0 / p.value, column = i0 % p.value, lane = lane_of();
  const bool is_own = own_column < columns;
  const uint qh = head / (p.heads / p.heads_q), kh = head / (p.heads / p.heads_k), vh = head / (p.heads / p.heads_v);
  const uint abh = kRule == 2u ? head / (p.heads / p.heads_ab) : 0u;
  vec4 s[kQuads], n[kNormalise != 0u ? kQuads : 1u];
  for (uint g = 0; g < p.segments; ++g) {
    const uvec2 own = segment(p.bounds, g, p.tokens);
    for (uint e = 0; e < kQuads; ++e) s[e] = p.state != kAbsent ? state_quad(p.state + head * kSize * p.value + column, p.value, e) : vec4(0.0);
    if (kNormalise != 0u)
      for (uint e = 0; e < kQuads; ++e) n[e] = p.norm != kAbsent ? state_quad(p.norm + head * kSize, 1u, e) : vec4(0.0);
    float m = p.largest != kAbsent ? state_f[p.largest + head] : 0.0;
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, q = p.q + (t * p.heads_q + qh) * kSize;
      const uint decay = p.decay + (t * p.decay_step + head) * kSize;
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
        const uint k = p.k + (t * p.heads_k + kh) * kSize;
        for (uint e = 0; e < kQuads; ++e) {
          const vec4 query = row_quad(q, e);
          result += dot(query, s[e]);
          if (p.bonus != kAbsent) bonus += dot(query * row_quad(p.bonus + head * kSize, e), row_quad(k, e));
        }
        result += bonus * heap_f[p.v + (t * p.heads_v + vh) * p.value + column];
      }
      for (uint step = 0; step < kSteps; ++step) {
        const uint row = t * kSteps + step, k = p.k + (row * p.heads_k + kh) * kSize, ab = (row * p.heads_ab + abh) * kSize;
        float low = 0.0, seen = 0.0;
        if (kRule == 2u) {
          for (uint e = 0; e < kQuads; ++e) low += dot(row_quad(p.a + ab, e), s[e]);
          low = column_sum(low);
        }
        if (step == 0u && kDecay == 3u)
          for (uint e = 0; e < kQuads; ++e) s[e] *= exp_quad(row_quad(decay, e));
        else if (step == 0u && (kDecay != 0u || kHasGate != 0u))
          for (uint e = 0; e < kQuads; ++e) s[e] *= keep;
        float v = heap_f[p.v + (row * p.heads_v + vh) * p.value + column];
        if (kRule == 1u) {
          for (uint e = 0; e < kQuads; ++e) seen += dot(row_quad(k, e), s[e]);
          v = (p.beta != kAbsent ? heap_f[p.beta + row * p.heads + head] : 1.0) * (v - column_sum(seen));
        }
        v *= take;
        for (uint e = 0; e < kQuads; ++e) s[e] += row_quad(k, e) * v;
        if (kRule == 2u)
          for (uint e = 0; e < kQuads; ++e) s[e] += row_quad(p.b + ab, e) * low;
      }
      float size = 0.0;
      if (kReadBefore == 0u && kNormalise == 0u)
        for (uint e = 0; e < kQuads; ++e) result += dot(row_quad(q, e), s[e]);
      if (kNormalise != 0u) {
        const uint k = p.k + (t * p.heads_k + kh) * kSize;
        for (uint e = 0; e < kQuads; ++e) {
          const vec4 query = row_quad(q, e);
          if (kReadBefore == 0u) result += dot(query, s[e]);
          if (kDecay == 3u) n[e] *= exp_quad(row_quad(decay, e));
          else if (kDecay != 0u || kHasGate != 0u) n[e] *= keep;
          n[e] += take * row_quad(k, e);
          size += dot(query, n[e]);
        }
        size = column_sum(size) * p.scale;
      }
      result = column_sum(result) * p.scale;
      if (kNormalise != 0u) result /= (kNormalise == 1u ? size : max(abs(size), exp_exact(-m))) + p.eps;
      if (lane == 0u && is_own) heap_f[p.y + (t * p.heads + head) * p.value + column] = result;
    }
    if (is_own) {
      for (uint e = 0; e < kQuads; ++e) {
        if (p.out_state != kAbsent) write_state_quad(p.out_state + head * kSize * p.value + column, p.value, e, s[e]);
        // Into scratch: other columns may not have read the states yet.
        if (kNormalise != 0u && column == 0u && p.out_norm != kAbsent)
          for (uint j = 0u; j < 4u; ++j)
            if (is_inside(dim_of(e) + j)) heap_f[p.out_norm + head * kSize + dim_of(e) + j] = n[e][j];
      }
      if (column == 0u && lane == 0u && p.out_largest != kAbsent) heap_f[p.out_largest + head] = m;
    }
  }
}
