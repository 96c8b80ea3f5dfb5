// Products of many tokens: a piece of a tile of weights is unpacked to bytes once, stays in the L1 cache, and meets all tokens in groups of
// four (or two groups at once) whose sums stay in registers.

// Block rows of a piece: 768 columns, a multiple of every unit; 12 KB of bytes and up to 6 KB of scales.
constexpr int kPieceBlocks = 24;

struct alignas(64) Piece {
  float scales[kPieceBlocks * 2 * 16];      // [block rows][32 / block][16 rows]
  float minus_mins[kPieceBlocks * 2 * 16];
  uint8_t bytes[kPieceBlocks * kBlockBytes];
  int blocks, zero_point;
  bool has_min;
};

template <int kBits>
void unpack_blocks(const uint8_t* planes, int blocks, uint8_t* out) {
  constexpr size_t kPlanes = kBits == 8 ? 512 : kBits * 64;
  for (int b = 0; b < blocks; ++b, planes += kPlanes, out += kBlockBytes) {
    RNL_UNROLL for (size_t i = 0; i < kPlanes; i += 64) __builtin_prefetch(planes + kPrefetchBytes + i);
    Chunk w[8];
    RNL_UNROLL for (int c = 0; c < 8; ++c) w[c] = unpack_chunk<kBits>(planes, c);
    store_chunks(out, w);
  }
}
using UnpackFn = void (*)(const uint8_t*, int, uint8_t*);
constexpr UnpackFn kUnpack[7] = {unpack_blocks<2>, unpack_blocks<3>, unpack_blocks<4>, unpack_blocks<5>, unpack_blocks<6>, unpack_blocks<7>, unpack_blocks<8>};

// Block rows [first, first + blocks) of a tile, whole units.
void fill_piece(const PackedFormat& f, const uint8_t* tile, int64_t first, int blocks, Piece* piece) {
  const int per_unit = f.unit_columns() / kBlockColumns;
  const int scales_per_row = kBlockColumns / f.block * 16;
  const size_t unit_bytes = f.unit_bytes(), header = f.header_bytes();
  const UnpackFn unpack = kUnpack[f.bits - 2];
  const uint8_t* unit = tile + size_t(first / per_unit) * unit_bytes;
  for (int b = 0; b < blocks; b += per_unit, unit += unit_bytes) {
    expand_scales(f, unit, piece->scales + b * scales_per_row, piece->minus_mins + b * scales_per_row);
    unpack(unit + header, per_unit, piece->bytes + b * kBlockBytes);
  }
  piece->blocks = blocks;
  piece->zero_point = int(f.zero_point) - (f.bits == 8 && kSigned ? 128 : 0);
  piece->has_min = f.has_min;
}

typedef float RowsU __attribute__((vector_size(sizeof(RowsF)), aligned(4)));
RNL_INLINE RowsF load_rows(const float* p) { return *reinterpret_cast<const RowsU*>(p); }
RNL_INLINE void store_rows(float* p, RowsF v) { *reinterpret_cast<RowsU*>(p) = v; }

// One scale's worth of products, the dot over kBlock columns of kGroups * 4 tokens, added to sum.
template <int kClass, int kBlock, int kGroups>
RNL_INLINE void scaled_dots(const Piece& p, const uint8_t* w, const int8_t* q, int64_t q_stride, const Side<kGroup>* side, int64_t side_stride, int half,
                            const float* scales, const float* minus_mins, RowsF* sum) {
  RowsI dot[kGroups * kGroup];
  float shift[kGroups * kGroup];
  RNL_UNROLL for (int g = 0; g < kGroups; ++g) {
    const Side<kGroup>& s = side[g * side_stride];
    RNL_UNROLL for (int t = 0; t < kGroup; ++t) {
      const int32_t total = kBlock == 32 ? s.sum[0][t] + s.sum[1][t] : s.sum[half][t];
      dot[g * kGroup + t] = RowsI{} - p.zero_point * total;
      shift[g * kGroup + t] = s.scale[t] * float(total);
    }
    dot_group<kClass>(w, q + g * q_stride, dot + g * kGroup);
    if (kBlock == 32) dot_group<kClass>(w + 256, q + g * q_stride + 64, dot + g * kGroup);
  }
  const RowsF scale = load_rows(scales);
  RNL_UNROLL for (int g = 0; g < kGroups; ++g)
    RNL_UNROLL for (int t = 0; t < kGroup; ++t) {
      RowsF& acc = sum[g * kGroup + t];
      acc = fma_rows(__builtin_convertvector(dot[g * kGroup + t], RowsF), scale * side[g * side_stride].scale[t], acc);
    }
  if (!p.has_min) return;
  const RowsF min = load_rows(minus_mins);
  RNL_UNROLL for (int t = 0; t < kGroups * kGroup; ++t) sum[t] = fma_rows(min, RowsF{} + shift[t], sum[t]);
}

// acc [kGroups * 4 tokens][16 rows] += piece times the groups' activations of the same columns.
template <int kClass, int kBlock, int kGroups>
void multiply_piece(const Piece& p, const int8_t* q, int64_t q_stride, const Side<kGroup>* side, int64_t side_stride, float* acc) {
  constexpr int kPerRow = kBlockColumns / kBlock * 16;
  for (int r = 0; r < kTileRows; r += kRows) {
    RowsF sum[kGroups * kGroup];
    RNL_UNROLL for (int t = 0; t < kGroups * kGroup; ++t) sum[t] = load_rows(acc + t * 16 + r);
    for (int b = 0; b < p.blocks; ++b) {
      const uint8_t* w = p.bytes + b * kBlockBytes + r * kRowBytes;
      const float *s = p.scales + b * kPerRow + r, *m = p.minus_mins + b * kPerRow + r;
      scaled_dots<kClass, kBlock, kGroups>(p, w, q + b * 128, q_stride, side + b, side_stride, 0, s, m, sum);
      if (kBlock == 16)
        scaled_dots<kClass, kBlock, kGroups>(p, w + 256, q + b * 128 + 64, q_stride, side + b, side_stride, 1, s + 16, m + 16, sum);
    }
    RNL_UNROLL for (int t = 0; t < kGroups * kGroup; ++t) store_rows(acc + t * 16 + r, sum[t]);
  }
}

using MultiplyFn = void (*)(const Piece&, const int8_t*, int64_t, const Side<kGroup>*, int64_t, float*);
template <int kGroups>
RNL_INLINE MultiplyFn multiply_fn(const PackedFormat& f) {
  const bool small = f.block == 16;
  switch (class_of(f.bits)) {
    case class_of(2): return small ? multiply_piece<class_of(2), 16, kGroups> : multiply_piece<class_of(2), 32, kGroups>;
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    case 6: return small ? multiply_piece<6, 16, kGroups> : multiply_piece<6, 32, kGroups>;
    case 7: return small ? multiply_piece<7, 16, kGroups> : multiply_piece<7, 32, kGroups>;
#endif
    default: return small ? multiply_piece<class_of(8), 16, kGroups> : multiply_piece<class_of(8), 32, kGroups>;
  }
}

// 16 outputs of some tokens between y [tokens][rows] and acc [tokens][16].
RNL_INLINE void load_acc(const float* y, int64_t rows, int tokens, int n, float* acc) {
  for (int t = 0; t < tokens; ++t) store(acc + t * 16, n == 16 ? load(y + t * rows) : load_n(y + t * rows, n));
}
RNL_INLINE void store_acc(float* y, int64_t rows, int tokens, int n, const float* acc, const float* bias) {
  const f32x16 b = bias ? load_n(bias, n) : splat(0);
  for (int t = 0; t < tokens; ++t) {
    const f32x16 v = bias ? load(acc + t * 16) + b : load(acc + t * 16);
    if (n == 16) store(y + t * rows, v);
    else store_n(y + t * rows, v, n);
  }
}

struct ManyRows {
  PackedFormat format;
  const uint8_t* weights;
  size_t tile_bytes;
  int64_t columns, rows, tokens;
  Activations x;
  const float* bias;
  float* y;
};

// Tiles [first, end) times all tokens. Pieces outside, so that the activations of a piece are read for several tiles while they are near.
void many_rows(const ManyRows& j, int64_t first, int64_t end, Piece* piece) {
  const int64_t blocks = j.format.padded_columns(j.columns) / kBlockColumns;
  const MultiplyFn wide = multiply_fn<kMaxGroups>(j.format), narrow = multiply_fn<1>(j.format);
  for (int64_t b0 = 0; b0 < blocks; b0 += kPieceBlocks) {
    const int size = blocks - b0 < kPieceBlocks ? int(blocks - b0) : kPieceBlocks;
    const bool last = b0 + size == blocks;
    for (int64_t tile = first; tile < end; ++tile) {
      fill_piece(j.format, j.weights + size_t(tile) * j.tile_bytes, b0, size, piece);
      const int64_t row = tile * kTileRows;
      const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
      const float* bias = last && j.bias ? j.bias + row : nullptr;
      for (int64_t g = 0; g < j.x.groups;) {
        const int groups = j.x.groups - g >= kMaxGroups ? kMaxGroups : 1;
        const int64_t left = j.tokens - g * kGroup;
        const int tokens = left < groups * kGroup ? int(left) : groups * kGroup;
        float* y = j.y + g * kGroup * j.rows + row;
        alignas(64) float acc[kMaxGroups * kGroup * 16] = {};
        if (b0) load_acc(y, j.rows, tokens, n, acc);
        (groups == 1 ? narrow : wide)(*piece, j.x.q + (g * j.x.blocks + b0) * 128, j.x.blocks * 128,
                                      static_cast<const Side<kGroup>*>(j.x.side) + g * j.x.blocks + b0, j.x.blocks, acc);
        store_acc(y, j.rows, tokens, n, acc, bias);
        g += groups;
      }
    }
  }
}
