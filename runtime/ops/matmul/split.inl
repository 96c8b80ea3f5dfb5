// Split matrices: high and low nibbles of q lie apart (format/packed.h). Products that need all of q put a block row
// together; the best few are found by ops/matmul/screen.h, for which this file has the kernels.

// A tile of four pieces of 16 bytes.
RNL_INLINE i32x16 from_pieces(const void* a, const void* b, const void* c, const void* d) {
  const void* const from[4] = {a, b, c, d};
  typedef RegisterOf<int32_t, 16>::Type Piece;
  struct Pieces {
    Piece v[kRegisterBytes / 16];
  };
  return by_index<i32x16>([&from](int i) RNL_LAMBDA {
    Pieces p;
    RNL_UNROLL_FOR (int k = 0; k < kRegisterBytes / 16; ++k)
      __builtin_memcpy(&p.v[k], from[i * (kRegisterBytes / 16) + k], 16);
    return __builtin_bit_cast(Register<int32_t>, p);
  });
}

// v[i] holds lane i of four groups; the result the groups, one behind the other.
RNL_INLINE void transpose_fours(const i32x16* v, i32x16* out) {
  const i32x16 a = of_four<0, 4, 1, 5>(v[0], v[1]), b = of_four<0, 4, 1, 5>(v[2], v[3]),
               c = of_four<2, 6, 3, 7>(v[0], v[1]), d = of_four<2, 6, 3, 7>(v[2], v[3]);
  out[0] = of_four<0, 1, 4, 5>(a, b), out[1] = of_four<2, 3, 6, 7>(a, b);
  out[2] = of_four<0, 1, 4, 5>(c, d), out[3] = of_four<2, 3, 6, 7>(c, d);
}

// Low nibbles of a block of 16 rows as the 4-bit planes of a tile: a transposition of 4 x 4 words in each quarter.
RNL_INLINE void low_planes(const uint8_t* const* lines, size_t at, uint8_t* out) {
  i32x16 r[4], pieces[4];  // r[i]: rows i, i + 4, i + 8, i + 12
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i)
    r[i] = from_pieces(lines[i] + at, lines[i + 4] + at, lines[i + 8] + at, lines[i + 12] + at);
  transpose_fours(r, pieces);
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i) store_tile(reinterpret_cast<int32_t*>(out) + i * 16, pieces[i]);
}

// A block row of 8 bits from its high planes and the rows' lines.
RNL_NOINLINE void join_planes(const uint8_t* high, const uint8_t* const* lines, size_t at, uint8_t* out) {
  alignas(64) uint8_t low[256];
  low_planes(lines, at, low);
  RNL_KEEP_FOR (int i = 0; i < 256; i += 64) {
    const u8x64 h = load_tile<u8x64>(high + i), l = load_tile<u8x64>(low + i);
    store_tile(out + i, (h & 15) << 4 | (l & 15));
    store_tile(out + 256 + i, (h & 0xf0) | l >> 4);
  }
}

// The beginning of a tile; its rows' lines.
RNL_NOINLINE const uint8_t* split_tile(const uint8_t* matrix, int64_t tile, int64_t columns, const uint8_t** lines) {
  const SplitLayout at(columns);
  const uint8_t* line = matrix + at.line_at(tile * kTileRows);
  RNL_KEEP_FOR (const uint8_t** end = lines + kTileRows; lines < end; line += at.line) *lines++ = line;
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
#if defined(__ARM_NEON)
  const int32_t start[1] = {};
  int32x4_t dot[4];
  dot_block<4, 32>(planes, q, start, &dot);
  return by_index<i32x16>([&](int i) RNL_LAMBDA { return (Register<int32_t>)dot[i]; });
#else
  i32x16 dot{};
  RNL_UNROLL_FOR (int half = 0; half < 8; half += 4) {
    Chunk w[4];
    RNL_UNROLL_FOR (int c = 0; c < 4; ++c) w[c] = unpack_chunk<RNL_BITS(4)>(planes, c + half, 4);
    dot = dot_chunks<RNL_BITS(4)>(w, q + half * 4, dot);
  }
  return dot;
#endif
}

// acc[i] += the products of bytes 4 i .. 4 i + 3; w at most 15.
RNL_INLINE i32x16 dot_bytes(u8x64 w, i8x64 x, i32x16 acc) {
#if defined(__AVX512VNNI__)
  return {{(Register<int32_t>)_mm512_dpbusd_epi32((__m512i)acc.v[0], (__m512i)w.v[0], (__m512i)x.v[0])}};
#elif defined(__AVX2__)
  return by_register<i32x16>(
      [](Register<uint8_t> v, Register<int8_t> q, Register<int32_t> sum) RNL_LAMBDA {
        return sum +
               (Register<int32_t>)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)v, (__m256i)q), _mm256_set1_epi16(1));
      },
      w, x, acc);
#elif defined(__ARM_NEON)
  return by_register<i32x16>(
      [](Register<uint8_t> weights, Register<int8_t> activations, Register<int32_t> sum) RNL_LAMBDA {
        const int8x16_t v = (int8x16_t)weights, q = (int8x16_t)activations;
#if defined(__ARM_FEATURE_DOTPROD)
        return (Register<int32_t>)vdotq_s32((int32x4_t)sum, v, q);
#else
        return sum + (Register<int32_t>)pairs(vpaddlq_s16(vmull_s8(vget_low_s8(v), vget_low_s8(q))),
                                              vpaddlq_s16(vmull_s8(vget_high_s8(v), vget_high_s8(q))));
#endif
      },
      w, x, acc);
#elif defined(__wasm_simd128__)
  return by_register<i32x16>(
      [](Register<uint8_t> v, Register<int8_t> q, Register<int32_t> sum) RNL_LAMBDA {
        return (Register<int32_t>)add_dot((v128_t)sum, weight_pairs((v128_t)v), activation_pairs((v128_t)q));
      },
      w, x, acc);
#else
  int32_t sum[16];
  store_tile(sum, acc);
  for (int i = 0; i < 64; ++i) sum[i / 4] += w[i] * x[i];
  return load_tile<i32x16>(sum);
#endif
}

// out[block][16 rows] = dot products of the low nibbles of up to kStrip blocks. Four blocks of a row at a time, as they
// lie; the sums of four rows are then put side by side.
constexpr int kStrip = 16;
RNL_NOINLINE void low_dots(const uint8_t* const* lines, size_t at, int units, const int8_t* q,
                           int32_t (*out)[kTileRows]) {
  RNL_KEEP_FOR (int u = 0; u < units; u += 4, at += 64, q += 4 * kBlockColumns) {
    const i8x64 first = (i8x64)from_pieces(q, q + 32, q + 64, q + 96),
                second = (i8x64)from_pieces(q + 16, q + 48, q + 80, q + 112);
    RNL_KEEP_FOR (int r = 0; r < kTileRows; r += 4) {
      i32x16 s[4];
      RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
        u8x64 v;
        if (units - u >= 4) {
          v = load_tile<u8x64>(lines[r + i] + at);
        } else {
          uint8_t part[64] = {};
          __builtin_memcpy(part, lines[r + i] + at, size_t(units - u) * 16);
          v = load_tile<u8x64>(part);
        }
        __builtin_prefetch(lines[r + i] + at + kPrefetchBytes);
        s[i] = dot_bytes(v >> 4, second, dot_bytes(v & 15, first, i32x16{}));
      }
      const i32x16 a = of_four<0, 4, 1, 5>(s[0], s[1]) + of_four<2, 6, 3, 7>(s[0], s[1]),
                   b = of_four<0, 4, 1, 5>(s[2], s[3]) + of_four<2, 6, 3, 7>(s[2], s[3]);
      int32_t sums[16];
      store_tile(sums, of_four<0, 1, 4, 5>(a, b) + of_four<2, 3, 6, 7>(a, b));
      RNL_UNROLL_FOR (int i = 0; i < 4; ++i) __builtin_memcpy(&out[u + i][r], sums + i * 4, 16);
    }
  }
}

// The products of 16 rows with one token. Integers are exact and the rest is as in block_row, so the bits are those of
// the 8-bit kernel.
void joined_products(const void* context, const uint8_t* tile, const uint8_t* const* lines, float* y) {
  const Joined& j = *static_cast<const Joined*>(context);
  f32x16 acc = splat(0);
  RNL_KEEP_FOR (int64_t begin = 0; begin < j.units; begin += kStrip) {
    const int n = j.units - begin < kStrip ? int(j.units - begin) : kStrip;
    alignas(64) int32_t low[kStrip][kTileRows];
    low_dots(lines, size_t(j.units) * 2 + size_t(begin) * 16, n, j.q + begin * kBlockColumns, low);
    const Side<1>* side = j.side + begin;
    RNL_KEEP_FOR (int u = 0; u < n; ++u, ++side, tile += SplitLayout::kUnit) {
      RNL_UNROLL_FOR (int i = 0; i < int(SplitLayout::kUnit); i += 64) __builtin_prefetch(tile + kPrefetchBytes + i);
      i32x16 dot = load_tile<i32x16>(low[u]);
      dot = dot + (nibble_dot(tile + SplitLayout::kScales, j.q + (begin + u) * kBlockColumns) << 4) -
            j.zero_point * (side->sum[0][0] + side->sum[1][0]);
      acc = fma(to_float(dot), load_halves(reinterpret_cast<const uint16_t*>(tile)) * side->scale[0], acc);
    }
  }
  store(y, acc);
}

void joined_rows(const Joined& j, const uint8_t* matrix, int64_t columns, int64_t rows, int64_t first, int64_t end,
                 const float* bias, float* y) {
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

#if defined(__AVX2__) || defined(__ARM_NEON) || defined(__wasm_simd128__)
RNL_NOINLINE void nibble_sums(const uint8_t* p, int64_t units, const int8_t* q, const ScreenTerm* term, int shift,
                              int factor, float* sums, float* reaches) {
  f32x16 sum = splat(0), reach = splat(0);
  RNL_KEEP_FOR (int64_t u = 0; u < units; ++u, ++term, p += SplitLayout::kUnit, q += kBlockColumns) {
    RNL_UNROLL_FOR (int i = 0; i < int(SplitLayout::kUnit); i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
    const f32x16 scale = load_halves(reinterpret_cast<const uint16_t*>(p));
    // Below 2^24: exact as a float.
    sum = fma(to_float((nibble_dot(p + SplitLayout::kScales, q) << shift) + factor * term->sum),
              scale * term->half_scale, sum);
    reach = fma(abs(scale), splat(term->reach), reach);
  }
  store(sums, sum);
  store(reaches, reach);
}

void own_line_sums(const uint8_t* tile, const uint8_t* const* lines, int64_t units, const int8_t* q,
                   const ScreenTerm* term, float* sums, float* reaches) {
  f32x16 sum = splat(0), reach = splat(0);
  RNL_KEEP_FOR (int64_t begin = 0; begin < units; begin += kStrip) {
    const int n = units - begin < kStrip ? int(units - begin) : kStrip;
    alignas(64) int32_t low[kStrip][kTileRows];
    low_dots(lines, size_t(units) * 2 + size_t(begin) * 16, n, q + begin * kBlockColumns, low);
    RNL_KEEP_FOR (int u = 0; u < n; ++u, ++term, tile += SplitLayout::kUnit) {
      const f32x16 scale = load_halves(reinterpret_cast<const uint16_t*>(tile));
      i32x16 dot = load_tile<i32x16>(low[u]);
      sum = fma(to_float(dot * 2 - 15 * term->sum), scale * term->half_scale, sum);
      reach = fma(abs(scale), splat(term->reach), reach);
    }
  }
  store(sums, sum);
  store(reaches, reach);
}

void gather_low(const uint8_t* const* lines, int64_t units, uint8_t* tile) {
  for (int64_t u = 0; u < units; ++u, tile += SplitLayout::kUnit) {
    RNL_KEEP_FOR (int i = 0; i < kTileRows; ++i) __builtin_memcpy(tile + i * 2, lines[i] + u * 2, 2);
    low_planes(lines, size_t(units) * 2 + size_t(u) * 16, tile + SplitLayout::kScales);
  }
}

constexpr bool kScreens = true;
constexpr ScreenKernels kScreen = {nibble_sums, own_line_sums, gather_low, joined_products};
#else
constexpr bool kScreens = false;  // small code: the full product
constexpr ScreenKernels kScreen{};
#endif
