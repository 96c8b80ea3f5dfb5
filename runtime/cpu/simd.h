// Portable SIMD on the compilers' vector extensions: one tile of 16 floats, which each target maps onto its own registers (one with
// AVX-512, two with AVX2, four with NEON and SSE). Everything lives in the target's own namespace, so no inline code is shared between
// objects that are compiled for different instruction sets. Include only from files that are compiled once per target.
#pragma once

#ifndef RNL_ISA
#error "cpu/simd.h is for files that CMake compiles once per target with -DRNL_ISA=<target>"
#endif

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define RNL_INLINE static inline __attribute__((always_inline))
#define RNL_STRINGIFY_(x) #x
#define RNL_STRINGIFY(x) RNL_STRINGIFY_(x)
#define RNL_ISA_NAME RNL_STRINGIFY(RNL_ISA)

namespace runnel::RNL_ISA {

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef float f32x16u __attribute__((vector_size(64), aligned(4)));
typedef int32_t i32x16u __attribute__((vector_size(64), aligned(4)));

// Spelt out, because 0 + v would cost an addition: it is not v when v is -0.
RNL_INLINE f32x16 splat(float v) { return f32x16{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }
RNL_INLINE f32x16 load(const float* p) { return *reinterpret_cast<const f32x16u*>(p); }
RNL_INLINE void store(float* p, f32x16 v) { *reinterpret_cast<f32x16u*>(p) = v; }
// First n (0..16) elements; the rest reads as `fill`. Called, not inlined: parts of a tile are rare and their code is long.
#define RNL_CALLED static __attribute__((noinline, unused))
RNL_CALLED f32x16 load_n(const float* p, int n, float fill = 0.0f) {
  f32x16 v = splat(fill);
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
RNL_CALLED void store_n(float* p, f32x16 v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

// a * b + c, fused on every target (the scalar one calls libm's fma through the compiler).
RNL_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  struct Two { __m256 lo, hi; };
  const Two x = __builtin_bit_cast(Two, a), y = __builtin_bit_cast(Two, b), z = __builtin_bit_cast(Two, c);
  const Two r = {_mm256_fmadd_ps(x.lo, y.lo, z.lo), _mm256_fmadd_ps(x.hi, y.hi, z.hi)};
  return __builtin_bit_cast(f32x16, r);
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
  struct Four { float32x4_t v[4]; };
  const Four x = __builtin_bit_cast(Four, a), y = __builtin_bit_cast(Four, b);
  Four z = __builtin_bit_cast(Four, c);
  for (int i = 0; i < 4; ++i) z.v[i] = vfmaq_f32(z.v[i], x.v[i], y.v[i]);
  return __builtin_bit_cast(f32x16, z);
#else
  return a * b + c;
#endif
}

RNL_INLINE f32x16 select(i32x16 mask, f32x16 a, f32x16 b) {
  return (f32x16)(((u32x16)a & (u32x16)mask) | ((u32x16)b & ~(u32x16)mask));
}
RNL_INLINE f32x16 max(f32x16 a, f32x16 b) { return select(a > b, a, b); }
RNL_INLINE f32x16 min(f32x16 a, f32x16 b) { return select(a < b, a, b); }
RNL_INLINE f32x16 abs(f32x16 a) { return (f32x16)((u32x16)a & 0x7fffffffu); }

RNL_INLINE f32x16 sqrt(f32x16 a) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_sqrt_ps((__m512)a);
#else
  float s[16];
  __builtin_memcpy(s, &a, 64);
#if defined(__SSE2__)
  for (int i = 0; i < 16; i += 4) _mm_storeu_ps(s + i, _mm_sqrt_ps(_mm_loadu_ps(s + i)));
#elif defined(__aarch64__)
  for (int i = 0; i < 16; i += 4) vst1q_f32(s + i, vsqrtq_f32(vld1q_f32(s + i)));
#else
  for (int i = 0; i < 16; ++i) s[i] = __builtin_sqrtf(s[i]);
#endif
  __builtin_memcpy(&a, s, 64);
  return a;
#endif
}

// Fixed order: halves are folded, so the result does not depend on the target.
RNL_INLINE float reduce_add(f32x16 v) {
  float s[16];
  __builtin_memcpy(s, &v, 64);
  for (int n = 8; n; n >>= 1)
    for (int i = 0; i < n; ++i) s[i] += s[i + n];
  return s[0];
}
RNL_INLINE float reduce_max(f32x16 v) {
  float s[16];
  __builtin_memcpy(s, &v, 64);
  for (int n = 8; n; n >>= 1)
    for (int i = 0; i < n; ++i) s[i] = s[i] > s[i + n] ? s[i] : s[i + n];
  return s[0];
}

// e^x, relative error below 2e-7; 0 below -87.3, infinity above 88.7, NaN stays NaN. Cody-Waite reduction, degree 6 polynomial.
RNL_INLINE f32x16 exp(f32x16 x) {
  const f32x16 low = splat(-87.33654f), high = splat(88.722832f), magic = splat(12582912.0f);
#if defined(__AVX512F__)
  const f32x16 clamped = (f32x16)_mm512_min_ps((__m512)high + 0.5f, (__m512)x);  // NaN passes; what is too low is masked below
#else
  const f32x16 clamped = max(min(x, high), low);
#endif
  const f32x16 t = fma(clamped, splat(1.44269504f), magic);
  const f32x16 n = t - magic;
  f32x16 r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  f32x16 p = splat(1.3981999507e-3f);
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
#if defined(__AVX512F__)
  return (f32x16)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)low, _CMP_NLT_UQ), (__m512)p, (__m512)n);
#else
  // n stands in the low bits of t and is added to p's exponent. With n = 128, p is below 1.
  const f32x16 y = (f32x16)((u32x16)p + ((u32x16)t << 23));
  const f32x16 out = select(x <= high, y, x * __builtin_inff());
  return select(x < low, splat(0.0f), out);
#endif
}

// 2^x, relative error below 2.5e-7; 0 below -126, infinity from 128 on, NaN stays NaN. What is left after rounding goes through a polynomial of degree 5.
RNL_INLINE f32x16 exp2(f32x16 x) {
  const f32x16 magic = splat(12582912.0f);
#if defined(__AVX512F__)
  const f32x16 clamped = (f32x16)_mm512_max_ps((__m512)splat(-200.0f), (__m512)x);  // NaN passes; scalef makes 0 of what is too low, infinity of what is too high
#else
  const f32x16 low = splat(-126.0f), high = splat(128.0f), clamped = max(min(x, high), low);
#endif
  const f32x16 t = clamped + magic, n = t - magic, r = clamped - n;
  f32x16 p = fma(splat(1.32647269e-3f), r, splat(9.67151266e-3f));
  p = fma(p, r, splat(5.55073374e-2f));
  p = fma(p, r, splat(2.40222421e-1f));
  p = fma(p, r, splat(6.93146978e-1f));
  p = fma(p, r, splat(1.0f));
#if defined(__AVX512F__)
  return (f32x16)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  // n stands in the low bits of t and is added to p's exponent.
  const f32x16 y = (f32x16)((u32x16)p + ((u32x16)t << 23));
  return select(x < low, splat(0.0f), select(x < high, y, x * __builtin_inff()));
#endif
}

// 16 halves to floats and back, round to nearest even.
RNL_INLINE f32x16 load_half(const uint16_t* p) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
  struct Two { __m256 lo, hi; } r = {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
  return __builtin_bit_cast(f32x16, r);
#elif defined(__ARM_NEON) && (defined(__aarch64__) || defined(__ARM_FP16_FORMAT_IEEE))
  struct Four { float32x4_t v[4]; } r;
  for (int i = 0; i < 4; ++i) r.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
  return __builtin_bit_cast(f32x16, r);
#else
  u32x16 h = {};
  for (int i = 0; i < 16; ++i) h[i] = p[i];
  const u32x16 sign = (h & 0x8000u) << 16, em = h & 0x7fffu;
  // Exponent shifted by a multiplication, which also makes subnormals right; 31 (infinity, NaN) is repaired after.
  const f32x16 v = (f32x16)(em << 13) * splat(0x1p112f);
  const u32x16 special = (u32x16)(em >= 0x7c00u);
  const u32x16 bits = (((u32x16)v & ~special) | (((em << 13) | 0x7f800000u) & special)) | sign;
  return (f32x16)bits;
#endif
}
RNL_INLINE void store_half(uint16_t* p, f32x16 v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  struct Two { __m256 lo, hi; };
  const Two x = __builtin_bit_cast(Two, v);
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__ARM_NEON) && (defined(__aarch64__) || defined(__ARM_FP16_FORMAT_IEEE))
  struct Four { float32x4_t v[4]; };
  const Four x = __builtin_bit_cast(Four, v);
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
#else
  for (int i = 0; i < 16; ++i) {
    const uint32_t x = __builtin_bit_cast(uint32_t, (float)v[i]), a = x & 0x7fffffffu;
    uint32_t h;
    if (a > 0x7f800000u) h = 0x7e00;
    else if (a >= 0x477ff000u) h = 0x7c00;
    else if (a < 0x38800000u) h = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, a) + 0.5f) - 0x3f000000u;
    else h = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13;
    p[i] = uint16_t(h | ((x >> 16) & 0x8000));
  }
#endif
}

}  // namespace runnel::RNL_ISA
