#version 450
#extension GL_GOOGLE_include_directive : require
// Keys and values of the call's tokens into slots of q8 (runtime/format/states.h). An item owns whole words: of keys, four neighbouring slots in
// a block of 32 dims; of values, two slots.
#include "../common/common.glsl"
#include "../common/half.glsl"

// stored: entries from there on are not kept.
layout(push_constant) uniform Push { uint n, tokens, kv_heads, dim, slots, x, state, stride, is_key, stored; } p;

// Whether entry e of the stream, the token at position e * stride + stride - 1, belongs to this call; its vector begins at `at`.
bool find(uint entry, uint head, out uint at) {
  const int t = int(entry * p.stride + p.stride - 1u) - int(call_word[kPosition]);
  at = p.x + (uint(t) * p.kv_heads + head) * p.dim;
  return t >= 0 && t < int(p.tokens) && entry < p.stored;
}

// The scale of 32 elements, as the bits of a half: the largest magnitude over 127, NaN where one is not finite.
uint scale_of(uint at, uint block) {
  float largest = 0.0;
  bool is_finite = true;
  for (uint d = block * 32u; d < min(p.dim, block * 32u + 32u); ++d) {
    const float v = abs(heap_f[at + d]);
    is_finite = is_finite && floatBitsToUint(v) < 0x7f800000u;
    largest = max(largest, v);
  }
  return is_finite ? half_bits(min(largest / 127.0, 65504.0)) : 0x7e00u;
}

// Element d with that scale, in the low byte.
uint quantised(uint at, uint d, uint scale) {
  const float s = unpackHalf2x16(scale).x;
  if (d >= p.dim || scale == 0x7e00u || s == 0.0) return 0u;
  return uint(int(clamp(roundEven(heap_f[at + d] / s), -127.0, 127.0))) & 0xffu;
}

void append_keys(uint i, uint blocks) {
  const uint block = i % blocks, head = i / blocks % p.kv_heads, entry = (call_word[kPosition] / p.stride / 4u + i / (blocks * p.kv_heads)) * 4u;
  uint at[4], scale[4], mask = 0u;
  bool has[4], any = false;
  for (uint k = 0; k < 4u; ++k) {
    has[k] = find(entry + k, head, at[k]);
    scale[k] = has[k] ? scale_of(at[k], block) : 0u;
    if (has[k]) mask |= 0xffu << (8u * k);
    any = any || has[k];
  }
  if (!any) return;
  const uint slot = entry % p.slots, base = p.state + ((head * (p.slots / 16u) + slot / 16u) * blocks + block) * 136u;
  for (uint d = 0; d < 32u; ++d) {
    uint fresh = 0u;
    for (uint k = 0; k < 4u; ++k)
      if (has[k]) fresh |= quantised(at[k], block * 32u + d, scale[k]) << (8u * k);
    const uint word = base + d * 4u + slot % 16u / 4u;
    state_u[word] = mask == 0xffffffffu ? fresh : (state_u[word] & ~mask) | fresh;
  }
  for (uint k = 0; k < 4u; k += 2u) {
    const uint word = base + 128u + slot % 16u / 2u + k / 2u, half_mask = (has[k] ? 0xffffu : 0u) | (has[k + 1u] ? 0xffff0000u : 0u);
    if (half_mask != 0u) state_u[word] = (state_u[word] & ~half_mask) | scale[k] | scale[k + 1u] << 16;
  }
}

// A slot is a row of halves, 17 a block: 16 pairs of elements and the scale. Where their number is odd, two slots share a word.
void append_values(uint i, uint blocks) {
  const uint head = i % p.kv_heads, entry = (call_word[kPosition] / p.stride / 2u + i / p.kv_heads) * 2u, halves = blocks * 17u;
  const uint base = p.state + (head * p.slots + entry % p.slots) * halves / 2u;
  uint at[2], scale = 0u, fresh = 0u, mask = 0u;
  const bool has[2] = bool[2](find(entry, head, at[0]), find(entry + 1u, head, at[1]));
  for (uint h = has[0] ? 0u : halves / 2u * 2u; h < (has[1] ? 2u * halves : (halves + 1u) / 2u * 2u); ++h) {
    const uint slot = h / halves, block = h % halves / 17u, r = h % halves % 17u, d = block * 32u + r * 2u;
    if (has[slot]) {
      if (r == 0u) scale = scale_of(at[slot], block);
      fresh |= (r == 16u ? scale : quantised(at[slot], d, scale) | quantised(at[slot], d + 1u, scale) << 8) << (h % 2u * 16u);
      mask |= 0xffffu << (h % 2u * 16u);
    }
    if (h % 2u == 0u) continue;
    if (mask == 0xffffffffu) state_u[base + h / 2u] = fresh;
    else if (mask != 0u) state_u[base + h / 2u] = (state_u[base + h / 2u] & ~mask) | fresh;
    fresh = mask = 0u;
  }
}

void main() {
  const uint i = item(), blocks = (p.dim + 31u) / 32u;
  if (i >= p.n) return;
  if (p.is_key != 0u) append_keys(i, blocks);
  else append_values(i, blocks);
}
