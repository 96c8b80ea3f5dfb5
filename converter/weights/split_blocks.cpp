// The block formats of GGUF, taken apart. Element order, signs and scale packing follow the format's definition; every
// value of a row comes out with the same bits as the format's own dequantisation gives.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "converter/weights/quant_row.h"

namespace runnel::convert {
namespace {

uint16_t half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}
uint16_t negated(uint16_t half) { return uint16_t(half ^ 0x8000u); }

// Low nibbles are the first half of 32 elements, high nibbles the second.
void nibbles32(const uint8_t* from, uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = from[i] & 15;
    q[i + 16] = from[i] >> 4;
  }
}

void fifth_bits(const uint8_t* from, uint8_t* q) {
  uint32_t bits;
  std::memcpy(&bits, from, 4);
  for (int i = 0; i < 32; ++i) q[i] |= uint8_t((bits >> i & 1) << 4);
}

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kFp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // twice the value

// 2^(exponent - 128) as f16: half of a scale of MXFP4, whose exponent is biased by 127. Blocks below 2^-24 become
// zeros, too large ones infinite.
uint16_t half_of_power(int exponent) {
  const int power = exponent - 128;
  if (power > 15) return 0x7c00;
  if (power >= -14) return uint16_t((power + 15) << 10);
  return power >= -24 ? uint16_t(1u << (power + 24)) : uint16_t(0);
}

void look_up(const int8_t* values, int zero_point, uint8_t* q) {
  for (int i = 0; i < 32; ++i) q[i] = uint8_t(values[q[i]] + zero_point);
}

// An 8-bit float without a sign, halved, as f16. Of NVFP4, whose table holds twice the values; what would be NaN is 0
// there.
uint16_t half_of_ue4m3(uint8_t v) {
  if (v == 0x7f) return 0;
  const int exponent = v >> 3 & 15, mantissa = v & 7;
  return float_to_half(exponent ? std::ldexp(float(8 + mantissa), exponent - 11) : std::ldexp(float(mantissa), -10));
}

void split_nvfp4(const uint8_t* b, size_t block, QuantRow& row) {
  uint8_t* q = row.q.data() + block * 64;
  for (int k = 0; k < 4; ++k) {
    row.d[block * 4 + size_t(k)] = half_of_ue4m3(b[k]);
    for (int i = 0; i < 8; ++i) {
      q[16 * k + i] = uint8_t(kFp4Values[b[4 + 8 * k + i] & 15] + 16);
      q[16 * k + i + 8] = uint8_t(kFp4Values[b[4 + 8 * k + i] >> 4] + 16);
    }
  }
}

void split_small(SourceType type, const uint8_t* b, size_t block, QuantRow& row) {
  uint8_t* q = row.q.data() + block * 32;
  row.d[block] = type == SourceType::kMXFP4 ? half_of_power(b[0]) : half_at(b);
  switch (type) {
    case SourceType::kIQ4_NL:
      nibbles32(b + 2, q);
      look_up(kIq4Values, 128, q);
      break;
    case SourceType::kMXFP4:
      nibbles32(b + 1, q);
      look_up(kFp4Values, 16, q);
      break;
    case SourceType::kQ4_0: nibbles32(b + 2, q); break;
    case SourceType::kQ4_1:  // d * q + m: the minimum is stored with the other sign
      row.dmin[block] = negated(half_at(b + 2));
      nibbles32(b + 4, q);
      break;
    case SourceType::kQ5_0:
      nibbles32(b + 6, q);
      fifth_bits(b + 2, q);
      break;
    case SourceType::kQ5_1:
      row.dmin[block] = negated(half_at(b + 2));
      nibbles32(b + 8, q);
      fifth_bits(b + 4, q);
      break;
    default:  // Q8_0: signed bytes around zero point 128
      for (int i = 0; i < 32; ++i) q[i] = uint8_t(b[2 + i] + 128);
  }
}

void split_q2_k(const uint8_t* b, uint8_t* q, uint8_t* scales, uint8_t* mins) {
  for (int i = 0; i < 16; ++i) {
    scales[i] = b[i] & 15;
    mins[i] = b[i] >> 4;
  }
  for (int i = 0; i < 256; ++i) q[i] = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

void split_q3_k(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  const uint8_t *high = b, *low = b + 32, *packed = b + 96;
  for (int i = 0; i < 16; ++i) {
    const int nibble = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    scales[i] = uint8_t(nibble | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4);
  }
  for (int i = 0; i < 256; ++i) {
    const int top = high[i % 32] >> (i / 32) & 1;
    q[i] = uint8_t((low[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) | top << 2);
  }
}

// Eight 6-bit scales and minimums in 12 bytes, as Q4_K and Q5_K have them.
void six_bit_scales(const uint8_t* p, uint8_t* scales, uint8_t* mins) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = p[i] & 63;
    mins[i] = p[i + 4] & 63;
    scales[i + 4] = uint8_t((p[i + 8] & 15) | (p[i] >> 6) << 4);
    mins[i + 4] = uint8_t((p[i + 8] >> 4) | (p[i + 4] >> 6) << 4);
  }
}

void nibbles256(const uint8_t* from, uint8_t* q) {
  for (int i = 0; i < 256; ++i) q[i] = from[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

void split_q6_k(const uint8_t* b, uint8_t* q) {
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, part = i % 128 / 32, l = i % 32;
    const uint8_t low = b[half * 64 + (part & 1) * 32 + l] >> (part / 2 * 4) & 15;
    const uint8_t high = b[128 + half * 32 + l] >> (part * 2) & 3;
    q[i] = uint8_t(low | high << 4);
  }
}

// Five digits of base 3 in a byte, as a fraction of 256: multiplied by 3 the first one stands above the byte.
uint8_t ternary_digit(uint8_t byte, int place) {
  static constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  return uint8_t(uint8_t(byte * kPowers[place]) * 3 >> 8);
}

void split_tq1_0(const uint8_t* b, uint8_t* q) {
  for (int i = 0; i < 160; ++i) q[i] = ternary_digit(b[i % 32], i / 32);
  for (int i = 0; i < 80; ++i) q[160 + i] = ternary_digit(b[32 + i % 16], i / 16);
  for (int i = 0; i < 16; ++i) q[240 + i] = ternary_digit(b[48 + i % 4], i / 4);
}

void split_iq4_xs(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  for (int k = 0; k < 8; ++k) {
    const int low = b[4 + k / 2] >> (k % 2 * 4) & 15, high = b[2 + k / 4] >> (k % 4 * 2) & 3;
    scales[k] = uint8_t((low | high << 4) - 32);
    nibbles32(b + 8 + 16 * k, q + 32 * k);
    look_up(kIq4Values, 128, q + 32 * k);
  }
}

void split_super(SourceType type, const uint8_t* b, size_t super, QuantRow& row) {
  uint8_t* q = row.q.data() + super * 256;
  const size_t n = 256u / row.format.block;
  uint8_t* scales = row.scales.data() + super * n;
  uint8_t* mins = row.format.has_min ? row.mins.data() + super * n : nullptr;
  switch (type) {
    case SourceType::kQ2_K:
      split_q2_k(b, q, scales, mins);
      row.d[super] = half_at(b + 80);
      row.dmin[super] = half_at(b + 82);
      break;
    case SourceType::kQ3_K:
      split_q3_k(b, q, scales);
      row.d[super] = half_at(b + 108);
      break;
    case SourceType::kQ4_K:
    case SourceType::kQ5_K:
      row.d[super] = half_at(b);
      row.dmin[super] = half_at(b + 2);
      six_bit_scales(b + 4, scales, mins);
      nibbles256(b + (type == SourceType::kQ4_K ? 16 : 48), q);
      if (type == SourceType::kQ5_K)
        for (int i = 0; i < 256; ++i) q[i] |= uint8_t((b[16 + i % 32] >> (i / 32) & 1) << 4);
      break;
    case SourceType::kIQ4_XS:
      row.d[super] = half_at(b);
      split_iq4_xs(b, q, scales);
      break;
    case SourceType::kTQ1_0:
      row.d[super] = half_at(b + 52);
      std::memset(scales, 1, n);
      split_tq1_0(b, q);
      break;
    case SourceType::kTQ2_0:
      row.d[super] = half_at(b + 64);
      std::memset(scales, 1, n);
      for (int i = 0; i < 256; ++i) q[i] = b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      break;
    case SourceType::kIQ2_XXS:
    case SourceType::kIQ2_XS:
    case SourceType::kIQ2_S:
    case SourceType::kIQ3_XXS:
    case SourceType::kIQ3_S: split_codebook(type, b, super, row); break;
    default:  // Q6_K
      split_q6_k(b, q);
      std::memcpy(scales, b + 192, 16);
      row.d[super] = half_at(b + 208);
  }
}

}  // namespace

void split_blocks(SourceType type, const uint8_t* bytes, QuantRow& row) {
  const SourceTypeInfo& ti = info(type);
  const size_t blocks = size_t(row.columns / ti.block);
  for (size_t i = 0; i < blocks; ++i) {
    if (type == SourceType::kNVFP4) split_nvfp4(bytes + i * ti.bytes, i, row);
    else if (ti.block == 32) split_small(type, bytes + i * ti.bytes, i, row);
    else split_super(type, bytes + i * ti.bytes, i, row);
  }
}

}  // namespace runnel::convert
