// Packed matrices in four rows side by side, as products read them: components are rows 4 quad .. 4 quad + 3 of a tile, and one load serves them
// all. Units, headers and planes are multiples of four words; places here are counted in those.
layout(set = 0, binding = 2, std430) readonly buffer Weights4 { uvec4 weight_u4[]; };

// Where block row `block` of a tile has its scales and its planes.
uint unit_place(uint tile, uint block) { return tile + (kScale == 0u ? block : block >> 3) * (unit_words() / 4u); }
uint planes_place(uint tile, uint block) { return unit_place(tile, block) + header_words() / 4u + inside_unit(block) * (kPlanes / 4u); }

// Word j of the low bits that a split matrix keeps apart, of block `block`.
uvec4 low_bits_of_four(uint tile, uint blocks, uint block, uint quad, uint j) {
  uvec4 words = uvec4(0);
  if (kSplit == 0u) return words;
  for (uint i = 0; i < 4u; ++i) {
    const uint half_word = ((quad * 4u + i) * 9u + 1u) * blocks, at = tile * 4u + 64u * 72u * blocks + (half_word >> 1) + block * 4u + j;
    words[i] = weight_u[at];
    if (kSplit == 2u && (half_word & 1u) != 0u) words[i] = words[i] >> 16 | weight_u[at + 1u] << 16;
  }
  return words;
}

// Bytes with q of columns 4 chunk .. 4 chunk + 3 of a block row; low_bits: what low_bits_of_four() gave for word chunk % 4.
uvec4 read_four(uint planes, uint chunk, uint quad, uvec4 low_bits) {
  const uint j = chunk & 3u, side = chunk & 4u;
  uint at = planes + quad;
  if (kSplit != 0u) return (weight_u4[at + j * 4u] >> side & 0x0f0f0f0fu) << 4 | (low_bits >> side & 0x0f0f0f0fu);
  if (kBits == 8u) return weight_u4[at + chunk * 4u];
  uvec4 q = uvec4(0);
  uint shift = 0;
  if ((kBits & 4u) != 0u) {
    q = weight_u4[at + j * 4u] >> side & 0x0f0f0f0fu;
    at += 16u;
    shift = 4u;
  }
  if ((kBits & 2u) != 0u) {
    q |= (weight_u4[at + (j & 1u) * 4u] >> (chunk & 6u) & 0x03030303u) << shift;
    at += 8u;
    shift += 2u;
  }
  if ((kBits & 1u) != 0u) {
    const uvec4 bits = uvec4(weight_u[(at - quad) * 4u + chunk * 2u + quad / 2u]) >> uvec4(0, 4, 8, 12) + (quad & 1u) * 16u;
    q |= ((bits & 15u) * 0x00204081u & 0x01010101u) << shift;
  }
  return q;
}

vec4 four_halves(uint word) { return vec4(unpackHalf2x16(weight_u[word]), unpackHalf2x16(weight_u[word + 1u])); }
uvec4 six_bits(uint word, uint n, uint i) {
  const uvec4 low = four_bytes(weight_u[word + i / 2u * 4u] >> ((i & 1u) * 4u)) & 15u;
  return low | (four_bytes(weight_u[word + n * 2u + i / 4u * 4u] >> ((i & 3u) * 2u)) & 3u) << 4;
}
// Scales and minimums of block i of a unit.
void read_scales(uint unit, uint i, uint quad, out vec4 scale, out vec4 least) {
  const uint halves = unit * 4u + quad * 2u;
  least = vec4(0);
  if (kScale == 0u) {
    scale = four_halves(halves + i * 8u);
    if (kHasMin != 0u) least = four_halves(halves + (32u / kBlock + i) * 8u);
    return;
  }
  const uint n = 256u / kBlock, small = unit * 4u + (kHasMin != 0u ? 16u : 8u) + quad;
  scale = four_halves(halves);
  if (kHasMin != 0u) least = four_halves(halves + 8u);
  if (kScale == 1u) {
    const uint v = weight_u[small + i * 4u];
    scale *= vec4(four_bytes(v & 0x0f0f0f0fu));
    least *= vec4(four_bytes(v >> 4 & 0x0f0f0f0fu));
  } else if (kScale == 4u) {
    const int v = int(weight_u[small + i * 4u]);
    scale *= vec4(bitfieldExtract(v, 0, 8), bitfieldExtract(v, 8, 8), bitfieldExtract(v, 16, 8), v >> 24);
  } else {
    scale *= vec4(six_bits(small, n, i)) - (kScale == 3u ? 32.0 : 0.0);
    if (kHasMin != 0u) least *= vec4(six_bits(small + n * 3u, n, i));
  }
}
