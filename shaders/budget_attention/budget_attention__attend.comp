#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup for a token of the block and a query head.
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/reduce.glsl"
#include "budget.glsl"

layout(constant_id = 1) const uint kKey = 64;
shared float query[kKey];

void main() {
  const uint i = group() / p.heads, h = group() % p.heads, g = h / (p.heads / p.kv_heads);
  const uint lane = gl_LocalInvocationIndex;
  const uvec2 own = tokens_of(p.round);
  const uint t = own.x + i;
  if (t >= own.y) return;
  const uint n = slots_in_use(call_word[kPosition] + t) + 1u, shares = p.shares + (i * p.heads + h) * p.slots;
  for (uint d = lane; d < kKey; d += LOCAL) query[d] = heap_f[p.q + (t * p.heads + h) * kKey + d];
  barrier();
  float largest = uintBitsToFloat(0xff800000u), sum = 0.0;
  for (uint s = lane; s < n; s += LOCAL) {
    float score = 0.0;
    for (uint d = 0u; d < kKey; ++d) score += query[d] * element(p.keys, key_index(g, s, d));
    score *= p.scale;
    work_f[shares + s] = score;
    largest = score > largest ? score : largest;
  }
  largest = group_max(largest);
  for (uint s = lane; s < n; s += LOCAL) {
    const float e = exp_exact(work_f[shares + s] - largest);
    work_f[shares + s] = e;
    sum += e;
  }
  sum = group_sum(sum);
  for (uint s = lane; s < n; s += LOCAL) work_f[shares + s] /= sum;
  sync();
  for (uint d = lane; d < p.value; d += LOCAL) {
    float y = 0.0;
    for (uint s = 0u; s < n; ++s) y += work_f[shares + s] * element(p.values, value_index(g, s, d));
    heap_f[p.y + (t * p.heads + h) * p.value + d] = y;
  }
}
