// Reads packed matrices; the layout is that of runtime/format/packed.h. The format is given by specialisation constants, so that one
// shader serves all formats and none pays for the others.
layout(constant_id = 0) const uint kKind = 0;    // 0 integer, 1 f32, 2 f16, 3 bf16
layout(constant_id = 1) const uint kBits = 8;
layout(constant_id = 2) const uint kBlock = 32;  // columns that share a scale: 16 or 32
layout(constant_id = 3) const uint kZeroPoint = 0;
layout(constant_id = 4) const uint kHasMin = 0;
layout(constant_id = 5) const uint kScale = 0;   // 0 f16, 1 u4, 2 u6, 3 s6, 4 i8
layout(constant_id = 6) const uint kSplit = 0;   // 1, 2: with an even, an odd number of blocks in a row
const uint kPlanes = kBits == 8u ? (kSplit != 0u ? 64u : 128u) : kBits * 16u;  // words of a block row

uint weight_byte(uint at, uint i) { return weight_u[at + (i >> 2)] >> ((i & 3u) * 8u) & 255u; }
float weight_half(uint at, uint i) { return unpackHalf2x16(weight_u[at + (i >> 1)])[i & 1u]; }
uvec4 four_bytes(uint word) { return uvec4(word, word >> 8, word >> 16, word >> 24) & 255u; }

// A group of a split matrix has 64 tiles and then as many words of lines.
uint place_of_tile(uint tile) { return kSplit != 0u ? tile + (tile & ~63u) : tile; }
// The low bits that a split matrix has of a block of a row; blocks: of a row, 72 words of a tile each. The scales stand before the bits in a
// line, which may begin within a word.
uvec4 low_bits_of(uint tile, uint blocks, uint block, uint row) {
  if (kSplit == 0u) return uvec4(0);
  const uint half_word = (row * 9u + 1u) * blocks, at = tile + 64u * 72u * blocks + (half_word >> 1) + block * 4u;
  const uvec4 words = uvec4(weight_u[at], weight_u[at + 1u], weight_u[at + 2u], weight_u[at + 3u]);
  if (kSplit == 1u || (half_word & 1u) == 0u) return words;
  return words >> 16 | uvec4(words.yzw, weight_u[at + 4u]) << 16;
}

// q of four columns of a block row of 32 columns.
uvec4 read_q(uint planes, uint chunk, uint row, uint low_bits) {
  if (kSplit != 0u) {
    const uint shift = chunk & 4u, top = weight_u[planes + (chunk & 3u) * 16u + row];
    return four_bytes((top >> shift & 0x0f0f0f0fu) << 4 | (low_bits >> shift & 0x0f0f0f0fu));
  }
  if (kBits == 8u) return four_bytes(weight_u[planes + chunk * 16u + row]);
  uvec4 q = uvec4(0);
  uint at = planes, shift = 0;
  if ((kBits & 4u) != 0u) {
    q = (four_bytes(weight_u[at + (chunk & 3u) * 16u + row]) >> (chunk & 4u)) & 15u;
    at += 64u;
    shift = 4u;
  }
  if ((kBits & 2u) != 0u) {
    q |= ((four_bytes(weight_u[at + (chunk & 1u) * 16u + row]) >> (chunk & 6u)) & 3u) << shift;
    at += 32u;
    shift += 2u;
  }
  if ((kBits & 1u) != 0u) {
    const uint bits = weight_u[at + chunk * 2u + (row >> 3)] >> ((row & 7u) * 4u);
    q |= (uvec4(bits, bits >> 1, bits >> 2, bits >> 3) & 1u) << shift;
  }
  return q;
}

uint read_six(uint at, uint n, uint row, uint i) {
  const uint low = weight_byte(at, i / 2u * 16u + row) >> ((i & 1u) * 4u) & 15u;
  return low | (weight_byte(at, n * 8u + i / 4u * 16u + row) >> ((i & 3u) * 2u) & 3u) << 4;
}

// Scale and minimum of block i of a unit.
vec2 read_scale(uint unit, uint i, uint row) {
  if (kScale == 0u) return vec2(weight_half(unit + i * 8u, row), kHasMin != 0u ? weight_half(unit + (32u / kBlock + i) * 8u, row) : 0.0);
  const uint n = 256u / kBlock, small = unit + (kHasMin != 0u ? 16u : 8u);
  const float d = weight_half(unit, row), dmin = kHasMin != 0u ? weight_half(unit + 8u, row) : 0.0;
  if (kScale == 1u) {
    const uint v = weight_byte(small, i * 16u + row);
    return vec2(d * float(v & 15u), dmin * float(v >> 4));
  }
  if (kScale == 4u) return vec2(d * float(bitfieldExtract(int(weight_byte(small, i * 16u + row)), 0, 8)), 0.0);
  const float scale = float(read_six(small, n, row, i)) - (kScale == 3u ? 32.0 : 0.0);
  return vec2(d * scale, kHasMin != 0u ? dmin * float(read_six(small + n * 3u, n, row, i)) : 0.0);
}

uint unit_words() {
  const uint sides = kHasMin != 0u ? 2u : 1u;
  if (kScale == 0u) return 32u / kBlock * 8u * sides + kPlanes;
  const uint n = 256u / kBlock;
  return (kScale == 1u ? 8u * sides + n * 4u : kScale == 4u ? 8u + n * 4u : (8u + n * 3u) * sides) + kPlanes * 8u;
}
uint header_words() { return unit_words() - kPlanes * (kScale == 0u ? 1u : 8u); }

// Where block row `block` of a tile has its scales and its planes.
uint unit_of(uint tile, uint block) { return tile + (kScale == 0u ? block : block >> 3) * unit_words(); }
uint inside_unit(uint block) { return kScale == 0u ? 0u : block & 7u; }
// The four weights of `row` (0 .. 15) of the tile at word `at`, columns 32 block + 4 chunk ...
vec4 read_weights(uint at, uint blocks, uint row, uint block, uint chunk) {
  if (kKind != 0u) {
    const uint column = block * 32u + chunk * 4u;
    vec4 v;
    for (uint i = 0; i < 4u; ++i) {
      if (kKind == 1u) v[i] = uintBitsToFloat(weight_u[at + (column + i) * 16u + row]);
      else if (kKind == 2u) v[i] = weight_half(at + (column + i) * 8u, row);
      else v[i] = uintBitsToFloat((weight_u[at + (column + i) * 8u + (row >> 1)] >> ((row & 1u) * 16u)) << 16);
    }
    return v;
  }
  const uint per_unit = kScale == 0u ? 1u : 8u, unit = at + block / per_unit * unit_words(), inside = block % per_unit;
  const uvec4 q = read_q(unit + header_words() + inside * kPlanes, chunk, row, low_bits_of(at, blocks, block, row)[chunk & 3u]);
  const vec2 s = read_scale(unit, kBlock == 32u ? inside : inside * 2u + chunk / 4u, row);
  return s.x * (vec4(q) - float(kZeroPoint)) - s.y;
}
