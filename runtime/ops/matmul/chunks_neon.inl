// chunks.inl for Arm: dot product and matrix instructions where the target has them, else widening multiplications.

constexpr bool kSigned = true, kAnyBits = false;
struct Chunk {
  int8x16_t v[4];  // four rows each
};

template <int kBits>
RNL_INLINE int8x16_t unpack_quarter(const uint8_t* p, int c, int quarter) {
  const auto at = [&](int offset) { return vld1q_u8(p + offset + quarter * 16); };
  if constexpr (kBits == 8) return vreinterpretq_s8_u8(veorq_u8(at(c * 64), vdupq_n_u8(128)));
  uint8x16_t q = vdupq_n_u8(0);
  constexpr int kTwoAt = kBits & 4 ? 256 : 0, kTwoShift = kBits & 4 ? 4 : 0;
  constexpr int kOneAt = kTwoAt + (kBits & 2 ? 128 : 0), kOneShift = kTwoShift + (kBits & 2 ? 2 : 0);
  if constexpr ((kBits & 4) != 0) {
    const uint8x16_t v = at((c & 3) * 64);
    q = c & 4 ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));
  }
  if constexpr ((kBits & 2) != 0) {
    const uint8x16_t v = at(kTwoAt + (c & 1) * 64);
    const int8x16_t by = vdupq_n_s8(int8_t(kTwoShift - (c & 6)));  // left when positive, else right
    q = vorrq_u8(q, vandq_u8(vshlq_u8(v, by), vdupq_n_u8(3 << kTwoShift)));
  }
  if constexpr ((kBits & 1) != 0) {
    static const uint8_t kLane[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8_t* b = p + kOneAt + c * 8 + quarter * 2;
    const uint8x16_t set = vtstq_u8(vcombine_u8(vdup_n_u8(b[0]), vdup_n_u8(b[1])), vld1q_u8(kLane));
    q = vorrq_u8(q, vandq_u8(set, vdupq_n_u8(1 << kOneShift)));
  }
  return vreinterpretq_s8_u8(q);
}
template <int kBits>
RNL_INLINE Chunk unpack_chunk(const uint8_t* p, int c, int) {
  return {{unpack_quarter<kBits>(p, c, 0), unpack_quarter<kBits>(p, c, 1), unpack_quarter<kBits>(p, c, 2), unpack_quarter<kBits>(p, c, 3)}};
}
RNL_INLINE void store_chunks(uint8_t* p, const Chunk* chunks) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  RNL_UNROLL for (int c = 0; c < 8; c += 2)
    RNL_UNROLL for (int i = 0; i < 4; ++i) {
      const int32x4_t a = vreinterpretq_s32_s8(chunks[c].v[i]), b = vreinterpretq_s32_s8(chunks[c + 1].v[i]);
      vst1q_s32((int32_t*)(p + c * 64 + i * 32), vzip1q_s32(a, b));
      vst1q_s32((int32_t*)(p + c * 64 + i * 32 + 16), vzip2q_s32(a, b));
    }
#else
  RNL_UNROLL for (int c = 0; c < 8; ++c)
    RNL_UNROLL for (int i = 0; i < 4; ++i) vst1q_s8((int8_t*)p + c * 64 + i * 16, chunks[c].v[i]);
#endif
}

constexpr int kRows = 4;
typedef float RowsF __attribute__((vector_size(16)));
typedef int32_t RowsI __attribute__((vector_size(16)));
#if defined(__ARM_FEATURE_FMA)
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return (RowsF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return a * b + c; }
#endif

#if defined(__ARM_FEATURE_DOTPROD)

template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  const int8x16_t v = vld1q_s8(x);
  return by_index<i32x16>([&](int i) RNL_LAMBDA {
    int32x4_t a = (int32x4_t)acc.v[i];
    a = vdotq_laneq_s32(a, w[0].v[i], v, 0);
    a = vdotq_laneq_s32(a, w[1].v[i], v, 1);
    a = vdotq_laneq_s32(a, w[2].v[i], v, 2);
    return (Register<int32_t>)vdotq_laneq_s32(a, w[3].v[i], v, 3);
  });
}

constexpr int kMaxGroups = 2;
RNL_INLINE constexpr int class_of(int) { return 8; }

#if defined(__ARM_FEATURE_MATMUL_INT8)
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  // Products of row pair i with token pair j: {r0 t0, r0 t1, r1 t0, r1 t1}.
  int32x4_t p[2][2] = {};
  RNL_UNROLL for (int c = 0; c < 2; ++c)
    RNL_UNROLL for (int i = 0; i < 2; ++i) {
      const int8x16_t rows = vld1q_s8((const int8_t*)w + c * 128 + i * 16);
      RNL_UNROLL for (int j = 0; j < 2; ++j) p[i][j] = vmmlaq_s32(p[i][j], rows, vld1q_s8(x + c * 32 + j * 16));
    }
  RNL_UNROLL for (int j = 0; j < 2; ++j) {
    acc[2 * j] = (RowsI)vaddq_s32((int32x4_t)acc[2 * j], vuzp1q_s32(p[0][j], p[1][j]));
    acc[2 * j + 1] = (RowsI)vaddq_s32((int32x4_t)acc[2 * j + 1], vuzp2q_s32(p[0][j], p[1][j]));
  }
}
#else
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  RNL_UNROLL for (int c = 0; c < 4; ++c) {
    const int8x16_t rows = vld1q_s8((const int8_t*)w + c * 64), v = vld1q_s8(x + c * 16);
    acc[0] = (RowsI)vdotq_laneq_s32((int32x4_t)acc[0], rows, v, 0);
    acc[1] = (RowsI)vdotq_laneq_s32((int32x4_t)acc[1], rows, v, 1);
    acc[2] = (RowsI)vdotq_laneq_s32((int32x4_t)acc[2], rows, v, 2);
    acc[3] = (RowsI)vdotq_laneq_s32((int32x4_t)acc[3], rows, v, 3);
  }
}
#endif

#else  // ARMv8.0 and armv7

constexpr int kMaxGroups = 1;
// An int16 lane holds the sum of four products of up to 6 bits (4 * 63 * 127), or of two of up to 8 (2 * 128 * 127).
RNL_INLINE constexpr int class_of(int bits) { return bits <= 6 ? 6 : 8; }

RNL_INLINE int32x4_t pairs(int32x4_t a, int32x4_t b) {
#if defined(__aarch64__)
  return vpaddq_s32(a, b);
#else
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

// Four rows times 16 columns of one token: w(c) = four columns of the rows, x(c) = the activations, twice over.
template <int kClass, class W, class X>
RNL_INLINE int32x4_t dot_quarter(W w, X x) {
  constexpr int kRun = kClass <= 6 ? 4 : 2;
  int32x4_t low = vdupq_n_s32(0), high = low;
  RNL_UNROLL for (int c0 = 0; c0 < 4; c0 += kRun) {
    int16x8_t a = vmull_s8(vget_low_s8(w(c0)), x(c0)), b = vmull_s8(vget_high_s8(w(c0)), x(c0));
    RNL_UNROLL for (int c = c0 + 1; c < c0 + kRun; ++c) {
      a = vmlal_s8(a, vget_low_s8(w(c)), x(c));
      b = vmlal_s8(b, vget_high_s8(w(c)), x(c));
    }
    low = vpadalq_s16(low, a);
    high = vpadalq_s16(high, b);
  }
  return pairs(low, high);
}
RNL_INLINE int8x8_t twice(const int8_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return vreinterpret_s8_s32(vdup_n_s32(v));
}

template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  return by_index<i32x16>([&](int i) RNL_LAMBDA {
    return acc.v[i] + (Register<int32_t>)dot_quarter<class_of(kBits)>([&](int c) { return w[c].v[i]; }, [&](int c) { return twice(x + c * 4); });
  });
}
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  RNL_UNROLL for (int t = 0; t < 4; ++t)
    acc[t] = (RowsI)vaddq_s32((int32x4_t)acc[t], dot_quarter<kClass>([&](int c) { return vld1q_s8((const int8_t*)w + c * 64); },
                                                                     [&](int c) { return twice(x + c * 16 + t * 4); }));
}

#endif
