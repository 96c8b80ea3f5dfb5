// Split matrices: high and low nibbles of q lie apart (format/packed.h). Products that need all of q put a block row together; the best few
// are found by ops/matmul/screen.h, for which this file has the kernels.

typedef uint8_t u8x64 __attribute__((vector_size(64)));

// Low nibbles of a block of 16 rows as the 4-bit planes of a tile: a transposition of 4 x 4 words in each quarter.
RNL_INLINE void low_planes(const uint8_t* const* lines, size_t at, uint8_t* out) {
  i32x16 r[4];  // r[i]: rows i, i + 4, i + 8, i + 12
  RNL_UNROLL for (int i = 0; i < 4; ++i) {
    i32x4 v[4];
    RNL_UNROLL for (int k = 0; k < 4; ++k) __builtin_memcpy(&v[k], lines[k * 4 + i] + at, 16);
    typedef int32_t i32x8 __attribute__((vector_size(32)));
    const i32x8 a = __builtin_shufflevector(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7), b = __builtin_shufflevector(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7);
    r[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
#define RNL_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define RNL_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define RNL_FIRST(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define RNL_SECOND(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
  const i32x16 a = RNL_LOW(r[0], r[1]), b = RNL_LOW(r[2], r[3]), c = RNL_HIGH(r[0], r[1]), d = RNL_HIGH(r[2], r[3]);
  const i32x16 pieces[4] = {RNL_FIRST(a, b), RNL_SECOND(a, b), RNL_FIRST(c, d), RNL_SECOND(c, d)};
  __builtin_memcpy(out, pieces, 256);
}

// A block row of 8 bits from its high planes and the rows' lines.
RNL_NOINLINE void join_planes(const uint8_t* high, const uint8_t* const* lines, size_t at, uint8_t* out) {
  alignas(64) uint8_t low[256];
  low_planes(lines, at, low);
  RNL_KEEP_LOOP for (int i = 0; i < 256; i += 64) {
    u8x64 h, l;
    __builtin_memcpy(&h, high + i, 64);
    __builtin_memcpy(&l, low + i, 64);
    const u8x64 first = (h & 15) << 4 | (l & 15), second = (h & 0xf0) | l >> 4;
    __builtin_memcpy(out + i, &first, 64);
    __builtin_memcpy(out + 256 + i, &second, 64);
  }
}

// The beginning of a tile; its rows' lines.
RNL_NOINLINE const uint8_t* split_tile(const uint8_t* matrix, int64_t tile, int64_t columns, const uint8_t** lines) {
  const SplitLayout at(columns);
  const uint8_t* line = matrix + at.line_at(tile * kTileRows);
  RNL_KEEP_LOOP for (const uint8_t** end = lines + kTileRows; lines < end; line += at.line) *lines++ = line;
  return matrix + at.tile_at(tile);
}

struct Joined {
  int64_t units;
  int zero_point;
  const int8_t* q;
  const Side<1>* side;
};

// Dot products of a block of 4-bit planes.
RNL_INLINE i32x16 nibble_dot(const uint8_t* planes, const int8_t* q) {
  i32x16 dot{};
  RNL_UNROLL for (int half = 0; half < 8; half += 4) {
    Chunk w[4];
    RNL_UNROLL for (int c = 0; c < 4; ++c) w[c] = unpack_chunk<RNL_BITS(4)>(planes, c + half, 4);
    dot = dot_chunks<RNL_BITS(4)>(w, q + half * 4, dot);
  }
  return dot;
}

// acc[i] += the products of bytes 4 i .. 4 i + 3; w at most 15.
typedef int8_t i8x64 __attribute__((vector_size(64)));
RNL_INLINE i32x16 dot_bytes(u8x64 w, i8x64 x, i32x16 acc) {
#if defined(__AVX512VNNI__)
  return (i32x16)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(__AVX2__)
  const Halves v = __builtin_bit_cast(Halves, w), q = __builtin_bit_cast(Halves, x);
  Halves sum = __builtin_bit_cast(Halves, acc);
  RNL_UNROLL for (int i = 0; i < 2; ++i)
    sum.v[i] = _mm256_add_epi32(sum.v[i], _mm256_madd_epi16(_mm256_maddubs_epi16(v.v[i], q.v[i]), _mm256_set1_epi16(1)));
  return __builtin_bit_cast(i32x16, sum);
#elif defined(__ARM_NEON)
  const Chunk v = __builtin_bit_cast(Chunk, w), q = __builtin_bit_cast(Chunk, x);
  Quarters sum = __builtin_bit_cast(Quarters, acc);
  RNL_UNROLL for (int i = 0; i < 4; ++i) {
#if defined(__ARM_FEATURE_DOTPROD)
    sum.v[i] = vdotq_s32(sum.v[i], v.v[i], q.v[i]);
#else
    sum.v[i] = vaddq_s32(sum.v[i], pairs(vpaddlq_s16(vmull_s8(vget_low_s8(v.v[i]), vget_low_s8(q.v[i]))), vpaddlq_s16(vmull_s8(vget_high_s8(v.v[i]), vget_high_s8(q.v[i])))));
#endif
  }
  return __builtin_bit_cast(i32x16, sum);
#else
  for (int i = 0; i < 64; ++i) acc[i / 4] += w[i] * x[i];
  return acc;
#endif
}

// out[block][16 rows] = dot products of the low nibbles of up to kStrip blocks. Four blocks of a row at a time, as they lie; the sums of four
// rows are then put side by side.
constexpr int kStrip = 16;
RNL_NOINLINE void low_dots(const uint8_t* const* lines, size_t at, int units, const int8_t* q, int32_t (*out)[kTileRows]) {
  RNL_KEEP_LOOP for (int u = 0; u < units; u += 4, at += 64, q += 4 * kBlockColumns) {
    i32x16 x[2];
    __builtin_memcpy(x, q, 128);
    const i8x64 first = (i8x64)__builtin_shufflevector(x[0], x[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    const i8x64 second = (i8x64)__builtin_shufflevector(x[0], x[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    RNL_KEEP_LOOP for (int r = 0; r < kTileRows; r += 4) {
      i32x16 s[4];
      RNL_UNROLL for (int i = 0; i < 4; ++i) {
        u8x64 v{};
        if (units - u >= 4) __builtin_memcpy(&v, lines[r + i] + at, 64);
        else __builtin_memcpy(&v, lines[r + i] + at, size_t(units - u) * 16);
        __builtin_prefetch(lines[r + i] + at + kPrefetchBytes);
        s[i] = dot_bytes(v >> 4, second, dot_bytes(v & 15, first, i32x16{}));
      }
      const i32x16 a = RNL_LOW(s[0], s[1]) + RNL_HIGH(s[0], s[1]), b = RNL_LOW(s[2], s[3]) + RNL_HIGH(s[2], s[3]);
      const i32x16 sums = RNL_FIRST(a, b) + RNL_SECOND(a, b);
      RNL_UNROLL for (int i = 0; i < 4; ++i) __builtin_memcpy(&out[u + i][r], reinterpret_cast<const char*>(&sums) + i * 16, 16);
    }
  }
}

// The products of 16 rows with one token. Integers are exact and the rest is as in block_row, so the bits are those of the 8-bit kernel.
void joined_products(const void* context, const uint8_t* tile, const uint8_t* const* lines, float* y) {
  const Joined& j = *static_cast<const Joined*>(context);
  f32x16 acc = splat(0);
  RNL_KEEP_LOOP for (int64_t begin = 0; begin < j.units; begin += kStrip) {
    const int n = j.units - begin < kStrip ? int(j.units - begin) : kStrip;
    alignas(64) int32_t low[kStrip][kTileRows];
    low_dots(lines, size_t(j.units) * 2 + size_t(begin) * 16, n, j.q + begin * kBlockColumns, low);
    const Side<1>* side = j.side + begin;
    RNL_KEEP_LOOP for (int u = 0; u < n; ++u, ++side, tile += SplitLayout::kUnit) {
      RNL_UNROLL for (int i = 0; i < int(SplitLayout::kUnit); i += 64) __builtin_prefetch(tile + kPrefetchBytes + i);
      i32x16 dot;
      __builtin_memcpy(&dot, low[u], 64);
      dot += (nibble_dot(tile + SplitLayout::kScales, j.q + (begin + u) * kBlockColumns) << 4) - j.zero_point * (side->sum[0][0] + side->sum[1][0]);
      acc = fma(__builtin_convertvector(dot, f32x16), load_halves(reinterpret_cast<const uint16_t*>(tile)) * side->scale[0], acc);
    }
  }
  store(y, acc);
}

void joined_rows(const Joined& j, const uint8_t* matrix, int64_t columns, int64_t rows, int64_t first, int64_t end, const float* bias, float* y) {
  for (int64_t tile = first; tile < end; ++tile) {
    const uint8_t* lines[kTileRows];
    float sums[kTileRows];
    joined_products(&j, split_tile(matrix, tile, columns, lines), lines, sums);
    const int64_t row = tile * kTileRows;
    const int n = rows - row < kTileRows ? int(rows - row) : kTileRows;
    if (bias) store(sums, load(sums) + load_some(bias + row, n));
    store_some(y + row, load(sums), n);
  }
}

#if defined(__AVX2__) || defined(__ARM_NEON)
RNL_NOINLINE void nibble_sums(const uint8_t* p, int64_t units, const int8_t* q, const ScreenTerm* term, int shift, int factor, float* sums, float* reaches) {
  f32x16 sum = splat(0), reach = splat(0);
  RNL_KEEP_LOOP for (int64_t u = 0; u < units; ++u, ++term, p += SplitLayout::kUnit, q += kBlockColumns) {
    RNL_UNROLL for (int i = 0; i < int(SplitLayout::kUnit); i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
    const f32x16 scale = load_halves(reinterpret_cast<const uint16_t*>(p));
    // Below 2^24: exact as a float.
    sum = fma(__builtin_convertvector((nibble_dot(p + SplitLayout::kScales, q) << shift) + factor * term->sum, f32x16), scale * term->half_scale, sum);
    reach = fma(abs(scale), splat(term->reach), reach);
  }
  store(sums, sum);
  store(reaches, reach);
}

void own_line_sums(const uint8_t* tile, const uint8_t* const* lines, int64_t units, const int8_t* q, const ScreenTerm* term, float* sums, float* reaches) {
  f32x16 sum = splat(0), reach = splat(0);
  RNL_KEEP_LOOP for (int64_t begin = 0; begin < units; begin += kStrip) {
    const int n = units - begin < kStrip ? int(units - begin) : kStrip;
    alignas(64) int32_t low[kStrip][kTileRows];
    low_dots(lines, size_t(units) * 2 + size_t(begin) * 16, n, q + begin * kBlockColumns, low);
    RNL_KEEP_LOOP for (int u = 0; u < n; ++u, ++term, tile += SplitLayout::kUnit) {
      const f32x16 scale = load_halves(reinterpret_cast<const uint16_t*>(tile));
      i32x16 dot;
      __builtin_memcpy(&dot, low[u], 64);
      sum = fma(__builtin_convertvector(dot * 2 - 15 * term->sum, f32x16), scale * term->half_scale, sum);
      reach = fma(abs(scale), splat(term->reach), reach);
    }
  }
  store(sums, sum);
  store(reaches, reach);
}

void gather_low(const uint8_t* const* lines, int64_t units, uint8_t* tile) {
  for (int64_t u = 0; u < units; ++u, tile += SplitLayout::kUnit) {
    RNL_KEEP_LOOP for (int i = 0; i < kTileRows; ++i) __builtin_memcpy(tile + i * 2, lines[i] + u * 2, 2);
    low_planes(lines, size_t(units) * 2 + size_t(u) * 16, tile + SplitLayout::kScales);
  }
}

constexpr bool kScreens = true;
constexpr ScreenKernels kScreen = {nibble_sums, own_line_sums, gather_low, joined_products};
#else
constexpr bool kScreens = false;  // small code: the full product
constexpr ScreenKernels kScreen{};
#endif
