#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
// A column of a head's matrix goes through all tokens in kLanes invocations side by side, each of which has kQuads quads of its elements.
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
layout(constant_id = 8) const uint kLanes = 8;  // a power of two
layout(constant_id = 9) const uint kQuads = 2;
layout(constant_id = 10) const uint kAligned = 0;  // rows of keys are read as vectors
// heads_*: heads of each operand, together one word each. decay_step: 0 when one row serves all tokens.
layout(push_constant) uniform Push {
  uint tokens, heads, value, heads_q, heads_k, heads_v, heads_ab;
  uint q, k, v, decay, decay_step, beta, a, b, bonus, gate, state, norm, largest, bounds, segments;
  uint y, out_state, out_norm, out_largest;
  float scale, eps;
} p;
layout(set = 0, binding = 0, std430) buffer HeapV { vec4 heap_v[]; };

const uint kColumns = LOCAL / kLanes;

#ifdef SUBGROUPS
// Lanes of a column are neighbours in a subgroup, whatever places of the workgroup those have. Devices of this variant have 8 or more.
const uint kNear = kLanes < 8u ? kLanes : 8u;
uint place() { return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID; }
float near_sum(float v) {
  if (kNear > 1u) v += subgroupShuffleXor(v, 1u);
  if (kNear > 2u) v += subgroupShuffleXor(v, 2u);
  return kNear > 4u ? v + subgroupShuffleXor(v, 4u) : v;
}
#else
const uint kNear = 1u;
uint place() { return gl_LocalInvocationIndex; }
float near_sum(float v) { return v; }
#endif
// Two halves in turn, so that no barrier is needed before a part is overwritten.
const uint kFar = kLanes / kNear, kParts = LOCAL / kNear;
shared float parts[kFar > 1u ? 2u * kParts : 1u];
uint turn = 0u;
float column_sum(float v) {
  v = near_sum(v);
  if (kFar == 1u) return v;
  if (place() % kNear == 0u) parts[turn + place() / kNear] = v;
  barrier();
  const uint first = turn + place() / kLanes * kFar;
  float sum = 0.0;
  for (uint i = 0; i < kFar; ++i) sum += parts[first + i];
  turn = kParts - turn;
  return sum;
}

uint dim_of(uint quad) { return (quad * kLanes + place() % kLanes) * 4u; }
bool is_inside(uint d) { return kLanes * kQuads * 4u == kKey || d < kKey; }
// Elements of a quad of a row of keys; 0 behind its end.
vec4 row_quad(uint row, uint quad) {
  const uint d = dim_of(quad), at = row + d;
  if (kAligned != 0u) return is_inside(d) ? heap_v[at / 4u] : vec4(0.0);
  return vec4(is_inside(d) ? heap_f[at] : 0.0, is_inside(d + 1u) ? heap_f[at + 1u] : 0.0, is_inside(d + 2u) ? heap_f[at + 2u] : 0.0, is_inside(d + 3u) ? heap_f[at + 3u] : 0.0);
}
// The same of a row of a state with a step between elements.
vec4 state_quad(uint first, uint step, uint quad) {
  const uint d = dim_of(quad), at = first + d * step;
  return vec4(is_inside(d) ? state_f[at] : 0.0, is_inside(d + 1u) ? state_f[at + step] : 0.0, is_inside(d + 2u) ? state_f[at + 2u * step] : 0.0, is_inside(d + 3u) ? state_f[at + 3u * step] : 0.0);
}
vec4 exp_quad(vec4 v) { return vec4(exp_exact(v.x), exp_exact(v.y), exp_exact(v.z), exp_exact(v.w)); }

void main() {
  const uint columns = p.heads * p.value, own_column = group() * kColumns + place() / kLanes;
  if (group() * kColumns >= columns) return;
  // Lanes without a column follow the last one for the sake of the barriers.
  const uint i0 = min(own_column, columns - 1u), head = i0 / p.value, column = i0 % p.value, lane = place() % kLanes;
  const bool is_own = own_column < columns;
  const uint qh = head / (p.heads / p.heads_q), kh = head / (p.heads / p.heads_k), vh = head / (p.heads / p.heads_v);
  const uint abh = kRule == 2u ? head / (p.heads / p.heads_ab) : 0u;
  vec4 s[kQuads], n[kNormalise != 0u ? kQuads : 1u];
  for (uint g = 0; g < p.segments; ++g) {
    const uvec2 own = segment(p.bounds, g, p.tokens);
    for (uint e = 0; e < kQuads; ++e) s[e] = p.state != kAbsent ? state_quad(p.state + head * kKey * p.value + column, p.value, e) : vec4(0.0);
    if (kNormalise != 0u)
      for (uint e = 0; e < kQuads; ++e) n[e] = p.norm != kAbsent ? state_quad(p.norm + head * kKey, 1u, e) : vec4(0.0);
    float m = p.largest != kAbsent ? state_f[p.largest + head] : 0.0;
    for (uint i = 0; i < own.y; ++i) {
      const uint t = kReverse != 0u ? own.x + own.y - 1u - i : own.x + i, q = p.q + (t * p.heads_q + qh) * kKey;
      const uint decay = p.decay + (t * p.decay_step + head) * kKey;
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
        for (uint e = 0; e < kQuads; ++e) {
          const vec4 query = row_quad(q, e);
          result += dot(query, s[e]);
          if (p.bonus != kAbsent) bonus += dot(query * row_quad(p.bonus + head * kKey, e), row_quad(k, e));
        }
        result += bonus * heap_f[p.v + (t * p.heads_v + vh) * p.value + column];
      }
      for (uint step = 0; step < kSteps; ++step) {
        const uint row = t * kSteps + step, k = p.k + (row * p.heads_k + kh) * kKey, ab = (row * p.heads_ab + abh) * kKey;
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
        const uint k = p.k + (t * p.heads_k + kh) * kKey;
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
      for (uint e = 0; e < kQuads; ++e)
        for (uint j = 0; j < 4u; ++j) {
          const uint d = dim_of(e) + j;
          if (p.out_state != kAbsent && is_inside(d)) state_f[p.out_state + (head * kKey + d) * p.value + column] = s[e][j];
          // Into scratch: other columns may not have read the states yet.
          if (kNormalise != 0u && column == 0u && p.out_norm != kAbsent && is_inside(d)) heap_f[p.out_norm + head * kKey + d] = n[e][j];
        }
      if (column == 0u && lane == 0u && p.out_largest != kAbsent) heap_f[p.out_largest + head] = m;
    }
  }
}
