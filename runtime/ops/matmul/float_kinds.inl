// Weights of float kinds: one fused multiply-add a column in the order of K, whatever the number of tokens.

template <PackedKind kKind>
RNL_INLINE f32x16 load_weights(const uint8_t* p) {
  if constexpr (kKind == PackedKind::kF32) return load(reinterpret_cast<const float*>(p));
  if constexpr (kKind == PackedKind::kF16) return load_halves(reinterpret_cast<const uint16_t*>(p));
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(p);
#if defined(__ARM_NEON) && !defined(__clang__)  // of widen and << GCC makes two instructions
  return by_index<f32x16>([halves](int i)
                              RNL_LAMBDA { return (Register<float>)vshll_n_u16(vld1_u16(halves + 4 * i), 16); });
#else
  return (f32x16)(widen(halves) << 16);
#endif
}

struct FloatJob {
  PackedKind kind;
  const uint8_t* weights;
  size_t tile_bytes;
  int64_t columns, rows, tokens;
  const float* x;
  const float* bias;
  float* y;
};

// kTiles tiles at once, so that their sums hide each other's latency.
template <PackedKind kKind, int kTiles>
RNL_INLINE void one_row_tiles(const FloatJob& j, int64_t tile) {
  constexpr int kBytes = kKind == PackedKind::kF32 ? 64 : 32;
  const uint8_t* w = j.weights + size_t(tile) * j.tile_bytes;
  f32x16 acc[kTiles];
  RNL_UNROLL_FOR (int i = 0; i < kTiles; ++i) acc[i] = splat(0);
  RNL_KEEP_FOR (int64_t k = 0; k < j.columns; ++k, w += kBytes) {
    const f32x16 x = splat(j.x[k]);
    RNL_UNROLL_FOR (int i = 0; i < kTiles; ++i) {
      const uint8_t* p = w + size_t(i) * j.tile_bytes;
      __builtin_prefetch(p + 1024);
      acc[i] = fma(load_weights<kKind>(p), x, acc[i]);
    }
  }
  RNL_UNROLL_FOR (int i = 0; i < kTiles; ++i) {
    const int64_t row = (tile + i) * kTileRows;
    const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
    if (j.bias) acc[i] = acc[i] + load_some(j.bias + row, n);
    store_some(j.y + row, acc[i], n);
  }
}

template <PackedKind kKind>
void one_row_float(const FloatJob& j, int64_t first, int64_t end) {
  if (!kAnyBits)  // there, small code
    for (; end - first >= 4; first += 4) one_row_tiles<kKind, 4>(j, first);
  for (; first < end; ++first) one_row_tiles<kKind, 1>(j, first);
}

#if defined(__AVX512F__)
constexpr int kFloatTokens = 16;
#else
constexpr int kFloatTokens = 4;
#endif
// Columns of a piece: 16 KB of floats.
constexpr int64_t kFloatPiece = 256;

// acc [kTokens][16] += w [columns][16] * x [kTokens][columns]
template <int kTokens>
void multiply_float(const float* w, const float* x, int64_t x_stride, int64_t columns, float* acc) {
  f32x16 sum[kTokens];
  RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) sum[t] = load(acc + t * 16);
  RNL_KEEP_FOR (int64_t k = 0; k < columns; ++k) {
    const f32x16 v = load(w + k * 16);
    RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) sum[t] = fma(v, splat(x[t * x_stride + k]), sum[t]);
  }
  RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) store(acc + t * 16, sum[t]);
}

template <PackedKind kKind>
void widen_piece(const uint8_t* from, int64_t columns, float* to) {
  RNL_KEEP_FOR (int64_t k = 0; k < columns; ++k) store(to + k * 16, load_weights<kKind>(from + k * 32));
}

void many_rows_float(const FloatJob& j, int64_t first, int64_t end, float* piece) {
  const int64_t unit = j.kind == PackedKind::kF32 ? 64 : 32;
  for (int64_t k0 = 0; k0 < j.columns; k0 += kFloatPiece) {
    const int64_t columns = j.columns - k0 < kFloatPiece ? j.columns - k0 : kFloatPiece;
    const bool last = k0 + columns == j.columns;
    for (int64_t tile = first; tile < end; ++tile) {
      const uint8_t* from = j.weights + size_t(tile) * j.tile_bytes + size_t(k0 * unit);
      const float* w = piece;
      if (j.kind == PackedKind::kF32) w = reinterpret_cast<const float*>(from);
      else if (j.kind == PackedKind::kF16) widen_piece<PackedKind::kF16>(from, columns, piece);
      else widen_piece<PackedKind::kBF16>(from, columns, piece);
      const int64_t row = tile * kTileRows;
      const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
      const float* bias = last && j.bias ? j.bias + row : nullptr;
      for (int64_t t = 0; t < j.tokens;) {
        const int tokens = j.tokens - t >= kFloatTokens ? kFloatTokens : j.tokens - t >= 4 ? 4 : 1;
        float* y = j.y + t * j.rows + row;
        const float* x = j.x + t * j.columns + k0;
        alignas(64) float acc[kFloatTokens * 16] = {};
        if (k0) load_acc(y, j.rows, tokens, n, acc);
        if (tokens == kFloatTokens) multiply_float<kFloatTokens>(w, x, j.columns, columns, acc);
        else if (tokens == 4) multiply_float<4>(w, x, j.columns, columns, acc);
        else multiply_float<1>(w, x, j.columns, columns, acc);
        store_acc(y, j.rows, tokens, n, acc, bias);
        t += tokens;
      }
    }
  }
}

using OneRowFloatFn = void (*)(const FloatJob&, int64_t, int64_t);
constexpr OneRowFloatFn kOneRowFloat[3] = {one_row_float<PackedKind::kF32>, one_row_float<PackedKind::kF16>,
                                           one_row_float<PackedKind::kBF16>};
