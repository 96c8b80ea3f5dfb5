#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#ifdef INT_DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
// An invocation takes 4 kQuads rows of a tile times kTokens tokens: a load of four words of the weights serves all tokens, one of x all rows.
// A sum is taken in parts along the columns, each from 0 on, and the parts are added in their order: the bits of a row are the same for any
// number of tokens. p.shares groups of lanes have the same rows: of one token each takes a part, of many each takes other tokens.
// With INT_DOT x is what matmul__round made of it, and the sums of a block are exact as in runtime/ops/matmul/matmul.h.
#include "../common/common.glsl"
#include "../common/packed.glsl"
#include "four_rows.glsl"

layout(constant_id = 7) const uint kTokens = 1;  // 1 with experts
layout(constant_id = 8) const uint kQuads = 1;   // 1 or 2; 2 with halves
layout(constant_id = 9) const uint kRagged = 1;  // columns are no multiple of 32, or tokens of x do not all begin at a multiple of 4 words
layout(constant_id = 10) const uint kParts = 0;  // 0: a sum has one part; 1: one after the other; 2: side by side
// As MatmulPush in runtime/ops/matmul/vulkan.h.
layout(push_constant) uniform Push {
  uint x, y, bias, columns, blocks, rows, pairs, part_blocks, shares;
  uint at, tile_place, window_first, window_tiles, tile_offset;
  uint ids, slots, x_token, x_slot, expert_tiles, experts;
} p;

layout(set = 0, binding = 0, std430) readonly buffer HeapF4 { vec4 heap_f4[]; };
#ifdef INT_DOT
layout(set = 0, binding = 0, std430) readonly buffer HeapU2 { uvec2 heap_u2[]; };
#endif

const uint kSums = kTokens * kQuads;  // [token][quad], each of four rows
shared uvec4 kept[kParts != 0u ? LOCAL * (kSums + 1u) : 1u];

#ifdef INT_DOT
// Products of four signed bytes of each word, added.
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot_bytes(uint a, uint b, spirv_literal int format);
// What a product of bytes lacks, where those of 8 bits stand for q - 128: what to add to it for each sum of the other side's bytes.
const int kByteOffset = (kBits == 8u ? 128 : 0) - int(kZeroPoint);
const uint kByteFlip = kBits == 8u ? 0x80808080u : 0u;

ivec4 dot_rows(uvec4 w, uint x) { return ivec4(dot_bytes(w.x, x, 0), dot_bytes(w.y, x, 0), dot_bytes(w.z, x, 0), dot_bytes(w.w, x, 0)); }

// Adds block b of 32 columns. x counts pairs of words; a block has four, words j of the first and of the second 16 bytes, then the scale and
// both sums of 16 bytes in one word.
void add_block(uint b, uint tile, uint quad, uint x, inout vec4 sum[kSums]) {
  const uint planes = planes_place(tile, b);
  ivec4 low[kSums], high[kSums];  // of the first and, where its scale is another one, of the second 16 columns
  [[unroll]] for (uint i = 0; i < kSums; ++i) low[i] = high[i] = ivec4(0);
  [[dont_unroll]] for (uint j = 0; j < 4u; ++j) {
    uvec2 u[kTokens];
    [[unroll]] for (uint t = 0; t < kTokens; ++t) u[t] = heap_u2[x + t * p.x_token + b * 5u + j];
    [[unroll]] for (uint q = 0; q < kQuads; ++q) {
      const uvec4 low_bits = low_bits_of_four(tile, p.blocks, b, quad + q, j);
      const uvec4 w = read_four(planes, j, quad + q, low_bits) ^ kByteFlip, z = read_four(planes, j + 4u, quad + q, low_bits) ^ kByteFlip;
      [[unroll]] for (uint t = 0; t < kTokens; ++t) {
        const uint i = t * kQuads + q;
        low[i] += dot_rows(w, u[t].x);
        if (kBlock == 32u) low[i] += dot_rows(z, u[t].y);
        else high[i] += dot_rows(z, u[t].y);
      }
    }
  }
  [[unroll]] for (uint q = 0; q < kQuads; ++q) {
    vec4 scale_low, least_low, scale_high, least_high;
    const uint unit = unit_place(tile, b), first = inside_unit(b) * (32u / kBlock);
    read_scales(unit, first, quad + q, scale_low, least_low);
    if (kBlock != 32u) read_scales(unit, first + 1u, quad + q, scale_high, least_high);
    [[unroll]] for (uint t = 0; t < kTokens; ++t) {
      const uint i = t * kQuads + q;
      const uvec2 tail = heap_u2[x + t * p.x_token + b * 5u + 4u];
      const float scale = uintBitsToFloat(tail.x);
      const int sum_low = bitfieldExtract(int(tail.y), 0, 16), sum_high = bitfieldExtract(int(tail.y), 16, 16);
      if (kBlock == 32u) {
        sum[i] = fma(vec4(low[i] + kByteOffset * (sum_low + sum_high)), scale_low * scale, sum[i]);
        if (kHasMin != 0u) sum[i] = fma(-least_low, vec4(scale * float(sum_low + sum_high)), sum[i]);
      } else {
        sum[i] = fma(vec4(low[i] + kByteOffset * sum_low), scale_low * scale, sum[i]);
        sum[i] = fma(vec4(high[i] + kByteOffset * sum_high), scale_high * scale, sum[i]);
        if (kHasMin != 0u) sum[i] = fma(-least_high, vec4(scale * float(sum_high)), fma(-least_low, vec4(scale * float(sum_low)), sum[i]));
      }
    }
  }
}
#else
// Columns column .. column + 3 of token t; those beyond the last one are 0. x counts four words, with kRagged words.
vec4 input_at(uint x, uint t, uint column) {
  if (kRagged == 0u) return heap_f4[x + column / 4u + t * p.x_token];
  const uint at = x + column + t * p.x_token, left = p.columns > column ? p.columns - column : 0u;
  return vec4(left > 0u ? heap_f[at] : 0.0, left > 1u ? heap_f[at + 1u] : 0.0, left > 2u ? heap_f[at + 2u] : 0.0, left > 3u ? heap_f[at + 3u] : 0.0);
}

// Four rows of which words a and b have the halves.
vec4 four_of(uint a, uint b) {
  if (kKind == 2u) return vec4(unpackHalf2x16(a), unpackHalf2x16(b));
  return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}
// A column of rows 4 quad on of a tile of floats.
void float_rows(uint tile, uint column, uint quad, out vec4 w[kQuads]) {
  if (kKind == 1u) {
    [[unroll]] for (uint q = 0; q < kQuads; ++q) w[q] = uintBitsToFloat(weight_u4[tile + column * 4u + quad + q]);
    return;
  }
  const uvec4 v = weight_u4[tile + column * 2u + quad / 2u];
  w[0] = four_of(v.x, v.y);
  w[kQuads - 1u] = four_of(v.z, v.w);
}

// Adds block b of 32 columns of a matrix of floats, then of integers.
void add_floats(uint b, uint tile, uint quad, uint x, inout vec4 sum[kSums]) {
  const uint end = kRagged == 0u ? b * 32u + 32u : min(b * 32u + 32u, p.columns);
  [[dont_unroll]] for (uint column = b * 32u; column < end; column += 4u) {
    vec4 u[kTokens];
    [[unroll]] for (uint t = 0; t < kTokens; ++t) u[t] = input_at(x, t, column);
    // A row ends within four columns: then the last one is read again, for an x of 0.
    [[unroll]] for (uint i = 0; i < 4u; ++i) {
      vec4 w[kQuads];
      float_rows(tile, kRagged == 0u ? column + i : min(column + i, p.columns - 1u), quad, w);
      [[unroll]] for (uint t = 0; t < kTokens; ++t)
        [[unroll]] for (uint q = 0; q < kQuads; ++q) sum[t * kQuads + q] = fma(w[q], vec4(u[t][i]), sum[t * kQuads + q]);
    }
  }
}

void add_block(uint b, uint tile, uint quad, uint x, inout vec4 sum[kSums]) {
  if (kKind != 0u) {
    add_floats(b, tile, quad, x, sum);
    return;
  }
  const uint unit = unit_place(tile, b), planes = planes_place(tile, b);
  [[dont_unroll]] for (uint side = 0; side < 32u / kBlock; ++side) {
    vec4 scale[kQuads], start[kQuads];  // a weight is q * scale + start
    [[unroll]] for (uint q = 0; q < kQuads; ++q) {
      vec4 least;
      read_scales(unit, inside_unit(b) * (32u / kBlock) + side, quad + q, scale[q], least);
      start[q] = -float(kZeroPoint) * scale[q] - least;
    }
    [[dont_unroll]] for (uint c = side * (kBlock / 4u); c < (side + 1u) * (kBlock / 4u); ++c) {
      uvec4 bytes[kQuads];
      [[unroll]] for (uint q = 0; q < kQuads; ++q) bytes[q] = read_four(planes, c, quad + q, low_bits_of_four(tile, p.blocks, b, quad + q, c & 3u));
      vec4 u[kTokens];
      [[unroll]] for (uint t = 0; t < kTokens; ++t) u[t] = input_at(x, t, b * 32u + c * 4u);
      [[unroll]] for (uint i = 0; i < 4u; ++i)
        [[unroll]] for (uint q = 0; q < kQuads; ++q) {
          const vec4 w = fma(vec4(bytes[q] >> i * 8u & 255u), scale[q], start[q]);
          [[unroll]] for (uint t = 0; t < kTokens; ++t) sum[t * kQuads + q] = fma(w, vec4(u[t][i]), sum[t * kQuads + q]);
        }
    }
  }
}
#endif

void main() {
  // Lanes beyond the last whole share are idle.
  const uint lane = gl_LocalInvocationIndex, lanes = kParts == 0u ? LOCAL : LOCAL / p.shares;
  const uint share = kParts == 0u ? 0u : lane / lanes, place = kParts == 0u ? lane : lane % lanes;
  // Tokens from `wanted` on; the last ones of a call come once more with those before them.
  const uint wanted = (kParts == 1u ? gl_WorkGroupID.y * p.shares + share : gl_WorkGroupID.y) * kTokens, first = min(wanted, p.pairs - kTokens);
  if (kParts == 1u && (share >= p.shares || wanted >= p.pairs)) return;
  const uint token = first / p.slots, slot = first % p.slots;
  uint expert = 0;
  if (p.experts != 0u) {
    expert = p.ids == kAbsent ? slot : heap_u[p.ids + first];
    if (expert >= p.experts) {
      fault(kFaultIndex);
      expert = 0;
    }
  }
  // Rows that are not here take those of the window's first tile and drop the result.
  const uint piece = gl_WorkGroupID.x * lanes + place, quad = piece % (4u / kQuads) * kQuads, tile = p.tile_offset + piece / (4u / kQuads);
  const uint inside = expert * p.expert_tiles + tile - p.window_first;
  const bool is_here = inside < p.window_tiles && tile * 16u + quad * 4u < p.rows;
  const uint tile_place = p.at + place_of_tile(is_here ? inside : 0u) * p.tile_place, x = p.x + token * p.x_token + slot * p.x_slot;
  uint n = is_here ? tile * 16u + quad * 4u : kAbsent, to = p.y + first * p.rows, bias = p.bias != kAbsent ? p.bias + expert * p.rows : kAbsent;
  uint skipped = wanted - first;
  // What is needed no more before the end is kept out of registers, as are sums between parts.
  if (kParts != 0u) kept[lane * (kSums + 1u)] = uvec4(n, to, bias, skipped);
  const uint begin = kParts == 2u ? share * p.part_blocks : 0u, end = kParts == 2u ? min(p.blocks, begin + p.part_blocks) : p.blocks;
  vec4 sum[kSums];
  [[unroll]] for (uint i = 0; i < kSums; ++i) sum[i] = vec4(0);
  uint part_end = p.part_blocks;
  [[dont_unroll]] for (uint b = begin; b < end; ++b) {
    add_block(b, tile_place, quad, x, sum);
    if (kParts == 1u && (b + 1u == part_end || b + 1u == end)) {
      [[unroll]] for (uint i = 0; i < kSums; ++i) {
        const uint at = lane * (kSums + 1u) + 1u + i;
        kept[at] = floatBitsToUint(part_end == p.part_blocks ? sum[i] : uintBitsToFloat(kept[at]) + sum[i]);
        sum[i] = vec4(0);
      }
      part_end += p.part_blocks;
    }
  }
  if (kParts == 2u)
    [[unroll]] for (uint i = 0; i < kSums; ++i) kept[lane * (kSums + 1u) + 1u + i] = floatBitsToUint(sum[i]);
  if (kParts == 1u) memoryBarrierShared();
  if (kParts == 2u) barrier();
  if (kParts == 2u && share != 0u) return;
  if (kParts != 0u) {
    const uvec4 all = kept[lane * (kSums + 1u)];
    n = all.x, to = all.y, bias = all.z, skipped = all.w;
    [[unroll]] for (uint i = 0; i < kSums; ++i) {
      sum[i] = uintBitsToFloat(kept[lane * (kSums + 1u) + 1u + i]);
      if (kParts == 2u)
        for (uint k = 1; k < p.shares; ++k) sum[i] += uintBitsToFloat(kept[(lane + k * lanes) * (kSums + 1u) + 1u + i]);
    }
  }
  for (uint r = 0; r < 4u * kQuads && n < p.rows; ++r, ++n)
    for (uint t = skipped; t < kTokens; ++t)
      heap_f[to + t * p.rows + n] = sum[t * kQuads + r / 4u][r % 4u] + (bias != kAbsent ? heap_f[bias + n] : 0.0);
}
