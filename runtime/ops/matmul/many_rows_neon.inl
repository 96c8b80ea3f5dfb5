// multiply_piece for Arm with dot products. A tile of sums, eight rows times four tokens, stays in registers, where
// each operand that is loaded meets two to eight others. The matrix instructions multiply two rows with two tokens:
// their tiles stay in that order, integers and floats alike, and are turned at the ends of a piece.

// What the activations of four tokens add to each scale's worth of products, as vectors that the inner loop loads: the
// start of the integer sums, of which a tile has kStarts different ones, and the factors of scale and minimum.
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kStarts = 2, kSides = 2, kNextTile = 8;
#else
constexpr int kStarts = 4, kSides = 1, kNextTile = 4;
#endif
// Between the vectors of a block, in numbers: side by side they would be loaded as pairs, which is slow on Cortex-A55.
constexpr int kTermStride = kPieceBlocks * 2 * 4;
struct Terms {
  int32_t start[kStarts * kTermStride];
  float scale[kSides * kTermStride];
  float shift[kSides * kTermStride];
};

#if defined(__ARM_FEATURE_MATMUL_INT8)
// sum[row pair * 2 + token pair] = {row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1}
RNL_INLINE void store_starts(int32_t* p, int32x4_t v) {
  vst1q_s32(p, vcombine_s32(vget_low_s32(v), vget_low_s32(v)));
  vst1q_s32(p + kTermStride, vcombine_s32(vget_high_s32(v), vget_high_s32(v)));
}
RNL_INLINE void store_sides(float* p, float32x4_t v) {
  vst1q_f32(p, vcombine_f32(vget_low_f32(v), vget_low_f32(v)));
  vst1q_f32(p + kTermStride, vcombine_f32(vget_high_f32(v), vget_high_f32(v)));
}
RNL_INLINE void dot_tile(const uint8_t* w, const int8_t* x, int32x4_t* sum) {
  RNL_UNROLL_FOR (int c = 0; c < 2; ++c) {
    const int8x16_t first = vld1q_s8(x + c * 32), second = vld1q_s8(x + c * 32 + 16);
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
      const int8x16_t rows = vld1q_s8(reinterpret_cast<const int8_t*>(w) + c * 128 + i * 16);
      sum[i * 2] = vmmlaq_s32(sum[i * 2], rows, first);
      sum[i * 2 + 1] = vmmlaq_s32(sum[i * 2 + 1], rows, second);
    }
  }
}
struct Rows {
  float32x4_t v[4];
};
RNL_INLINE Rows load_rows(const float* p) {
  const float32x4_t a = vld1q_f32(p), b = vld1q_f32(p + 4);
  return {{vzip1q_f32(a, a), vzip2q_f32(a, a), vzip1q_f32(b, b), vzip2q_f32(b, b)}};
}
RNL_INLINE void scale_tile(const int32x4_t* dot, const float* scales, const float* tokens, float32x4_t* sum) {
  const Rows r = load_rows(scales);
  RNL_UNROLL_FOR (int i = 0; i < 8; ++i)
    sum[i] = vfmaq_f32(sum[i], dot_float(dot[i]), vmulq_f32(r.v[i / 2], vld1q_f32(tokens + i % 2 * kTermStride)));
}
RNL_INLINE void shift_tile(const float* mins, const float* tokens, float32x4_t* sum) {
  const Rows r = load_rows(mins);
  RNL_UNROLL_FOR (int i = 0; i < 8; ++i)
    sum[i] = vfmaq_f32(sum[i], r.v[i / 2], vld1q_f32(tokens + i % 2 * kTermStride));
}
// acc [4 tokens][16 rows]
RNL_INLINE void load_sums(const float* acc, float32x4_t* sum) {
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
    const float32x4_t a = vld1q_f32(acc + i % 2 * 32 + i / 2 * 4), b = vld1q_f32(acc + i % 2 * 32 + 16 + i / 2 * 4);
    sum[i / 2 * 4 + i % 2] = vzip1q_f32(a, b);
    sum[i / 2 * 4 + i % 2 + 2] = vzip2q_f32(a, b);
  }
}
RNL_INLINE void store_sums(const float32x4_t* sum, float* acc) {
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
    const float32x4_t a = sum[i / 2 * 4 + i % 2], b = sum[i / 2 * 4 + i % 2 + 2];
    vst1q_f32(acc + i % 2 * 32 + i / 2 * 4, vuzp1q_f32(a, b));
    vst1q_f32(acc + i % 2 * 32 + 16 + i / 2 * 4, vuzp2q_f32(a, b));
  }
}
#else
// sum[row / 8 * 4 + token] = four rows: those of a tile are 0..3 and 8..11 of its first row's, as neighbours would be
// loaded in pairs
RNL_INLINE void store_starts(int32_t* p, int32x4_t v) {
  vst1q_s32(p, vdupq_laneq_s32(v, 0));
  vst1q_s32(p + kTermStride, vdupq_laneq_s32(v, 1));
  vst1q_s32(p + 2 * kTermStride, vdupq_laneq_s32(v, 2));
  vst1q_s32(p + 3 * kTermStride, vdupq_laneq_s32(v, 3));
}
RNL_INLINE void store_sides(float* p, float32x4_t v) { vst1q_f32(p, v); }
RNL_INLINE void dot_tile(const uint8_t* w, const int8_t* x, int32x4_t* sum) {
  const int8_t* odd = apart(x + 16);
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
    const int8x16_t v = vld1q_s8((c & 1 ? odd : x) + c / 2 * 32);
    RNL_UNROLL_FOR (int i = 0; i < 8; i += 4) {
      const int8x16_t rows = vld1q_s8(reinterpret_cast<const int8_t*>(w) + c * 64 + i * 8);
      sum[i] = vdotq_laneq_s32(sum[i], rows, v, 0);
      sum[i + 1] = vdotq_laneq_s32(sum[i + 1], rows, v, 1);
      sum[i + 2] = vdotq_laneq_s32(sum[i + 2], rows, v, 2);
      sum[i + 3] = vdotq_laneq_s32(sum[i + 3], rows, v, 3);
    }
  }
}
RNL_INLINE void scale_tile(const int32x4_t* dot, const float* scales, const float* tokens, float32x4_t* sum) {
  const float32x4_t v = vld1q_f32(tokens);
  RNL_UNROLL_FOR (int i = 0; i < 8; i += 4) {
    const float32x4_t rows = vld1q_f32(scales + i * 2);
    sum[i] = vfmaq_f32(sum[i], dot_float(dot[i]), vmulq_laneq_f32(rows, v, 0));
    sum[i + 1] = vfmaq_f32(sum[i + 1], dot_float(dot[i + 1]), vmulq_laneq_f32(rows, v, 1));
    sum[i + 2] = vfmaq_f32(sum[i + 2], dot_float(dot[i + 2]), vmulq_laneq_f32(rows, v, 2));
    sum[i + 3] = vfmaq_f32(sum[i + 3], dot_float(dot[i + 3]), vmulq_laneq_f32(rows, v, 3));
  }
}
RNL_INLINE void shift_tile(const float* mins, const float* tokens, float32x4_t* sum) {
  const float32x4_t v = vld1q_f32(tokens);
  RNL_UNROLL_FOR (int i = 0; i < 8; i += 4) {
    const float32x4_t rows = vld1q_f32(mins + i * 2);
    sum[i] = vfmaq_laneq_f32(sum[i], rows, v, 0);
    sum[i + 1] = vfmaq_laneq_f32(sum[i + 1], rows, v, 1);
    sum[i + 2] = vfmaq_laneq_f32(sum[i + 2], rows, v, 2);
    sum[i + 3] = vfmaq_laneq_f32(sum[i + 3], rows, v, 3);
  }
}
// acc [4 tokens][16 rows]
RNL_INLINE void load_sums(const float* acc, float32x4_t* sum) {
  RNL_UNROLL_FOR (int i = 0; i < 8; ++i) sum[i] = vld1q_f32(acc + i % 4 * 16 + i / 4 * 8);
}
RNL_INLINE void store_sums(const float32x4_t* sum, float* acc) {
  RNL_UNROLL_FOR (int i = 0; i < 8; ++i) vst1q_f32(acc + i % 4 * 16 + i / 4 * 8, sum[i]);
}
#endif

template <int kBlock>
RNL_INLINE void fill_terms(const Piece& p, const Side<kGroup>* side, Terms* out) {
  constexpr int kPerRow = kBlockColumns / kBlock;
  RNL_KEEP_FOR (int b = 0; b < p.blocks; ++b) {
    int32x4_t sum[2] = {vld1q_s32(side[b].sum[0]), vld1q_s32(side[b].sum[1])};
    const float32x4_t scale = vld1q_f32(side[b].scale);
    if (kBlock == 32) sum[0] = vaddq_s32(sum[0], sum[1]);
    store_sides(out->scale + b * 4, scale);
    RNL_UNROLL_FOR (int h = 0; h < kPerRow; ++h) {
      store_starts(out->start + (b * kPerRow + h) * 4, vmlsq_n_s32(vdupq_n_s32(kDotBase), sum[h], p.zero_point));
      store_sides(out->shift + (b * kPerRow + h) * 4, vmulq_f32(scale, vcvtq_f32_s32(sum[h])));
    }
  }
}

// acc [4 tokens][16 rows] += piece times a group's activations of the same columns.
template <int kClass, int kBlock, int kGroups>
void multiply_piece(const Piece& p, const int8_t* q, int64_t, const Side<kGroup>* side, int64_t, float* acc) {
  constexpr int kPerRow = kBlockColumns / kBlock;
  alignas(16) Terms terms;
  fill_terms<kBlock>(p, side, &terms);
  for (int r = 0; r <= kNextTile; r += kNextTile) {
    float32x4_t sum[8];
    load_sums(acc + r, sum);
    const uint8_t* w = p.bytes + r * kRowBytes;
    const int8_t* x = q;
    const float* scales = p.scales + r;
    // The same vectors by names that the compiler takes for different ones: loads are free here, copies of registers
    // are not.
    const int32_t* start[8 / kStarts];
    RNL_UNROLL_FOR (int i = 0; i < 8 / kStarts; ++i) {
      start[i] = terms.start;
      __asm__ volatile("" : "+r"(start[i]));
    }
    RNL_KEEP_FOR (int64_t i = 0; i < p.blocks * kPerRow;
                  ++i, scales += 16, w += kBlockBytes / kPerRow, x += 128 / kPerRow) {
      int32x4_t dot[8];
      RNL_UNROLL_FOR (int k = 0; k < 8; ++k) dot[k] = vld1q_s32(start[k / kStarts] + i * 4 + k % kStarts * kTermStride);
      dot_tile(w, x, dot);
      if (kBlock == 32) dot_tile(w + 256, x + 64, dot);
      scale_tile(dot, scales, terms.scale + i / kPerRow * 4, sum);
      if (p.has_min) shift_tile(scales + (p.minus_mins - p.scales), terms.shift + i * 4, sum);
    }
    store_sums(sum, acc + r);
  }
}
