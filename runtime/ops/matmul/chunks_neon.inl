// chunks.inl for Arm: dot product and matrix instructions where the target has them, else widening multiplications.

constexpr bool kAnyBits = false;

// What unpacked weights lack of q. The highest bit of an odd number of bits is a mask, 0 where it is set, that fills
// the bits above the others by one shift: the byte is q - 2^(bits - 1). So is a byte of 8 bits with its highest bit
// turned.
RNL_INLINE constexpr int offset_of(int bits) { return bits & 1 || bits == 8 ? 1 << (bits - 1) : 0; }

// p, but the compiler does not know that: it cannot load from p and apart(p + 1) as a pair, which takes a Cortex-A55
// six cycles instead of two.
template <class T>
RNL_INLINE const T* apart(const T* p) {
  __asm__("" : "+r"(p));
  return p;
}
// Whether loads of one token's product are kept apart. Odd numbers of bits have no registers left for that, and no
// Cortex-A55 has matrix instructions, which need no unpacking of 8 bits.
#if defined(__ARM_FEATURE_MATMUL_INT8)
RNL_INLINE constexpr bool keeps_apart(int bits) { return bits % 2 == 0 && bits != 8; }
#elif defined(__ARM_FEATURE_DOTPROD)
RNL_INLINE constexpr bool keeps_apart(int bits) { return bits % 2 == 0; }
#else
RNL_INLINE constexpr bool keeps_apart(int) { return false; }
#endif

// Masks of a chunk of four rows, from two chunks' words: all bits where that of the 1-bit plane is not set.
RNL_INLINE uint8x16_t clear_bits(const uint8_t* words, int chunk, int quarter) {
  static const uint8_t kLane[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
#if defined(__aarch64__)
#define RNL_TWO(i) \
  { i, i, i, i, i, i, i, i, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1, i + 1 }
  static const uint8_t kBytes[8][16] = {RNL_TWO(0), RNL_TWO(2),  RNL_TWO(4),  RNL_TWO(6),
                                        RNL_TWO(8), RNL_TWO(10), RNL_TWO(12), RNL_TWO(14)};
#undef RNL_TWO
  const uint8x16_t set =
      vqtbl1q_u8(vmvnq_u8(vld1q_u8(words + chunk / 2 * 16)), vld1q_u8(kBytes[chunk % 2 * 4 + quarter]));
#else
  const uint8_t* b = words + chunk * 8 + quarter * 2;
  const uint8x16_t set = vmvnq_u8(vcombine_u8(vdup_n_u8(b[0]), vdup_n_u8(b[1])));
#endif
  return vtstq_u8(set, vld1q_u8(kLane));
}

// The planes of a block row; odd: 16 bytes further.
struct Planes {
  const uint8_t *p, *odd;

  RNL_MEMBER uint8x16_t at(int offset, int quarter) const {
    return vld1q_u8(quarter & 1 ? odd + offset + (quarter - 1) * 16 : p + offset + quarter * 16);
  }
};
template <int kBits>
RNL_INLINE Planes planes_at(const uint8_t* p) {
  return {p, keeps_apart(kBits) ? apart(p + 16) : p + 16};
}

// The eight chunks of four rows.
struct Columns {
  uint8x16_t v[8];
};
template <int kBits>
RNL_INLINE Columns unpack_quarter(const Planes& planes, int quarter) {
  const auto at = [&](int offset) RNL_LAMBDA { return planes.at(offset, quarter); };
  const auto mask = [](int bits) { return vdupq_n_u8(uint8_t(bits)); };
  Columns q;
  if constexpr (kBits == 8) {
    RNL_UNROLL_FOR (int c = 0; c < 8; ++c) q.v[c] = veorq_u8(at(c * 64), mask(128));
    return q;
  }
  constexpr int kTwoAt = kBits & 4 ? 256 : 0, kOneAt = kTwoAt + (kBits & 2 ? 128 : 0);
  uint8x16_t clear[8];
  if constexpr ((kBits & 1) != 0)
    RNL_UNROLL_FOR (int c = 0; c < 8; ++c) clear[c] = clear_bits(planes.p + kOneAt, c, quarter);
  // Shifts that insert leave the other bits as they were, so that parts join without masks.
  if constexpr (kBits == 4 || kBits == 5) {
    RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
      const uint8x16_t v = at(c * 64);
      q.v[c + 4] = kBits == 4 ? vshrq_n_u8(v, 4) : vsriq_n_u8(clear[c + 4], v, 4);
      q.v[c] = kBits == 4 ? vandq_u8(v, mask(15)) : vsliq_n_u8(v, clear[c], 4);
    }
  } else if constexpr (kBits >= 6) {
    RNL_UNROLL_FOR (int c = 0; c < 2; ++c) {
      const uint8x16_t v = at(c * 64), w = at(c * 64 + 128), h = at(kTwoAt + c * 64), g = vshrq_n_u8(h, 2);
      q.v[c + 4] = vsriq_n_u8(kBits == 6 ? vandq_u8(h, mask(0x30)) : h, v, 4);
      q.v[c] = vsliq_n_u8(v, h, 4);
      q.v[c + 6] = vsriq_n_u8(g, w, 4);
      q.v[c + 2] = vsliq_n_u8(w, g, 4);
      if constexpr (kBits == 6) {
        q.v[c] = vandq_u8(q.v[c], mask(0x3f));
        q.v[c + 2] = vandq_u8(q.v[c + 2], mask(0x3f));
      }
    }
    if constexpr (kBits == 7)
      RNL_UNROLL_FOR (int c = 0; c < 8; ++c) q.v[c] = vsliq_n_u8(q.v[c], clear[c], 6);
  } else {
    RNL_UNROLL_FOR (int c = 0; c < 2; ++c) {
      const uint8x16_t h = at(c * 64);
      q.v[c + 2] = vshrq_n_u8(h, 2);
      q.v[c + 4] = vshrq_n_u8(h, 4);
      q.v[c + 6] = vshrq_n_u8(h, 6);
      q.v[c] = h;
    }
    RNL_UNROLL_FOR (int c = 0; c < 8; ++c)
      q.v[c] = kBits == 3 ? vsliq_n_u8(q.v[c], clear[c], 2) : c < 6 ? vandq_u8(q.v[c], mask(3)) : q.v[c];
  }
  return q;
}

template <int kBits>
RNL_INLINE void unpack_block(const uint8_t* p, uint8_t* out) {
  const Planes planes = planes_at<kBits>(p);
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
    const Columns q = unpack_quarter<kBits>(planes, i);
#if defined(__ARM_FEATURE_MATMUL_INT8)
    RNL_UNROLL_FOR (int c = 0; c < 8; c += 2) {
      const uint32x4_t a = vreinterpretq_u32_u8(q.v[c]), b = vreinterpretq_u32_u8(q.v[c + 1]);
      vst1q_u8(out + c * 64 + i * 32, vreinterpretq_u8_u32(vzip1q_u32(a, b)));
      vst1q_u8(out + c * 64 + i * 32 + 16, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
    }
#else
    RNL_UNROLL_FOR (int c = 0; c < 8; ++c) vst1q_u8(out + c * 64 + i * 16, q.v[c]);
#endif
  }
}

// Sums start at 1.5 * 2^23 as a float has it: added integers count its ones, and one subtraction makes them floats.
// Below 2^22 nothing is lost.
constexpr int32_t kDotBase = 0x4b400000;
RNL_INLINE float32x4_t dot_float(int32x4_t dot) {
  return (float32x4_t)minus((Register<float>)dot, (Register<float>)vdupq_n_f32(12582912.0f));
}
#if defined(__ARM_FEATURE_FMA)
RNL_INLINE float32x4_t fused(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
#else
RNL_INLINE float32x4_t fused(float32x4_t a, float32x4_t b, float32x4_t c) { return a * b + c; }
#endif

#if defined(__ARM_FEATURE_DOTPROD)

#if defined(__ARM_FEATURE_MATMUL_INT8)
// Unsigned bytes times signed ones: with one token those of 8 bits stay as they are.
RNL_INLINE constexpr int row_offset_of(int bits) { return bits == 8 ? 0 : offset_of(bits); }
template <int kBits>
RNL_INLINE Columns row_quarter(const Planes& planes, int quarter) {
  if constexpr (kBits != 8) return unpack_quarter<kBits>(planes, quarter);
  Columns q;
  RNL_UNROLL_FOR (int c = 0; c < 8; ++c) q.v[c] = planes.at(c * 64, quarter);
  return q;
}
#else
RNL_INLINE constexpr int row_offset_of(int bits) { return offset_of(bits); }
template <int kBits>
RNL_INLINE Columns row_quarter(const Planes& planes, int quarter) {
  return unpack_quarter<kBits>(planes, quarter);
}
#endif

template <int kBits, int kLane>
RNL_INLINE int32x4_t dot_lane(int32x4_t sum, uint8x16_t w, int8x16_t x) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  if constexpr (kBits == 8) return vusdotq_laneq_s32(sum, w, x, kLane);
#endif
  return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w), x, kLane);
}
// sum[two quarters] += the products of their chunks from c on with 16 columns: side by side, because one waits for the
// last.
template <int kBits>
RNL_INLINE void dot_columns(int32x4_t* sum, const Columns* w, int c, int8x16_t x) {
  RNL_UNROLL_FOR (int i = 0; i < 2; ++i) sum[i] = dot_lane<kBits, 0>(sum[i], w[i].v[c], x);
  RNL_UNROLL_FOR (int i = 0; i < 2; ++i) sum[i] = dot_lane<kBits, 1>(sum[i], w[i].v[c + 1], x);
  RNL_UNROLL_FOR (int i = 0; i < 2; ++i) sum[i] = dot_lane<kBits, 2>(sum[i], w[i].v[c + 2], x);
  RNL_UNROLL_FOR (int i = 0; i < 2; ++i) sum[i] = dot_lane<kBits, 3>(sum[i], w[i].v[c + 3], x);
}

template <int kBits, int kBlock>
RNL_INLINE void dot_block(const uint8_t* p, const int8_t* x, const int32_t* start, int32x4_t (*dot)[4]) {
  const Planes planes = planes_at<kBits>(p);
  const int8x16_t first = vld1q_s8(x), second = vld1q_s8(keeps_apart(kBits) ? apart(x + 16) : x + 16);
  RNL_UNROLL_FOR (int h = 0; h < kBlockColumns / kBlock; ++h)
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i) dot[h][i] = vdupq_n_s32(start[h]);
  RNL_UNROLL_FOR (int i = 0; i < 4; i += 2) {
    const Columns w[2] = {row_quarter<kBits>(planes, i), row_quarter<kBits>(planes, i + 1)};
    dot_columns<kBits>(dot[0] + i, w, 0, first);
    dot_columns<kBits>(dot[kBlock == 16] + i, w, 4, second);
  }
}

// The kernel for many tokens is in many_rows_neon.inl.
constexpr int kMaxGroups = 1;
RNL_INLINE constexpr int class_of(int) { return 8; }

#else  // ARMv8.0 and armv7

RNL_INLINE constexpr int row_offset_of(int bits) { return offset_of(bits); }
constexpr int kRows = 4, kMaxGroups = 1;
typedef float RowsF __attribute__((vector_size(16)));
typedef int32_t RowsI __attribute__((vector_size(16)));
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) {
  return (RowsF)fused((float32x4_t)a, (float32x4_t)b, (float32x4_t)c);
}
RNL_INLINE constexpr int class_of(int bits) { return bits <= 6 ? 6 : 8; }

RNL_INLINE int32x4_t pairs(int32x4_t a, int32x4_t b) {
#if defined(__aarch64__)
  return vpaddq_s32(a, b);
#else
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

// Four rows times kChunks chunks of one token: w(c) = four columns of the rows, x(c) = the activations, twice over.
template <int kBits, int kChunks, class W, class X>
RNL_INLINE int32x4_t dot_quarter(W w, X x) {
  // An int16 lane holds the sum of eight products of up to 5 bits (8 * 31 * 127), of four of 6, of two of 8.
  constexpr int kMost = kBits <= 5 ? 8 : kBits <= 6 ? 4 : 2, kRun = kMost < kChunks ? kMost : kChunks;
  int32x4_t low = vdupq_n_s32(0), high = low;
  RNL_UNROLL_FOR (int c0 = 0; c0 < kChunks; c0 += kRun) {
    int16x8_t a = vmull_s8(vget_low_s8(w(c0)), x(c0)), b = vmull_s8(vget_high_s8(w(c0)), x(c0));
    RNL_UNROLL_FOR (int c = c0 + 1; c < c0 + kRun; ++c) {
      a = vmlal_s8(a, vget_low_s8(w(c)), x(c));
      b = vmlal_s8(b, vget_high_s8(w(c)), x(c));
    }
    low = c0 ? vpadalq_s16(low, a) : vpaddlq_s16(a);
    high = c0 ? vpadalq_s16(high, b) : vpaddlq_s16(b);
  }
  return pairs(low, high);
}
RNL_INLINE int8x8_t twice(const int8_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return vreinterpret_s8_s32(vdup_n_s32(v));
}

template <int kBits, int kBlock>
RNL_INLINE void dot_block(const uint8_t* p, const int8_t* x, const int32_t* start, int32x4_t (*dot)[4]) {
  const Planes planes = planes_at<kBits>(p);
  RNL_UNROLL_FOR (int i = 0; i < 4; ++i) {
    const Columns w = unpack_quarter<kBits>(planes, i);
    RNL_UNROLL_FOR (int h = 0; h < kBlockColumns / kBlock; ++h)
      dot[h][i] = vaddq_s32(vdupq_n_s32(start[h]),
                            dot_quarter<kBits, kBlock / 4>([&](int c) { return vreinterpretq_s8_u8(w.v[h * 4 + c]); },
                                                           [&](int c) { return twice(x + h * 16 + c * 4); }));
  }
}
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  RNL_UNROLL_FOR (int t = 0; t < 4; ++t)
    acc[t] = (RowsI)vaddq_s32((int32x4_t)acc[t],
                              dot_quarter<kClass, 4>([&](int c) { return vld1q_s8((const int8_t*)w + c * 64); },
                                                     [&](int c) { return twice(x + c * 16 + t * 4); }));
}

#endif
