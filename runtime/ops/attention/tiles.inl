// The inner products of attention on blocks of query rows, and the ways in which keys and values reach them.
#pragma once

#include "contract/op.h"
#include "cpu/simd.h"
#include "format/states.h"

namespace runnel::RNL_ISA {
namespace {

// Keys are worked on in spans of 256 absolute positions. Each span has its own maximum, sum and weighted values, and
// spans are merged in order, so that a row's bits depend neither on the call's cut nor on which thread works on which
// span.
constexpr int kSpan = 256;
constexpr int kScoreStride = kSpan + 16;  // floats a row; the 16 keep rows out of the same cache sets

// Query rows that one pass keeps in registers when keys come as f32 from a panel (kBlockRows) or straight from the
// state (kDirectRows).
#if defined(__AVX512F__)
constexpr int kBlockRows = 12, kDirectRows = 4, kRegisterTiles = 16;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kBlockRows = 6, kDirectRows = 4, kRegisterTiles = 4;
#else
constexpr int kBlockRows = 2, kDirectRows = 2, kRegisterTiles = 2;
#endif
constexpr int kItemRows = 48;  // rows that share one conversion of keys and values; a multiple of each kBlockRows
// Tiles beside each other in a pass of R rows: R times this many accumulators.
template <int R>
constexpr int kWide = kRegisterTiles / R > 4   ? 4
                      : kRegisterTiles / R < 1 ? 1
                                               : kRegisterTiles / R;

// The inner loops are written on one machine register of kLanes floats: compilers keep an array of tiles of 16 in
// memory where a tile is more than one register.
#if defined(__AVX512F__)
typedef __m512 Lanes;
RNL_INLINE Lanes lanes_of(float v) { return _mm512_set1_ps(v); }
RNL_INLINE Lanes lanes_at(const float* p) { return _mm512_loadu_ps(p); }
RNL_INLINE Lanes lanes_at(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
RNL_INLINE void put(float* p, Lanes v) { _mm512_storeu_ps(p, v); }
RNL_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX2__)
typedef __m256 Lanes;
RNL_INLINE Lanes lanes_of(float v) { return _mm256_set1_ps(v); }
RNL_INLINE Lanes lanes_at(const float* p) { return _mm256_loadu_ps(p); }
RNL_INLINE Lanes lanes_at(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
RNL_INLINE void put(float* p, Lanes v) { _mm256_storeu_ps(p, v); }
RNL_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
#else
typedef float Lanes __attribute__((vector_size(16)));
typedef uint32_t LaneBits __attribute__((vector_size(16)));
typedef float UnalignedLanes __attribute__((vector_size(16), aligned(4)));
RNL_INLINE Lanes lanes_of(float v) { return Lanes{v, v, v, v}; }
RNL_INLINE Lanes lanes_at(const float* p) { return *reinterpret_cast<const UnalignedLanes*>(p); }
RNL_INLINE void put(float* p, Lanes v) { *reinterpret_cast<UnalignedLanes*>(p) = v; }
#if defined(__ARM_NEON) && (defined(__aarch64__) || defined(__ARM_FP16_FORMAT_IEEE))
RNL_INLINE Lanes lanes_at(const uint16_t* p) { return (Lanes)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
#else
RNL_INLINE Lanes lanes_at(const uint16_t* p) {  // as load_half
  const LaneBits h = {p[0], p[1], p[2], p[3]};
  const LaneBits em = h & 0x7fffu, special = (LaneBits)(em >= 0x7c00u);
  const Lanes v = (Lanes)(em << 13) * lanes_of(0x1p112f);
  return (Lanes)((((LaneBits)v & ~special) | (((em << 13) | 0x7f800000u) & special)) | ((h & 0x8000u) << 16));
}
#endif
#if defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
RNL_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
  return (Lanes)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
RNL_INLINE Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return a * b + c; }
#endif
#endif
constexpr int kLanes = int(sizeof(Lanes) / sizeof(float)), kParts = 16 / kLanes;

// scores[r][16 n + lane] = q[., r] . k[n][., lane]; q is [key][R], k is N tiles of [key][16] elements of type E.
template <int R, int N, class E>
void key_products(const float* q, const void* keys, int64_t key, float* scores) {
  const E* k = static_cast<const E*>(keys);
  Lanes acc[R][N * kParts];
  RNL_UNROLL_FOR (int r = 0; r < R; ++r)
    RNL_UNROLL_FOR (int i = 0; i < N * kParts; ++i) acc[r][i] = Lanes{};
  for (int64_t d = 0; d < key; ++d) {
    Lanes tile[N * kParts];
    RNL_UNROLL_FOR (int i = 0; i < N * kParts; ++i)
      tile[i] = lanes_at(k + (i / kParts * key + d) * 16 + i % kParts * kLanes);
    RNL_UNROLL_FOR (int r = 0; r < R; ++r) {
      const Lanes weight = lanes_of(q[d * R + r]);
      RNL_UNROLL_FOR (int i = 0; i < N * kParts; ++i) acc[r][i] = multiply_add(weight, tile[i], acc[r][i]);
    }
  }
  RNL_UNROLL_FOR (int r = 0; r < R; ++r)
    RNL_UNROLL_FOR (int i = 0; i < N * kParts; ++i) put(scores + r * kScoreStride + i * kLanes, acc[r][i]);
}

// acc[r][16 c + lane] += sum_s p[r][s] v[s][16 c + lane] over n slots, in their order; strides in elements.
template <int R, int C, class E>
void value_products(const float* p, const void* values, int64_t v_stride, int64_t n, float* acc, int64_t acc_stride) {
  const E* v = static_cast<const E*>(values);
  Lanes sum[R][C * kParts];
  RNL_UNROLL_FOR (int r = 0; r < R; ++r)
    RNL_UNROLL_FOR (int i = 0; i < C * kParts; ++i) sum[r][i] = lanes_at(acc + r * acc_stride + i * kLanes);
  for (int64_t s = 0; s < n; ++s) {
    Lanes tile[C * kParts];
    RNL_UNROLL_FOR (int i = 0; i < C * kParts; ++i) tile[i] = lanes_at(v + s * v_stride + i * kLanes);
    RNL_UNROLL_FOR (int r = 0; r < R; ++r) {
      const Lanes weight = lanes_of(p[r * kScoreStride + s]);
      RNL_UNROLL_FOR (int i = 0; i < C * kParts; ++i) sum[r][i] = multiply_add(weight, tile[i], sum[r][i]);
    }
  }
  RNL_UNROLL_FOR (int r = 0; r < R; ++r)
    RNL_UNROLL_FOR (int i = 0; i < C * kParts; ++i) put(acc + r * acc_stride + i * kLanes, sum[r][i]);
}

using KeyFn = void (*)(const float* q, const void* keys, int64_t key, float* scores);
using ValueFn = void (*)(const float* p, const void* values, int64_t v_stride, int64_t n, float* acc,
                         int64_t acc_stride);

// The inner products of a block of `rows` query rows: `wide` tiles at a time, then one at a time; `single` ones are for
// one row of it.
struct Products {
  int rows, wide;
  size_t element;  // bytes
  KeyFn keys_wide, keys_one;
  ValueFn values_wide, values_one, single_wide, single_one;
};
template <int R, int N, class E>
constexpr Products kProducts{R,
                             N,
                             sizeof(E),
                             key_products<R, N, E>,
                             key_products<R, 1, E>,
                             value_products<R, N, E>,
                             value_products<R, 1, E>,
                             value_products<1, N, E>,
                             value_products<1, 1, E>};

// For panels of f32, and for `rows` (1, 2 or kDirectRows) of a state of type E read in place.
constexpr const Products& kPanelProducts = kProducts<kBlockRows, 1, float>;
template <class E>
RNL_INLINE const Products* direct_products(int rows) {
  return rows == 1   ? &kProducts<1, kWide<1>, E>
         : rows == 2 ? &kProducts<2, kWide<2>, E>
                     : &kProducts<kDirectRows, kWide<kDirectRows>, E>;
}

// Where keys and values of a call lie. Without states k and v of the call themselves are read, from token `begin` on.
struct KeyValues {
  const float *k, *v;  // [tokens, kv_heads, key] and [.., value]
  unsigned char *k_state, *v_state;
  DType dtype;  // of the states; kNone without
  int64_t kv_heads, key, value, slots;
};

RNL_INLINE float half_bits(const unsigned char* p) {
  const uint16_t h[16] = {uint16_t(p[0] | p[1] << 8)};
  return load_half(h)[0];
}

// 16 keys from position `at` (a multiple of 16) of head h as [key][16] floats: in place for f32 states, else in
// `panel`. Positions from `end` on are not read when there are no states.
RNL_INLINE const float* key_tile(const KeyValues& kv, int64_t h, int64_t begin, int64_t at, int64_t end, float* panel) {
  if (kv.dtype == DType::kNone) {
    for (int64_t s = 0; s < 16; ++s) {
      const bool real = at + s < end;
      const float* from = kv.k + ((begin + at + s) * kv.kv_heads + h) * kv.key;
      for (int64_t d = 0; d < kv.key; ++d) panel[d * 16 + s] = real ? from[d] : 0.0f;
    }
    return panel;
  }
  const int64_t tile = h * (kv.slots / 16) + at % kv.slots / 16;
  if (kv.dtype == DType::kF32) return reinterpret_cast<const float*>(kv.k_state) + tile * kv.key * 16;
  if (kv.dtype == DType::kF16) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(kv.k_state) + tile * kv.key * 16;
    for (int64_t d = 0; d < kv.key; ++d) store(panel + d * 16, load_half(from + d * 16));
    return panel;
  }
  const int64_t blocks = (kv.key + 31) / 32;
  for (int64_t b = 0; b < blocks; ++b) {
    const unsigned char* block = kv.k_state + (tile * blocks + b) * (34 * 16);
    const f32x16 scale = load_half(reinterpret_cast<const uint16_t*>(block + 512));
    for (int64_t d = 0; d < 32 && b * 32 + d < kv.key; ++d) {
      store(panel + (b * 32 + d) * 16, to_float(widen(reinterpret_cast<const int8_t*>(block) + d * 16)) * scale);
    }
  }
  return panel;
}

// Columns 16 c .. 16 c + 15 (zeros behind the last one) of the values at positions at .. at + n - 1, as [n][16] floats.
// The positions lie in one tile of kSlotTile.
RNL_INLINE void value_panel(const KeyValues& kv, int64_t h, int64_t begin, int64_t at, int64_t n, int64_t c,
                            float* panel) {
  const int columns = kv.value - 16 * c < 16 ? int(kv.value - 16 * c) : 16;
  if (kv.dtype == DType::kQ8) {
    const int64_t blocks = (kv.value + 31) / 32;
    for (int64_t s = 0; s < n; ++s) {
      const unsigned char* block = kv.v_state + ((h * kv.slots + (at + s) % kv.slots) * blocks + c / 2) * 34;
      const float scale = half_bits(block + 32);
      store(panel + s * 16, to_float(widen(reinterpret_cast<const int8_t*>(block) + c % 2 * 16)) * scale);
    }
  } else if (kv.dtype == DType::kF16) {
    const uint16_t* from =
        reinterpret_cast<const uint16_t*>(kv.v_state) + (h * kv.slots + at % kv.slots) * kv.value + 16 * c;
    for (int64_t s = 0; s < n; ++s, from += kv.value) {
      if (columns == 16) {
        store(panel + s * 16, load_half(from));
      } else {
        uint16_t part[16] = {};
        for (int i = 0; i < columns; ++i) part[i] = from[i];
        store(panel + s * 16, load_half(part));
      }
    }
  } else {
    const bool state = kv.dtype == DType::kF32;
    const int64_t stride = state ? kv.value : kv.kv_heads * kv.value;
    const float* from = (state ? reinterpret_cast<const float*>(kv.v_state) + (h * kv.slots + at % kv.slots) * kv.value
                               : kv.v + ((begin + at) * kv.kv_heads + h) * kv.value) +
                        16 * c;
    for (int64_t s = 0; s < n; ++s, from += stride)
      store(panel + s * 16, columns == 16 ? load(from) : load_n(from, columns));
  }
}

// Scale and int8 of up to 32 values; the same arithmetic as the reference. A value that is not finite makes the block
// NaN.
[[maybe_unused]] __attribute__((noinline)) uint16_t quantise_block(const float* x, int64_t n, int8_t* q) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    const float a = __builtin_fabsf(x[i]);
    finite = finite && a <= 3.40282347e38f;
    if (a > largest) largest = a;
  }
  uint16_t half[16];
  store_half(half, splat(largest / 127.0f));
  if (half[0] == 0x7c00) half[0] = 0x7bff;
  if (!finite) half[0] = 0x7e00;
  const float scale = load_half(half)[0];
  for (int64_t i = 0; i < 32; ++i) {
    float v = i < n && finite && scale > 0 ? x[i] / scale : 0.0f;
    v = v > 127 ? 127 : v < -127 ? -127 : v;
    q[i] = int8_t((v + 12582912.0f) - 12582912.0f);  // rounds to nearest even
  }
  return half[0];
}

// Writes key and value of one token and head into their slot.
RNL_INLINE void write_slot(const KeyValues& kv, int64_t t, int64_t h, int64_t slot) {
  const float* k = kv.k + (t * kv.kv_heads + h) * kv.key;
  const float* v = kv.v + (t * kv.kv_heads + h) * kv.value;
  const int64_t tile = h * (kv.slots / 16) + slot / 16, lane = slot % 16, row = h * kv.slots + slot;
  if (kv.dtype == DType::kF32) {
    float* to = reinterpret_cast<float*>(kv.k_state) + tile * kv.key * 16 + lane;
    for (int64_t d = 0; d < kv.key; ++d) to[d * 16] = k[d];
    __builtin_memcpy(reinterpret_cast<float*>(kv.v_state) + row * kv.value, v, size_t(kv.value) * 4);
  } else if (kv.dtype == DType::kF16) {
    uint16_t part[16];
    uint16_t* to = reinterpret_cast<uint16_t*>(kv.k_state) + tile * kv.key * 16 + lane;
    for (int64_t d = 0; d < kv.key; d += 16) {
      const int n = kv.key - d < 16 ? int(kv.key - d) : 16;
      store_half(part, n == 16 ? load(k + d) : load_n(k + d, n));
      for (int i = 0; i < n; ++i) to[(d + i) * 16] = part[i];
    }
    uint16_t* values = reinterpret_cast<uint16_t*>(kv.v_state) + row * kv.value;
    for (int64_t d = 0; d < kv.value; d += 16) {
      const int n = kv.value - d < 16 ? int(kv.value - d) : 16;
      store_half(part, n == 16 ? load(v + d) : load_n(v + d, n));
      for (int i = 0; i < n; ++i) values[d + i] = part[i];
    }
  } else {
    int8_t q[32];
    const int64_t key_blocks = (kv.key + 31) / 32, value_blocks = (kv.value + 31) / 32;
    for (int64_t b = 0; b < key_blocks; ++b) {
      const uint16_t scale = quantise_block(k + b * 32, kv.key - b * 32 < 32 ? kv.key - b * 32 : 32, q);
      unsigned char* block = kv.k_state + (tile * key_blocks + b) * (34 * 16);
      for (int i = 0; i < 32; ++i) block[i * 16 + lane] = uint8_t(q[i]);
      block[512 + lane * 2] = uint8_t(scale);
      block[513 + lane * 2] = uint8_t(scale >> 8);
    }
    for (int64_t b = 0; b < value_blocks; ++b) {
      const uint16_t scale = quantise_block(v + b * 32, kv.value - b * 32 < 32 ? kv.value - b * 32 : 32, q);
      unsigned char* block = kv.v_state + (row * value_blocks + b) * 34;
      __builtin_memcpy(block, q, 32);
      block[32] = uint8_t(scale);
      block[33] = uint8_t(scale >> 8);
    }
  }
}

}  // namespace
}  // namespace runnel::RNL_ISA
