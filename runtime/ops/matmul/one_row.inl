// Products of one token: bandwidth is everything. Each task walks its tiles, which lie one behind the other in memory,
// unpacks in registers and asks for every cache line a few KB ahead.

constexpr int kPrefetchBytes = 4096;

#if defined(__ARM_NEON)
#include "ops/matmul/scales_neon.inl"
#else
// Entries 4g..4g+3 of n six-bit numbers a row.
RNL_INLINE void six_bits(const uint8_t* p, int n, int g, i32x16 out[4]) {
  const i32x16 low0 = widen(p + g * 32), low1 = widen(p + g * 32 + 16), high = widen(p + n * 8 + g * 16);
  out[0] = (low0 & 15) | (high & 3) << 4;
  out[1] = low0 >> 4 | (high >> 2 & 3) << 4;
  out[2] = (low1 & 15) | (high >> 4 & 3) << 4;
  out[3] = low1 >> 4 | (high >> 6) << 4;
}

// Small scales and minus the minimums of a unit of 256 columns as [blocks][16] floats each.
RNL_NOINLINE void expand_small_scales(const PackedFormat& f, const uint8_t* unit, float* scales, float* minus_mins) {
  const int n = kSuperColumns / f.block;
  const f32x16 d = load_halves(reinterpret_cast<const uint16_t*>(unit));
  const f32x16 dmin = f.has_min ? -load_halves(reinterpret_cast<const uint16_t*>(unit + 32)) : splat(0);
  const uint8_t* p = unit + (f.has_min ? 64 : 32);
  if (f.scale == ScaleKind::kU4) {
    RNL_KEEP_FOR (int i = 0; i < n; ++i) {
      const i32x16 v = widen(p + i * 16);
      store(scales + i * 16, d * to_float(v & 15));
      store(minus_mins + i * 16, dmin * to_float(v >> 4));
    }
  } else if (f.scale == ScaleKind::kI8) {
    RNL_KEEP_FOR (int i = 0; i < n; ++i) {
      store(scales + i * 16, d * to_float(widen(reinterpret_cast<const int8_t*>(p) + i * 16)));
    }
  } else {
    const int subtract = f.scale == ScaleKind::kS6 ? 32 : 0;
    RNL_KEEP_FOR (int g = 0; g < n / 4; ++g) {
      i32x16 v[4];
      six_bits(p, n, g, v);
      for (int i = 0; i < 4; ++i) store(scales + (g * 4 + i) * 16, d * to_float(v[i] - subtract));
      if (!f.has_min) continue;
      six_bits(p + n * 12, n, g, v);
      for (int i = 0; i < 4; ++i) store(minus_mins + (g * 4 + i) * 16, dmin * to_float(v[i]));
    }
  }
}
#endif

// The same for every kind of scales.
RNL_INLINE void expand_scales(const PackedFormat& f, const uint8_t* unit, float* scales, float* minus_mins) {
  if (f.scale != ScaleKind::kF16) return expand_small_scales(f, unit, scales, minus_mins);
  const uint16_t* p = reinterpret_cast<const uint16_t*>(unit);
  store(scales, load_halves(p));
  if (f.block == 16) {
    store(scales + 16, load_halves(p + 16));
    if (!f.has_min) return;
    store(minus_mins, -load_halves(p + 32));
    store(minus_mins + 16, -load_halves(p + 48));
  } else if (f.has_min) {
    store(minus_mins, -load_halves(p + 16));
  }
}

struct OneRow {
  PackedFormat format;
  const uint8_t* weights;
  size_t tile_bytes;
  int64_t units, rows;
  const int8_t* q;
  const Side<1>* side;
  const float* bias;
  float* y;
};

#if defined(__ARM_NEON)
#include "ops/matmul/one_row_neon.inl"
#else
// One block row of a tile added to acc.
template <int kBits, int kBlock>
RNL_INLINE f32x16 block_row(f32x16 acc, const uint8_t* planes, const int8_t* q, const Side<1>& side, int bits,
                            int zero_point, const float* scales, const float* minus_mins) {
  const int s0 = side.sum[0][0], s1 = side.sum[1][0];
  const float sx = side.scale[0];
  Chunk w[4];
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) w[c] = unpack_chunk<kBits>(planes, c, bits);
  i32x16 dot = dot_chunks<kBits>(w, q, i32x16{} - zero_point * (kBlock == 32 ? s0 + s1 : s0));
  if (kBlock == 16) {
    acc = fma(to_float(dot), load(scales) * sx, acc);
    if (minus_mins) acc = fma(load(minus_mins), splat(sx * float(s0)), acc);
    dot = i32x16{} - zero_point * s1;
  }
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) w[c] = unpack_chunk<kBits>(planes, c + 4, bits);
  dot = dot_chunks<kBits>(w, q + 16, dot);
  constexpr int kLast = kBlock == 32 ? 0 : 16;
  acc = fma(to_float(dot), load(scales + kLast) * sx, acc);
  if (minus_mins) acc = fma(load(minus_mins + kLast), splat(sx * float(kBlock == 32 ? s0 + s1 : s1)), acc);
  return acc;
}

template <int kBits, int kBlock>
void one_row(const OneRow& j, int64_t first_tile, int64_t end_tile) {
  const PackedFormat& f = j.format;
  const int zero_point = int(f.zero_point) - offset_of(kBits);
  const int block_rows = f.unit_columns() / kBlockColumns;
  const size_t header = f.header_bytes();
  const size_t plane_bytes = kBits == 0 ? f.plane_bytes() : kBits == 8 ? 512 : kBits * 64;
  constexpr int kScalesPerRow = kBlockColumns / kBlock * 16;
  float scales[16 * 16], minus_mins[16 * 16];
  const uint8_t* p = j.weights + size_t(first_tile) * j.tile_bytes;
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    f32x16 acc = splat(0);
    const int8_t* q = j.q;
    const Side<1>* side = j.side;
    RNL_KEEP_FOR (int64_t u = 0; u < j.units; ++u) {
      for (size_t i = 0; i < header; i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
      expand_scales(f, p, scales, minus_mins);
      p += header;
      RNL_KEEP_FOR (int b = 0; b < block_rows; ++b) {
        for (size_t i = 0; i < plane_bytes; i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
        acc = block_row<kBits, kBlock>(acc, p, q, *side, f.bits, zero_point, scales + b * kScalesPerRow,
                                       f.has_min ? minus_mins + b * kScalesPerRow : nullptr);
        p += plane_bytes;
        q += kBlockColumns;
        ++side;
      }
    }
    const int64_t row = tile * kTileRows;
    const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
    if (j.bias) acc = acc + load_some(j.bias + row, n);
    store_some(j.y + row, acc, n);
  }
}

#endif

using OneRowFn = void (*)(const OneRow&, int64_t, int64_t);
#define RNL_BITS(bits) (kAnyBits ? 0 : bits)
#define RNL_PAIR(bits) \
  { one_row<RNL_BITS(bits), 16>, one_row<RNL_BITS(bits), 32> }
constexpr OneRowFn kOneRow[7][2] = {RNL_PAIR(2), RNL_PAIR(3), RNL_PAIR(4), RNL_PAIR(5),
                                    RNL_PAIR(6), RNL_PAIR(7), RNL_PAIR(8)};
#undef RNL_PAIR
