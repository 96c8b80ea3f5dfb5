// GGUF's IQ2 and IQ3 formats taken apart: groups of magnitudes stand in code books, signs and scales beside them. A
// value is d (2 s + 1) times a magnitude times the unit of its type (unit_of), s four bits for 16 or 32 values.
#include <bit>
#include <cstring>

#include "converter/weights/quant_row.h"

namespace runnel::convert {
namespace {

#include "converter/weights/codebooks.inc"

constexpr uint8_t kIq2Levels[4] = {8, 25, 43, 0};
constexpr uint8_t kIq3XxsLevels[8] = {2, 6, 10, 14, 18, 22, 26, 31};  // half of what the definition has
constexpr uint8_t kIq3SLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};

uint16_t u16_at(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
uint32_t u32_at(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}
// Seven signs; the eighth makes their number even.
uint8_t even_signs(uint32_t seven) { return uint8_t((seven & 127) | (uint32_t(std::popcount(seven & 127)) & 1) << 7); }

// n values of one code.
void put(uint32_t code, int bits, const uint8_t* levels, uint32_t signs, int n, int zero_point, uint8_t* q) {
  for (int i = 0; i < n; ++i) {
    const int magnitude = levels[code >> (i * bits) & ((1u << bits) - 1)];
    q[i] = uint8_t(zero_point + (signs >> i & 1 ? -magnitude : magnitude));
  }
}
void put2(uint16_t code, uint8_t signs, uint8_t* q) { put(code, 2, kIq2Levels, signs, 8, 64, q); }

uint8_t odd_scale(int four_bits) { return uint8_t(2 * (four_bits & 15) + 1); }

void split_iq2_xxs(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  for (int k = 0; k < 8; ++k) {
    const uint8_t* codes = b + 2 + 8 * k;
    const uint32_t rest = u32_at(codes + 4);
    scales[k] = odd_scale(int(rest >> 28));
    for (int i = 0; i < 4; ++i) put2(kIq2Xxs[codes[i]], even_signs(rest >> (7 * i)), q + 32 * k + 8 * i);
  }
}

void nibble_scales(const uint8_t* from, int n, uint8_t* scales) {
  for (int i = 0; i < n; ++i) scales[i] = odd_scale(from[i / 2] >> (i % 2 * 4));
}

void split_iq2_xs(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  nibble_scales(b + 66, 16, scales);
  for (int i = 0; i < 32; ++i) {
    const uint16_t code = u16_at(b + 2 + 2 * i);
    put2(kIq2Xs[code & 511], even_signs(code >> 9), q + 8 * i);
  }
}

void split_iq2_s(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  const uint8_t *codes = b + 2, *signs = b + 34, *high = b + 66;
  nibble_scales(b + 74, 16, scales);
  for (int i = 0; i < 32; ++i) put2(kIq2S[codes[i] | (high[i / 4] >> (i % 4 * 2) & 3) << 8], signs[i], q + 8 * i);
}

void split_iq3_xxs(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  for (int k = 0; k < 8; ++k) {
    const uint32_t rest = u32_at(b + 66 + 4 * k);
    scales[k] = odd_scale(int(rest >> 28));
    for (int i = 0; i < 8; ++i)
      put(kIq3Xxs[b[2 + 8 * k + i]], 3, kIq3XxsLevels, uint32_t(even_signs(rest >> (i / 2 * 7))) >> (i % 2 * 4), 4, 32,
          q + 32 * k + 4 * i);
  }
}

void split_iq3_s(const uint8_t* b, uint8_t* q, uint8_t* scales) {
  const uint8_t *codes = b + 2, *high = b + 66, *signs = b + 74;
  nibble_scales(b + 106, 8, scales);
  for (int i = 0; i < 64; ++i)
    put(kIq3S[codes[i] | (high[i / 8] >> (i % 8) & 1) << 8], 3, kIq3SLevels, uint32_t(signs[i / 2]) >> (i % 2 * 4), 4,
        16, q + 4 * i);
}

}  // namespace

void split_codebook(SourceType type, const uint8_t* b, size_t super, QuantRow& row) {
  uint8_t* q = row.q.data() + super * 256;
  uint8_t* scales = row.scales.data() + super * (256u / row.format.block);
  row.d[super] = u16_at(b);
  switch (type) {
    case SourceType::kIQ2_XXS: return split_iq2_xxs(b, q, scales);
    case SourceType::kIQ2_XS: return split_iq2_xs(b, q, scales);
    case SourceType::kIQ2_S: return split_iq2_s(b, q, scales);
    case SourceType::kIQ3_XXS: return split_iq3_xxs(b, q, scales);
    default: return split_iq3_s(b, q, scales);
  }
}

}  // namespace runnel::convert
