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
#undef RNL_LOW
#undef RNL_HIGH
#undef RNL_FIRST
#undef RNL_SECOND
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

// The products of 16 rows with one token. Integers are exact and the rest is as in block_row, so the bits are those of the 8-bit kernel.
void joined_products(const void* context, const uint8_t* tile, const uint8_t* const* lines, float* y) {
  const Joined& j = *static_cast<const Joined*>(context);
  f32x16 acc = splat(0);
  RNL_KEEP_LOOP for (int64_t u = 0; u < j.units; ++u, tile += SplitLayout::kUnit) {
    RNL_UNROLL for (int i = 0; i < int(SplitLayout::kUnit); i += 64) {
      __builtin_prefetch(tile + kPrefetchBytes + i);
      __builtin_prefetch(lines[kTileRows - 1] + kPrefetchBytes + size_t(u) * SplitLayout::kUnit + i);
    }
    alignas(64) uint8_t low[256];
    low_planes(lines, size_t(j.units) * 2 + size_t(u) * 16, low);
    const int8_t* q = j.q + u * kBlockColumns;
    const i32x16 dot = (nibble_dot(tile + SplitLayout::kScales, q) << 4) + nibble_dot(low, q) - j.zero_point * (j.side[u].sum[0][0] + j.side[u].sum[1][0]);
    acc = fma(__builtin_convertvector(dot, f32x16), load_halves(reinterpret_cast<const uint16_t*>(tile)) * j.side[u].scale[0], acc);
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

void gather_low(const uint8_t* const* lines, int64_t units, uint8_t* tile) {
  for (int64_t u = 0; u < units; ++u, tile += SplitLayout::kUnit) {
    RNL_KEEP_LOOP for (int i = 0; i < kTileRows; ++i) __builtin_memcpy(tile + i * 2, lines[i] + u * 2, 2);
    low_planes(lines, size_t(units) * 2 + size_t(u) * 16, tile + SplitLayout::kScales);
  }
}

constexpr bool kScreens = true;
constexpr ScreenKernels kScreen = {nibble_sums, gather_low, joined_products};
#else
constexpr bool kScreens = false;  // small code: the full product
constexpr ScreenKernels kScreen{};
#endif
