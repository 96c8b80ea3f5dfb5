#version 450
#extension GL_GOOGLE_include_directive : require
// Keys and values of the call's tokens into their slots (runtime/format/states.h). An item owns whole words of the state, so that halves
// need no 16-bit stores.
#include "../common/common.glsl"

layout(constant_id = 0) const uint kHalf = 0;
// stored: entries from there on are not kept.
layout(push_constant) uniform Push { uint n, tokens, kv_heads, dim, slots, x, state, stride, is_key, stored; } p;

uint index_of(uint head, uint slot, uint d) {
  return p.is_key != 0u ? ((head * (p.slots / 16u) + slot / 16u) * p.dim + d) * 16u + slot % 16u : (head * p.slots + slot) * p.dim + d;
}

// Entry e of the stream is the token at position e * stride + stride - 1; whether it belongs to this call.
bool value_of(uint entry, uint head, uint d, out float v) {
  const int t = int(entry * p.stride + p.stride - 1u) - int(call_word[kPosition]);
  if (t < 0 || t >= int(p.tokens) || entry >= p.stored) return false;
  v = heap_f[p.x + (uint(t) * p.kv_heads + head) * p.dim + d];
  return true;
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint first = call_word[kPosition] / p.stride;
  if (kHalf == 0u) {
    const uint d = i % p.dim, head = i / p.dim % p.kv_heads, entry = first + i / (p.dim * p.kv_heads);
    float v;
    if (value_of(entry, head, d, v)) state_f[p.state + index_of(head, entry % p.slots, d)] = v;
    return;
  }
  float low, high;
  bool has_low, has_high;
  uint word;
  if (p.is_key != 0u) {
    // Two neighbouring slots share a word.
    const uint d = i % p.dim, head = i / p.dim % p.kv_heads, entry = (first / 2u + i / (p.dim * p.kv_heads)) * 2u;
    has_low = value_of(entry, head, d, low);
    has_high = value_of(entry + 1u, head, d, high);
    word = p.state + index_of(head, entry % p.slots, d) / 2u;
  } else {
    // Two neighbouring dims do; their number is even.
    const uint d = i % (p.dim / 2u) * 2u, head = i / (p.dim / 2u) % p.kv_heads, entry = first + i / (p.dim / 2u * p.kv_heads);
    has_low = value_of(entry, head, d, low);
    has_high = value_of(entry, head, d + 1u, high);
    word = p.state + index_of(head, entry % p.slots, d) / 2u;
  }
  if (!has_low && !has_high) return;
  const uint fresh = packHalf2x16(vec2(has_low ? low : 0.0, has_high ? high : 0.0)), old = has_low && has_high ? 0u : state_u[word];
  state_u[word] = (has_low ? fresh & 0xffffu : old & 0xffffu) | (has_high ? fresh & 0xffff0000u : old & 0xffff0000u);
}
