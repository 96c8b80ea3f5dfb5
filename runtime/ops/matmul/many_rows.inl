// Products of many tokens: a piece of a tile of weights is unpacked to bytes once, stays in the L1 cache, and meets all
// tokens in groups of four (or two groups at once) whose sums stay in registers.

// Block rows of a piece: 768 columns, a multiple of every unit; 12 KB of bytes and up to 6 KB of scales.
constexpr int kPieceBlocks = 24;

struct alignas(64) Piece {
  float scales[kPieceBlocks * 2 * 16];  // [block rows][32 / block][16 rows]
  float minus_mins[kPieceBlocks * 2 * 16];
  int32_t below_zero[kBelowZero ? kPieceBlocks * 2 * 16 : 16];  // as scales, only with 8 bits
  uint8_t bytes[kPieceBlocks * kBlockBytes];
  int blocks, zero_point;
  bool has_min;
};

template <int kBits>
void unpack_blocks(const uint8_t* planes, int bits, int blocks, uint8_t* out) {
  const size_t plane_bytes = kBits == 0 ? (bits == 8 ? 512 : size_t(bits) * 64) : kBits == 8 ? 512 : kBits * 64;
  RNL_KEEP_FOR (int b = 0; b < blocks; ++b, planes += plane_bytes, out += kBlockBytes) {
    for (size_t i = 0; i < plane_bytes; i += 64) __builtin_prefetch(planes + kPrefetchBytes + i);
#if defined(__ARM_NEON)
    unpack_block<kBits>(planes, out);
#else
    Chunk w[8];
    RNL_UNROLL_FOR (int c = 0; c < 8; ++c) w[c] = unpack_chunk<kBits>(planes, c, bits);
    store_chunks(out, w);
#endif
  }
}
using UnpackFn = void (*)(const uint8_t*, int, int, uint8_t*);
#define RNL_ROW(bits) unpack_blocks<RNL_BITS(bits)>
constexpr UnpackFn kUnpack[7] = {RNL_ROW(2), RNL_ROW(3), RNL_ROW(4), RNL_ROW(5), RNL_ROW(6), RNL_ROW(7), RNL_ROW(8)};
#undef RNL_ROW

// Block rows [first, first + blocks) of a tile, whole units. lines: of the tile's rows when the format is split.
void fill_piece(const PackedFormat& f, const uint8_t* tile, const uint8_t* const* lines, size_t first_nibble,
                int64_t first, int blocks, Piece* piece) {
  const int per_unit = f.unit_columns() / kBlockColumns;
  const int scales_per_row = kBlockColumns / f.block * 16;
  const size_t unit_bytes = f.unit_bytes(), header = f.header_bytes();
  const UnpackFn unpack = kUnpack[f.bits - 2];
  const uint8_t* unit = tile + size_t(first / per_unit) * unit_bytes;
  for (int b = 0; b < blocks; b += per_unit, unit += unit_bytes) {
    expand_scales(f, unit, piece->scales + b * scales_per_row, piece->minus_mins + b * scales_per_row);
    const uint8_t* planes = unit + header;
    alignas(64) uint8_t joined[kBlockBytes];
    if (f.split) {
      join_planes(planes, lines, first_nibble + size_t(first + b) * 16, joined);
      planes = joined;
    }
    unpack(planes, f.bits, per_unit, piece->bytes + b * kBlockBytes);
  }
  if (kBelowZero && f.bits == 8)
    RNL_KEEP_FOR (int b = 0; b < blocks; ++b) {
      alignas(64) int32_t low[32];
      below_zero(piece->bytes + b * kBlockBytes, low);
      below_zero(piece->bytes + b * kBlockBytes + 256, low + 16);
      if (f.block == 16) __builtin_memcpy(piece->below_zero + b * 32, low, 128);
      else
        for (int r = 0; r < 16; ++r) piece->below_zero[b * 16 + r] = low[r] + low[16 + r];
    }
  piece->blocks = blocks;
  piece->zero_point = int(f.zero_point) - offset_of(f.bits);
  piece->has_min = f.has_min;
}

#if defined(__ARM_FEATURE_DOTPROD)
#include "ops/matmul/many_rows_neon.inl"
#else
typedef float RowsU __attribute__((vector_size(sizeof(RowsF)), aligned(4)));
RNL_INLINE RowsF load_rows(const float* p) { return *reinterpret_cast<const RowsU*>(p); }
RNL_INLINE void store_rows(float* p, RowsF v) { *reinterpret_cast<RowsU*>(p) = v; }

// What the activations of some tokens add to each scale's worth of products, brought into the form that the inner loop
// broadcasts from memory: the start of the integer sum, -zero_point * sum q, and the factors of scale and minimum.
// [block rows][32 / block][tokens]
template <int kTokens>
struct Terms {
  int32_t start[kPieceBlocks * 2 * kTokens];
  float scale[kPieceBlocks * kTokens];
  float shift[kPieceBlocks * 2 * kTokens];
};

template <int kBlock, int kGroups>
RNL_INLINE void fill_terms(const Piece& p, const Side<kGroup>* side, int64_t side_stride,
                           Terms<kGroups * kGroup>* out) {
  constexpr int kTokens = kGroups * kGroup, kPerRow = kBlockColumns / kBlock;
  RNL_KEEP_FOR (int b = 0; b < p.blocks; ++b)
    RNL_UNROLL_FOR (int g = 0; g < kGroups; ++g) {
      const Side<kGroup>& s = side[g * side_stride + b];
      i32x4 sum[2];
      f32x4 scale;
      __builtin_memcpy(sum, s.sum, sizeof sum);
      __builtin_memcpy(&scale, s.scale, sizeof scale);
      if (kBlock == 32) sum[0] += sum[1];
      __builtin_memcpy(out->scale + b * kTokens + g * kGroup, &scale, sizeof scale);
      RNL_UNROLL_FOR (int h = 0; h < kPerRow; ++h) {
        const i32x4 start = sum[h] * -p.zero_point;
        const f32x4 shift = scale * __builtin_convertvector(sum[h], f32x4);
        __builtin_memcpy(out->start + (b * kPerRow + h) * kTokens + g * kGroup, &start, sizeof start);
        __builtin_memcpy(out->shift + (b * kPerRow + h) * kTokens + g * kGroup, &shift, sizeof shift);
      }
    }
}

// acc [kGroups * 4 tokens][16 rows] += piece times the groups' activations of the same columns.
template <int kClass, int kBlock, int kGroups>
void multiply_piece(const Piece& p, const int8_t* q, int64_t q_stride, const Side<kGroup>* side, int64_t side_stride,
                    float* acc) {
  constexpr int kTokens = kGroups * kGroup, kPerRow = kBlockColumns / kBlock;
  alignas(64) Terms<kTokens> terms;
  fill_terms<kBlock, kGroups>(p, side, side_stride, &terms);
  for (int r = 0; r < kTileRows; r += kRows) {
    RowsF sum[kTokens];
    RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) sum[t] = load_rows(acc + t * 16 + r);
    const uint8_t* w = p.bytes + r * kRowBytes;
    const int8_t* x = q;
    const float* scales = p.scales + r;
    RNL_KEEP_FOR (int i = 0; i < p.blocks * kPerRow;
                  ++i, scales += 16, w += kBlockBytes / kPerRow, x += 128 / kPerRow) {
      RowsI dot[kTokens];
      RowsI below = {};
      if constexpr (kBelowZero && kClass == 8) __builtin_memcpy(&below, p.below_zero + i * 16 + r, sizeof below);
      RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) dot[t] = below + terms.start[i * kTokens + t];
      RNL_UNROLL_FOR (int g = 0; g < kGroups; ++g) dot_group<kClass>(w, x + g * q_stride, dot + g * kGroup);
      if (kBlock == 32)
        RNL_UNROLL_FOR (int g = 0; g < kGroups; ++g)
          dot_group<kClass>(w + 256, x + g * q_stride + 64, dot + g * kGroup);
      const RowsF scale = load_rows(scales);
      RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t)
        sum[t] =
            fma_rows(__builtin_convertvector(dot[t], RowsF), scale * terms.scale[i / kPerRow * kTokens + t], sum[t]);
      if (!p.has_min) continue;
      const RowsF min = load_rows(scales + (p.minus_mins - p.scales));
      RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t)
        sum[t] = fma_rows(min, RowsF{} + terms.shift[i * kTokens + t], sum[t]);
    }
    RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) store_rows(acc + t * 16 + r, sum[t]);
  }
}

#endif

using MultiplyFn = void (*)(const Piece&, const int8_t*, int64_t, const Side<kGroup>*, int64_t, float*);
template <int kGroups>
RNL_INLINE MultiplyFn multiply_fn(const PackedFormat& f) {
  const bool small = f.block == 16;
  switch (class_of(f.bits)) {
    case class_of(2):
      return small ? multiply_piece<class_of(2), 16, kGroups> : multiply_piece<class_of(2), 32, kGroups>;
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    case 6: return small ? multiply_piece<6, 16, kGroups> : multiply_piece<6, 32, kGroups>;
    case 7: return small ? multiply_piece<7, 16, kGroups> : multiply_piece<7, 32, kGroups>;
#endif
    default: return small ? multiply_piece<class_of(8), 16, kGroups> : multiply_piece<class_of(8), 32, kGroups>;
  }
}

// 16 outputs of some tokens between y [tokens][rows] and acc [tokens][16].
RNL_NOINLINE void load_acc(const float* y, int64_t rows, int tokens, int n, float* acc) {
  for (int t = 0; t < tokens; ++t) store(acc + t * 16, load_some(y + t * rows, n));
}
RNL_NOINLINE void store_acc(float* y, int64_t rows, int tokens, int n, const float* acc, const float* bias) {
  const f32x16 b = bias ? load_some(bias, n) : splat(0);
  for (int t = 0; t < tokens; ++t) store_some(y + t * rows, bias ? load(acc + t * 16) + b : load(acc + t * 16), n);
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

// Tiles [first, end) times all tokens. Pieces outside, so that the activations of a piece are read for several tiles
// while they are near.
void many_rows(const ManyRows& j, int64_t first, int64_t end, Piece* piece) {
  const int64_t blocks = j.format.padded_columns(j.columns) / kBlockColumns;
  const MultiplyFn wide = multiply_fn<kMaxGroups>(j.format), narrow = multiply_fn<1>(j.format);
  for (int64_t b0 = 0; b0 < blocks; b0 += kPieceBlocks) {
    const int size = blocks - b0 < kPieceBlocks ? int(blocks - b0) : kPieceBlocks;
    const bool last = b0 + size == blocks;
    for (int64_t tile = first; tile < end; ++tile) {
      const uint8_t* lines[kTileRows];
      const uint8_t* from =
          j.format.split ? split_tile(j.weights, tile, j.columns, lines) : j.weights + size_t(tile) * j.tile_bytes;
      fill_piece(j.format, from, lines, size_t(blocks) * 2, b0, size, piece);
      const int64_t row = tile * kTileRows;
      const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
      const float* bias = last && j.bias ? j.bias + row : nullptr;
      for (int64_t g = 0; g < j.x.groups;) {
        const int groups = j.x.groups - g >= kMaxGroups ? kMaxGroups : 1;
        const int64_t left = j.tokens - g * kGroup;
        const int tokens = left < groups * kGroup ? int(left) : groups * kGroup;
        float* y = j.y + g * kGroup * j.rows + row;
        alignas(64) float acc[kMaxGroups * kGroup * 16] = {};
        // The outputs of a tile are one line a token, far apart: they are fetched while the sums are made.
        for (int t = 0; t < tokens; ++t) __builtin_prefetch(y + t * j.rows, 1);
        if (b0) load_acc(y, j.rows, tokens, n, acc);
        (groups == 1 ? narrow : wide)(*piece, j.x.q + (g * j.x.blocks + b0) * 128, j.x.blocks * 128,
                                      static_cast<const Side<kGroup>*>(j.x.side) + g * j.x.blocks + b0, j.x.blocks,
                                      acc);
        store_acc(y, j.rows, tokens, n, acc, bias);
        g += groups;
      }
    }
  }
}
