#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a kv head, between the attention of two blocks: what the one before drew and which slots stay, then the
// keys and values of the next one. An invocation owns dims of keys and values, and slots of weights: halves which share a
// word are written one after the other.
#define LOCAL 128
#include "../common/common.glsl"
#include "../common/half.glsl"
#include "../common/rank.glsl"
#include "../common/reduce.glsl"
#include "../common/highest.glsl"
#include "budget.glsl"

#define lane gl_LocalInvocationIndex

uint ranks, kept;  // where those of a kv head lie in scratch
uint rank_at(uint i) { return work_u[ranks + i]; }
void list(uint place, uint i) { work_u[kept + place] = i; }

// Adds to the sums of n slots what the tokens of a block gave them.
void add_shares(uint g, uvec2 own, uint n, uint sums) {
  const uint position = call_word[kPosition], group_heads = p.heads / p.kv_heads;
  for (uint s = lane; s < n; s += LOCAL) {
    float sum = state_f[p.weights + g * p.slots + s];
    for (uint t = own.x; t < own.y; ++t) {
      if (s > slots_in_use(position + t) || (p.window > 0u && (position + t) % p.block + p.window < p.block)) continue;
      for (uint h = g * group_heads; h < (g + 1u) * group_heads; ++h)
        sum += work_f[p.shares + ((t - own.x) * p.heads + h) * p.slots + s];
    }
    work_f[sums + s] = sum;
    state_f[p.weights + g * p.slots + s] = sum;
  }
  sync();
}

// Lists the slots of n that stay, more than the budget being there.
void choose(uint n, uint sums) {
  const uint others = n - p.recent, wanted = p.budget - p.recent;
  for (uint s = lane; s < others; s += LOCAL) {
    float sum = 0.0;
    for (uint x = s - min(s, p.reach); x <= min(n - 1u, s + p.reach); ++x) sum += work_f[sums + x];
    work_u[ranks + s] = isnan(sum) ? 0xff800000u : rank_of(floatBitsToUint(sum));
  }
  for (uint i = lane; i < p.recent; i += LOCAL) list(wanted + i, others + i);
  sync();
  list_highest(others, wanted);
  sync();
}

// A half into its word, the other one of which stays.
void set_half(uint state, uint i, uint bits) {
  const uint word = state + i / 2u, old = state_u[word];
  state_u[word] = (i & 1u) != 0u ? (old & 0xffffu) | bits << 16 : (old & 0xffff0000u) | bits;
}

void set_key(uint i, float v) {
  if (kHalf != 0u) set_half(p.keys, i, half_bits(v));
  else state_f[p.keys + i] = v;
}

void keep(uint g, uint n, uint lists) {
  const uint sums = lists, count = min(n, p.budget);
  ranks = lists + p.slots, kept = lists + 2u * p.slots;
  if (n > p.budget) {
    choose(n, sums);
    for (uint d = lane; d < p.key; d += LOCAL)
      for (uint i = 0u; i < count; ++i) {
        const uint from = work_u[kept + i];
        if (from != i) set_key(key_index(g, i, d), element(p.keys, key_index(g, from, d)));
      }
    const uint words = kHalf != 0u ? p.value / 2u : p.value;
    for (uint w = lane; w < words; w += LOCAL)
      for (uint i = 0u; i < count; ++i) {
        const uint from = work_u[kept + i];
        const uint own = p.values + g * p.slots * words + w;
        if (from != i) state_u[own + i * words] = state_u[own + from * words];
      }
  }
  for (uint i = lane; i < count; i += LOCAL)
    state_f[p.weights + g * p.slots + i] = p.window > 0u ? 0.0 : work_f[sums + (n > p.budget ? work_u[kept + i] : i)];
}

void append(uint g, uvec2 own) {
  for (uint t = own.x; t < own.y; ++t) {
    const uint slot = slots_in_use(call_word[kPosition] + t), row = t * p.kv_heads + g;
    for (uint d = lane; d < p.key; d += LOCAL) set_key(key_index(g, slot, d), heap_f[p.k + row * p.key + d]);
    if (kHalf == 0u) {
      for (uint d = lane; d < p.value; d += LOCAL)
        state_f[p.values + value_index(g, slot, d)] = heap_f[p.v + row * p.value + d];
    } else {
      for (uint d = 2u * lane; d < p.value; d += 2u * LOCAL)
        state_u[p.values + value_index(g, slot, d) / 2u] =
            half_bits(heap_f[p.v + row * p.value + d]) | half_bits(heap_f[p.v + row * p.value + d + 1u]) << 16;
    }
    if (lane == slot % LOCAL) state_f[p.weights + g * p.slots + slot] = 0.0;
  }
}

void main() {
  const uint g = gl_WorkGroupID.x, lists = p.lists + g * 3u * p.slots;
  if (p.round > 0u) {
    const uvec2 own = tokens_of(p.round - 1u);
    if (own.x < own.y) {
      const uint last = call_word[kPosition] + own.y - 1u, n = slots_in_use(last) + 1u;
      add_shares(g, own, n, lists);
      if ((last + 1u) % p.block == 0u) keep(g, n, lists);
    }
  }
  append(g, tokens_of(p.round));
}
