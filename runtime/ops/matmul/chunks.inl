// What each target brings: how the planes of a block row become bytes, and how bytes are multiplied with int8
// activations.
//
// A chunk is 64 bytes of weights: [16 rows][4 columns]. Every target defines
//   Chunk, store_chunks(p, chunks)      8 chunks in the order that dot_group reads
//   unpack_chunk<bits>(planes, c, bits) chunk c (0..7) of a block row, values q - offset_of(bits). kAnyBits: the
//   template argument is 0 and
//                                       the last one counts
//   dot_chunks<bits>(w, x, acc)         acc[16 rows] += 4 chunks (16 columns) times 16 activations of one token
//   kRows, RowsF, RowsI                 how many rows of a tile the kernel for many tokens keeps in registers
//   dot_group<class>(w, x, acc)         acc[token] += 4 chunks times 16 activations of each of 4 tokens, for kRows rows
//   class_of(bits)                      formats that share one dot_group
// Arm unpacks and multiplies block rows by four rows instead: chunks_neon.inl, one_row_neon.inl, many_rows_neon.inl.
// All sums are exact, so the targets agree to the bit.

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

#define RNL_NOINLINE __attribute__((noinline))

#if defined(__F16C__) || defined(__AVX512F__) || defined(__aarch64__) || defined(__ARM_FP16_FORMAT_IEEE)
RNL_INLINE f32x16 load_halves(const uint16_t* p) { return load_half(p); }
#else
RNL_NOINLINE f32x16 load_halves(const uint16_t* p) { return load_half(p); }
#endif

// First n (0..16) floats, the rest 0; and back. For the last tile of a matrix.
RNL_NOINLINE f32x16 load_part(const float* p, int n) { return load_n(p, n); }
RNL_NOINLINE void store_part(float* p, f32x16 v, int n) { store_n(p, v, n); }
RNL_INLINE f32x16 load_some(const float* p, int n) { return n == 16 ? load(p) : load_part(p, n); }
RNL_INLINE void store_some(float* p, f32x16 v, int n) {
  if (n == 16) store(p, v);
  else store_part(p, v, n);
}

// Bytes of unpacked weights of one block row.
constexpr int kBlockBytes = 512;

#if defined(__AVX512VNNI__) || defined(__AVX2__)
RNL_INLINE int32_t four_bytes(const int8_t* p) {
  int32_t v;
  __builtin_memcpy(&v, p, 4);
  return v;
}
#endif

// Offset of chunk c of token t inside the 128 bytes of a block of four tokens, and of row r inside an unpacked block
// row.
#if defined(__ARM_FEATURE_MATMUL_INT8)
// Pairs of chunks side by side: eight columns of a token, or of a row, are neighbours.
RNL_INLINE constexpr int group_offset(int c, int t) { return c / 2 * 32 + t * 8 + c % 2 * 4; }
constexpr int kRowBytes = 8;
#else
RNL_INLINE constexpr int group_offset(int c, int t) { return c * 16 + t * 4; }
constexpr int kRowBytes = 4;
#endif

#if defined(__AVX512VNNI__)

constexpr bool kAnyBits = false;
RNL_INLINE constexpr int offset_of(int) { return 0; }
typedef __m512i Chunk;
RNL_INLINE void store_chunks(uint8_t* p, const Chunk* chunks) {
  RNL_UNROLL_FOR (int c = 0; c < 8; ++c) _mm512_storeu_si512(p + c * 64, chunks[c]);
}

template <int kBits>
RNL_INLINE Chunk unpack_chunk(const uint8_t* p, int c, int) {
  if constexpr (kBits == 8) return _mm512_loadu_si512(p + c * 64);
  Chunk q = _mm512_setzero_si512();
  constexpr int kTwoAt = kBits & 4 ? 256 : 0, kTwoShift = kBits & 4 ? 4 : 0;
  constexpr int kOneAt = kTwoAt + (kBits & 2 ? 128 : 0), kOneShift = kTwoShift + (kBits & 2 ? 2 : 0);
  if constexpr ((kBits & 4) != 0) {
    const Chunk v = _mm512_loadu_si512(p + (c & 3) * 64);
    q = _mm512_and_si512(c & 4 ? _mm512_srli_epi16(v, 4) : v, _mm512_set1_epi8(15));
  }
  if constexpr ((kBits & 2) != 0) {
    const Chunk v = _mm512_loadu_si512(p + kTwoAt + (c & 1) * 64);
    const int s = kTwoShift - (c & 6);
    const Chunk m = _mm512_set1_epi8(char(3 << kTwoShift));
    q = _mm512_or_si512(q, _mm512_and_si512(s > 0   ? _mm512_slli_epi16(v, unsigned(s))
                                            : s < 0 ? _mm512_srli_epi16(v, unsigned(-s))
                                                    : v,
                                            m));
  }
  if constexpr ((kBits & 1) != 0) {
    uint64_t bits;
    __builtin_memcpy(&bits, p + kOneAt + c * 8, 8);
    q = _mm512_mask_add_epi8(q, bits, q, _mm512_set1_epi8(char(1 << kOneShift)));
  }
  return q;
}

template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  __m512i a = (__m512i)acc.v[0], b = _mm512_setzero_si512();
  a = _mm512_dpbusd_epi32(a, w[0], _mm512_set1_epi32(four_bytes(x)));
  b = _mm512_dpbusd_epi32(b, w[1], _mm512_set1_epi32(four_bytes(x + 4)));
  a = _mm512_dpbusd_epi32(a, w[2], _mm512_set1_epi32(four_bytes(x + 8)));
  b = _mm512_dpbusd_epi32(b, w[3], _mm512_set1_epi32(four_bytes(x + 12)));
  return {{(Register<int32_t>)_mm512_add_epi32(a, b)}};
}

constexpr int kRows = 16, kMaxGroups = 2;
typedef Register<float> RowsF;
typedef Register<int32_t> RowsI;
RNL_INLINE constexpr int class_of(int) { return 8; }
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
    const __m512i v = _mm512_loadu_si512(w + c * 64);
    RNL_UNROLL_FOR (int t = 0; t < 4; ++t)
      acc[t] = (RowsI)_mm512_dpbusd_epi32((__m512i)acc[t], v, _mm512_set1_epi32(four_bytes(x + c * 16 + t * 4)));
  }
}
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return (RowsF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

#elif defined(__AVX2__)

constexpr bool kAnyBits = false;
RNL_INLINE constexpr int offset_of(int bits) { return bits == 8 ? 128 : 0; }
struct Chunk {
  __m256i v[2];
};
RNL_INLINE void store_chunks(uint8_t* p, const Chunk* chunks) {
  RNL_UNROLL_FOR (int c = 0; c < 8; ++c) {
    _mm256_storeu_si256((__m256i*)(p + c * 64), chunks[c].v[0]);
    _mm256_storeu_si256((__m256i*)(p + c * 64 + 32), chunks[c].v[1]);
  }
}

template <int kBits>
RNL_INLINE __m256i unpack_half(const uint8_t* p, int c, int half) {
  const auto at = [&](int offset) { return _mm256_loadu_si256((const __m256i*)(p + offset + half * 32)); };
  if constexpr (kBits == 8) return _mm256_xor_si256(at(c * 64), _mm256_set1_epi8(-128));
  __m256i q = _mm256_setzero_si256();
  constexpr int kTwoAt = kBits & 4 ? 256 : 0, kTwoShift = kBits & 4 ? 4 : 0;
  constexpr int kOneAt = kTwoAt + (kBits & 2 ? 128 : 0), kOneShift = kTwoShift + (kBits & 2 ? 2 : 0);
  if constexpr ((kBits & 4) != 0) {
    const __m256i v = at((c & 3) * 64);
    q = _mm256_and_si256(c & 4 ? _mm256_srli_epi16(v, 4) : v, _mm256_set1_epi8(15));
  }
  if constexpr ((kBits & 2) != 0) {
    const __m256i v = at(kTwoAt + (c & 1) * 64);
    const int s = kTwoShift - (c & 6);
    const __m256i m = _mm256_set1_epi8(char(3 << kTwoShift));
    q = _mm256_or_si256(q, _mm256_and_si256(s > 0 ? _mm256_slli_epi16(v, s) : s < 0 ? _mm256_srli_epi16(v, -s) : v, m));
  }
  if constexpr ((kBits & 1) != 0) {
    int32_t bits;
    __builtin_memcpy(&bits, p + kOneAt + c * 8 + half * 4, 4);
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i lane = _mm256_set1_epi64x(int64_t(0x8040201008040201ull));
    const __m256i b = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), lane);
    q = _mm256_or_si256(q, _mm256_and_si256(_mm256_cmpeq_epi8(b, lane), _mm256_set1_epi8(char(1 << kOneShift))));
  }
  return q;
}
template <int kBits>
RNL_INLINE Chunk unpack_chunk(const uint8_t* p, int c, int) {
  return {{unpack_half<kBits>(p, c, 0), unpack_half<kBits>(p, c, 1)}};
}

// Formats by how many products of a column pair (q * 127 * 2 at most) an int16 sum holds: 5 bits four, 6 bits two, 7
// bits one. With 8 bits the sign moves to the activation, and 128 * 128 * 2 still fits. For many tokens that is an
// exclusive or with the sign's bits, which more execution units can do than a change of sign: |w| * ~x = w * x - |w|
// for negative w, and the last term, which does not depend on the activations, is added to the start of the sum
// (kBelowZero, below_zero).
RNL_INLINE constexpr int class_of(int bits) { return bits <= 5 ? 5 : bits; }

// 16 columns of 8 rows times N tokens; w in steps of 64 bytes, x(c, t) = the four activations of chunk c.
template <int kClass, int kTokens, bool kXor, class W, class X>
RNL_INLINE void dot_rows(W w, X x, __m256i* acc) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kClass <= 6) {
    constexpr int kRun = kClass <= 5 ? 4 : 2;
    RNL_UNROLL_FOR (int c0 = 0; c0 < 4; c0 += kRun) {
      __m256i sum[kTokens];
      RNL_UNROLL_FOR (int c = c0; c < c0 + kRun; ++c) {
        const __m256i v = w(c);
        RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) {
          const __m256i p = _mm256_maddubs_epi16(v, x(c, t));
          sum[t] = c == c0 ? p : _mm256_add_epi16(sum[t], p);
        }
      }
      RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) acc[t] = _mm256_add_epi32(acc[t], _mm256_madd_epi16(sum[t], ones));
    }
  } else {
    RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
      const __m256i v = w(c);
      const __m256i magnitude = kClass == 8 ? _mm256_abs_epi8(v) : v;
      const __m256i negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), v);
      RNL_UNROLL_FOR (int t = 0; t < kTokens; ++t) {
        const __m256i xt = kClass != 8 ? x(c, t)
                           : kXor      ? _mm256_xor_si256(x(c, t), negative)
                                       : _mm256_sign_epi8(x(c, t), v);
        acc[t] = _mm256_add_epi32(acc[t], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, xt), ones));
        __asm__ volatile("" : "+x"(acc[t]));  // keeps later loads from being moved up, which would spill sums
      }
    }
  }
}

template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  RNL_UNROLL_FOR (int half = 0; half < 2; ++half) {
    __m256i sum = (__m256i)acc.v[half];
    dot_rows<class_of(kBits), 1, false>([&](int c) { return w[c].v[half]; },
                                        [&](int c, int) { return _mm256_set1_epi32(four_bytes(x + c * 4)); }, &sum);
    acc.v[half] = (Register<int32_t>)sum;
  }
  return acc;
}

// out[16 rows] = sum of |w| over the negative w of 4 chunks.
constexpr bool kBelowZero = true;
RNL_INLINE void below_zero(const uint8_t* w, int32_t* out) {
  RNL_UNROLL_FOR (int half = 0; half < 2; ++half) {
    __m256i sum = _mm256_setzero_si256();
    RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
      const __m256i v =
          _mm256_min_epi8(_mm256_loadu_si256((const __m256i*)(w + c * 64 + half * 32)), _mm256_setzero_si256());
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_set1_epi8(1)));
    }
    _mm256_storeu_si256((__m256i*)(out + half * 8), _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
  }
}

constexpr int kRows = 8, kMaxGroups = 1;
typedef Register<float> RowsF;
typedef Register<int32_t> RowsI;
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  __m256i a[4];
  RNL_UNROLL_FOR (int t = 0; t < 4; ++t) a[t] = (__m256i)acc[t];
  dot_rows<kClass, 4, true>([&](int c) { return _mm256_loadu_si256((const __m256i*)(w + c * 64)); },
                            [&](int c, int t) { return _mm256_set1_epi32(four_bytes(x + c * 16 + t * 4)); }, a);
  RNL_UNROLL_FOR (int t = 0; t < 4; ++t) acc[t] = (RowsI)a[t];
}
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return (RowsF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }

#elif defined(__ARM_NEON)
#include "ops/matmul/chunks_neon.inl"
#elif defined(__wasm_simd128__)
#include "ops/matmul/chunks_wasm.inl"
#else

constexpr bool kAnyBits = true;
RNL_INLINE constexpr int offset_of(int) { return 0; }
struct Chunk {
  uint8_t v[64];
};
RNL_INLINE void store_chunks(uint8_t* p, const Chunk* chunks) { __builtin_memcpy(p, chunks, 512); }

// The target for machines without any of the above: small code rather than fast.
RNL_NOINLINE void unpack_any(int bits, const uint8_t* p, int c, uint8_t* q) {
  const int two_at = bits & 4 ? 256 : 0, two_shift = bits & 4 ? 4 : 0;
  const int one_at = two_at + (bits & 2 ? 128 : 0), one_shift = two_shift + (bits & 2 ? 2 : 0);
  if (bits == 8) {
    __builtin_memcpy(q, p + c * 64, 64);
    return;
  }
  for (int i = 0; i < 64; ++i) q[i] = bits & 4 ? p[(c & 3) * 64 + i] >> (c & 4) & 15 : 0;
  if (bits & 2)
    for (int i = 0; i < 64; ++i) q[i] |= uint8_t((p[two_at + (c & 1) * 64 + i] >> (c & 6) & 3) << two_shift);
  if (bits & 1)
    for (int i = 0; i < 64; ++i) q[i] |= uint8_t((p[one_at + c * 8 + i / 8] >> (i & 7) & 1) << one_shift);
}
template <int>
RNL_INLINE Chunk unpack_chunk(const uint8_t* p, int c, int bits) {
  Chunk q;
  unpack_any(bits, p, c, q.v);
  return q;
}

// sum [16 rows] += four chunks times 16 activations, chunk c's at x + c * step.
RNL_NOINLINE void dot_any(const uint8_t* w, const int8_t* x, int step, int32_t* sum) {
  for (int c = 0; c < 4; ++c, w += 64, x += step)
    for (int r = 0; r < 16; ++r)
      sum[r] += w[r * 4] * x[0] + w[r * 4 + 1] * x[1] + w[r * 4 + 2] * x[2] + w[r * 4 + 3] * x[3];
}
template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  int32_t sum[16];
  store_tile(sum, acc);
  dot_any(w[0].v, x, 4, sum);
  return load_tile<i32x16>(sum);
}

constexpr int kRows = 16, kMaxGroups = 1;
typedef RegisterOf<float, 64>::Type RowsF;
typedef RegisterOf<int32_t, 64>::Type RowsI;
RNL_INLINE constexpr int class_of(int) { return 8; }
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  for (int t = 0; t < 4; ++t) dot_any(w, x + t * 4, 16, reinterpret_cast<int32_t*>(acc + t));
}
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return a * b + c; }

#endif

#if !defined(__AVX2__) || defined(__AVX512VNNI__)
constexpr bool kBelowZero = false;
RNL_INLINE void below_zero(const uint8_t*, int32_t*) {}
#endif
