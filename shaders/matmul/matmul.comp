#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef INT_DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
// One workgroup: 64 kRows rows of the weights, kRows an invocation, times kTokens tokens. All invocations are at the same column, so x is read
// from one place, once for kRows rows. A sum is taken in parts along the columns, each from 0 on, and the parts are added in their order: the
// bits of a row are the same for any number of tokens, whether one workgroup takes all parts or each has its own and matmul__parts adds them.
// With INT_DOT x is what matmul__round made of it, and the sums of a block are exact as in runtime/ops/matmul/matmul.h.
#include "../common/common.glsl"
#include "../common/packed.glsl"

layout(constant_id = 7) const uint kTokens = 1;  // 1 with experts
layout(constant_id = 8) const uint kRows = 1;
layout(constant_id = 9) const uint kRagged = 1;  // columns are no multiple of 32
// As MatmulPush in runtime/ops/matmul/vulkan.h.
layout(push_constant) uniform Push {
  uint x, y, bias, columns, rows, pairs, part_blocks, part_words;
  uint at, tile_words, window_first, window_tiles, tile_offset;
  uint ids, slots, x_token, x_slot, expert_tiles, experts;
} p;

const uint kSums = kTokens * kRows;  // [token][row]

uint row_blocks() { return (p.columns + 31u) / 32u; }
uint row_of() { return gl_LocalInvocationIndex % 16u; }  // in its tile

#ifdef INT_DOT
// Adds block b of 32 columns. x: words of a block of a token, 8 of bytes, the scale, and the sums of the first and the last 16 in one.
void add_block(uint b, const uint tile_word[kRows], const uint x[kTokens], inout float sum[kSums]) {
  const uint planes = header_words() + inside_unit(b) * kPlanes;
  uint at[kRows];     // planes
  uvec4 rest[kRows];  // what a split matrix keeps apart; x is word j
  for (uint r = 0; r < kRows; ++r) {
    at[r] = unit_of(tile_word[r], b) + planes;
    rest[r] = low_bits_of(tile_word[r], row_blocks(), b, row_of());
  }
  int low[kSums], high[kSums];  // of the first and the second 16 columns
  for (uint i = 0; i < kSums; ++i) low[i] = high[i] = 0;
  [[dont_unroll]] for (uint j = 0; j < 4u; ++j) {
    uint u[kTokens], v[kTokens];
    for (uint t = 0; t < kTokens; ++t) {
      u[t] = heap_u[x[t] + b * 10u + j];
      v[t] = heap_u[x[t] + b * 10u + j + 4u];
    }
    for (uint r = 0; r < kRows; ++r) {
      uint w, z;
      read_pair_bytes(at[r], j, row_of(), rest[r].x, w, z);
      rest[r] = rest[r].yzwx;
      for (uint t = 0; t < kTokens; ++t) {
        low[t * kRows + r] += dot_bytes(w, u[t], 0);
        high[t * kRows + r] += dot_bytes(z, v[t], 0);
      }
    }
  }
  vec2 scale_low[kRows], scale_high[kRows];
  for (uint r = 0; r < kRows; ++r) {
    const uint unit = unit_of(tile_word[r], b), i = kBlock == 32u ? inside_unit(b) : inside_unit(b) * 2u;
    scale_low[r] = read_scale(unit, i, row_of());
    scale_high[r] = kBlock == 32u ? scale_low[r] : read_scale(unit, i + 1u, row_of());
  }
  for (uint t = 0; t < kTokens; ++t) {
    const float scale = heap_f[x[t] + b * 10u + 8u];
    const int sums = heap_i[x[t] + b * 10u + 9u], sum_low = bitfieldExtract(sums, 0, 16), sum_high = bitfieldExtract(sums, 16, 16);
    for (uint r = 0; r < kRows; ++r) {
      const uint i = t * kRows + r;
      const int a = low[i] + kByteOffset * sum_low, c = high[i] + kByteOffset * sum_high;
      if (kBlock == 32u) {
        sum[i] = fma(float(a + c), scale_low[r].x * scale, sum[i]);
        if (kHasMin != 0u) sum[i] = fma(-scale_low[r].y, scale * float(sum_low + sum_high), sum[i]);
        continue;
      }
      sum[i] = fma(float(c), scale_high[r].x * scale, fma(float(a), scale_low[r].x * scale, sum[i]));
      if (kHasMin != 0u) sum[i] = fma(-scale_high[r].y, scale * float(sum_high), fma(-scale_low[r].y, scale * float(sum_low), sum[i]));
    }
  }
}
#else
vec4 input_at(uint at, uint left) {
  if (kRagged == 0u || left >= 4u) return vec4(heap_f[at], heap_f[at + 1u], heap_f[at + 2u], heap_f[at + 3u]);
  return vec4(left > 0u ? heap_f[at] : 0.0, left > 1u ? heap_f[at + 1u] : 0.0, left > 2u ? heap_f[at + 2u] : 0.0, 0.0);
}

// Adds block b of 32 columns of a matrix of floats, then of integers.
void add_floats(uint b, const uint tile_word[kRows], const uint x[kTokens], inout float sum[kSums]) {
  const uint row = row_of();
  [[dont_unroll]] for (uint c = 0; c < 8u; ++c) {
    const uint column = b * 32u + c * 4u;
    if (kRagged != 0u && column >= p.columns) break;
    vec4 v[kTokens];
    for (uint t = 0; t < kTokens; ++t) v[t] = input_at(x[t] + column, p.columns - column);
    for (uint r = 0; r < kRows; ++r) {
      vec4 w = vec4(0);
      for (uint i = 0; i < 4u; ++i)
        if (kRagged == 0u || column + i < p.columns) {
          const uint at = tile_word[r] + (column + i) * (kKind == 1u ? 16u : 8u);
          if (kKind == 1u) w[i] = uintBitsToFloat(weight_u[at + row]);
          else if (kKind == 2u) w[i] = weight_half(at, row);
          else w[i] = uintBitsToFloat((weight_u[at + (row >> 1)] >> ((row & 1u) * 16u)) << 16);
        }
      for (uint t = 0; t < kTokens; ++t) sum[t * kRows + r] += dot(w, v[t]);
    }
  }
}
void add_block(uint b, const uint tile_word[kRows], const uint x[kTokens], inout float sum[kSums]) {
  if (kKind != 0u) {
    add_floats(b, tile_word, x, sum);
    return;
  }
  const uint row = row_of(), planes = header_words() + inside_unit(b) * kPlanes;
  vec2 scale_low[kRows], scale_high[kRows];  // and minimum, of the first and the second 16 columns
  uint at[kRows];                            // planes
  uvec4 rest[kRows];                         // what a split matrix keeps apart; x is word j
  for (uint r = 0; r < kRows; ++r) {
    at[r] = unit_of(tile_word[r], b) + planes;
    rest[r] = low_bits_of(tile_word[r], row_blocks(), b, row);
    const uint unit = unit_of(tile_word[r], b), i = kBlock == 32u ? inside_unit(b) : inside_unit(b) * 2u;
    scale_low[r] = read_scale(unit, i, row);
    scale_high[r] = kBlock == 32u ? scale_low[r] : read_scale(unit, i + 1u, row);
  }
  [[dont_unroll]] for (uint j = 0; j < 4u; ++j) {
    const uint column = b * 32u + j * 4u, left = p.columns > column ? p.columns - column : 0u, left_high = left > 16u ? left - 16u : 0u;
    vec4 u[kTokens], v[kTokens];
    for (uint t = 0; t < kTokens; ++t) {
      u[t] = input_at(x[t] + column, left);
      v[t] = input_at(x[t] + column + 16u, left_high);
    }
    for (uint r = 0; r < kRows; ++r) {
      uvec4 low, high;
      read_pair(at[r], j, row, rest[r].x, low, high);
      rest[r] = rest[r].yzwx;
      const vec4 w_low = scale_low[r].x * (vec4(low) - float(kZeroPoint)) - scale_low[r].y;
      const vec4 w_high = scale_high[r].x * (vec4(high) - float(kZeroPoint)) - scale_high[r].y;
      for (uint t = 0; t < kTokens; ++t) sum[t * kRows + r] += dot(w_low, u[t]) + dot(w_high, v[t]);
    }
  }
}
#endif

void main() {
  const uint lane = gl_LocalInvocationIndex, row = row_of(), first = gl_WorkGroupID.y * kTokens, token = first / p.slots, slot = first % p.slots;
  uint expert = 0;
  if (p.experts != 0u) {
    expert = p.ids == kAbsent ? slot : heap_u[p.ids + first];
    if (expert >= p.experts) {
      fault(kFaultIndex);
      expert = 0;
    }
  }
  const uint first_tile = p.tile_offset + gl_WorkGroupID.x * 4u * kRows + lane / 16u;
  // Rows that are not here take those of the window's first tile and drop the result.
  uint tile_word[kRows];
  for (uint r = 0; r < kRows; ++r) {
    const uint tile = first_tile + r * 4u, inside = expert * p.expert_tiles + tile - p.window_first;
    tile_word[r] = p.at + place_of_tile(inside < p.window_tiles && tile * 16u + row < p.rows ? inside : 0u) * p.tile_words;
  }
  uint x[kTokens];  // tokens beyond the last one repeat it
  for (uint t = 0; t < kTokens; ++t) x[t] = p.x + (token + min(t, p.pairs - 1u - first)) * p.x_token + slot * p.x_slot;
  const uint blocks = row_blocks();
  const uint part_begin = p.part_words != 0u ? gl_WorkGroupID.z : 0u, part_end = p.part_words != 0u ? part_begin + 1u : (blocks + p.part_blocks - 1u) / p.part_blocks;
  float all[kSums];
  for (uint i = 0; i < kSums; ++i) all[i] = 0.0;
  [[dont_unroll]] for (uint part = part_begin; part < part_end; ++part) {
    float sum[kSums];
    for (uint i = 0; i < kSums; ++i) sum[i] = 0.0;
    const uint block_end = min(blocks, (part + 1u) * p.part_blocks);
    [[dont_unroll]] for (uint b = part * p.part_blocks; b < block_end; ++b) add_block(b, tile_word, x, sum);
    for (uint i = 0; i < kSums; ++i) all[i] += sum[i];
  }
  for (uint r = 0; r < kRows; ++r) {
    const uint tile = first_tile + r * 4u, n = tile * 16u + row;
    if (expert * p.expert_tiles + tile - p.window_first >= p.window_tiles || n >= p.rows) continue;
    for (uint t = 0; t < kTokens && first + t < p.pairs; ++t) {
      const uint at = (first + t) * p.rows + n;
      if (p.part_words != 0u) heap_f[p.y + gl_WorkGroupID.z * p.part_words + at] = all[t * kRows + r];
      else heap_f[p.y + at] = all[t * kRows + r] + (p.bias != kAbsent ? heap_f[p.bias + expert * p.rows + n] : 0.0);
    }
  }
}
