// What both parts of budget_attention know (runtime/ops/budget_attention/budget_attention.h).
layout(constant_id = 0) const uint kHalf = 0;  // the states are of f16
layout(push_constant) uniform Push {
  uint tokens, heads, kv_heads, key, value, slots;
  uint budget, recent, block, window, reach;  // reach: slots on each side in a mean
  uint q, k, v, keys, values, weights, y;
  uint shares;  // of attention: [tokens of a block, heads, slots]
  uint lists;   // [kv_heads, 3, slots]: sums of shares, ranks, slots that stay
  uint round;   // blocks of the call before this one
  float scale;
} p;
// Scratch is written by one invocation and read by another.
layout(set = 0, binding = 0, std430) coherent buffer WorkF { float work_f[]; };
layout(set = 0, binding = 0, std430) coherent buffer WorkU { uint work_u[]; };

void sync() {
  memoryBarrierBuffer();
  barrier();
}

uint slots_in_use(uint position) {
  const uint begin = position / p.block * p.block;
  return min(p.budget, begin) + position - begin;
}
// Tokens of the call in its block `round`: from x on, below y.
uvec2 tokens_of(uint round) {
  const uint position = call_word[kPosition], begin = (position / p.block + round) * p.block;
  const uint from = min(max(begin, position), position + p.tokens), to = min(begin + p.block, position + p.tokens);
  return uvec2(from, to) - position;
}

uint key_index(uint g, uint slot, uint d) {
  return ((g * (p.slots / 16u) + slot / 16u) * p.key + d) * 16u + slot % 16u;
}
uint value_index(uint g, uint slot, uint d) { return (g * p.slots + slot) * p.value + d; }
float element(uint state, uint i) { return kHalf != 0u ? state_half(state, i) : state_f[state + i]; }
