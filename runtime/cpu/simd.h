// Functions of a tile of 16 floats, in full precision of f32 unless they say otherwise.
#pragma once

#include "cpu/tile.h"

#define RNL_STRINGIFY_(x) #x
#define RNL_STRINGIFY(x) RNL_STRINGIFY_(x)
#define RNL_ISA_NAME RNL_STRINGIFY(RNL_ISA)

namespace runnel::RNL_ISA {

// a * b + c, fused on every target but the scalar one.
RNL_INLINE f32x16 fma(const f32x16& a, const f32x16& b, const f32x16& c) {
  return by_register<f32x16>(
      [](Register<float> x, Register<float> y, Register<float> z) RNL_LAMBDA {
#if defined(__AVX512F__)
        return (Register<float>)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif defined(__FMA__)
        return (Register<float>)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
        return (Register<float>)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#else
        return x * y + z;
#endif
      },
      a, b, c);
}

RNL_INLINE f32x16 max(const f32x16& a, const f32x16& b) { return select(a > b, a, b); }
RNL_INLINE f32x16 min(const f32x16& a, const f32x16& b) { return select(a < b, a, b); }
RNL_INLINE f32x16 abs(const f32x16& a) { return (f32x16)((u32x16)a & 0x7fffffffu); }

RNL_INLINE f32x16 sqrt(const f32x16& a) {
  return by_register<f32x16>(
      [](Register<float> x) RNL_LAMBDA {
#if defined(__AVX512F__)
        return (Register<float>)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
        return (Register<float>)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
        return (Register<float>)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
        return (Register<float>)vsqrtq_f32((float32x4_t)x);
#elif defined(__wasm_simd128__)
        return (Register<float>)wasm_f32x4_sqrt((v128_t)x);
#else
        return Register<float>{__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]),
                               __builtin_sqrtf(x[3])};
#endif
      },
      a);
}

RNL_INLINE float reduce_add(const f32x16& v) {
  return reduce(v, [](Register<float> a, Register<float> b) RNL_LAMBDA { return (Register<float>)plus(a, b); });
}
RNL_INLINE float reduce_max(const f32x16& v) {
  return reduce(v, [](Register<float> a, Register<float> b) RNL_LAMBDA {
    const auto m = (Register<int32_t>)is_more(a, b);
    return (Register<float>)(((Register<int32_t>)a & m) | ((Register<int32_t>)b & ~m));
  });
}

#if defined(__aarch64__)
// x between the bounds; NaN becomes the higher one.
RNL_INLINE f32x16 clamp(const f32x16& x, const f32x16& low, const f32x16& high) {
  return by_register<f32x16>(
      [](Register<float> v, Register<float> a, Register<float> b) RNL_LAMBDA {
        return (Register<float>)vmaxnmq_f32(vminnmq_f32((float32x4_t)v, (float32x4_t)b), (float32x4_t)a);
      },
      x, low, high);
}
// y where x was not clamped, else 0 below, infinity above, NaN for NaN. The smallest difference times the largest float
// is more than y lacks of infinity.
RNL_INLINE f32x16 or_bound(const f32x16& y, const f32x16& x, const f32x16& clamped) {
  const f32x16 v = fma(x - clamped, splat(3.4028235e38f), y);
  return by_register<f32x16>(
      [](Register<float> a) RNL_LAMBDA { return (Register<float>)vmaxq_f32((float32x4_t)a, vdupq_n_f32(0)); }, v);
}
#else
RNL_INLINE f32x16 clamp(const f32x16& x, const f32x16& low, const f32x16& high) { return max(min(x, high), low); }
#endif

// e^x, relative error below 2e-7; 0 below -87.3, infinity above 88.7, NaN stays NaN. Cody-Waite reduction, degree 6
// polynomial.
RNL_LONG_INLINE f32x16 exp(const f32x16& x) {
  const f32x16 low = splat(-87.33654f), high = splat(88.722832f), magic = splat(12582912.0f);
#if defined(__AVX512F__)
  // NaN passes; what is too low is masked below.
  const f32x16 clamped{{(Register<float>)_mm512_min_ps((__m512)(high.v[0] + 0.5f), (__m512)x.v[0])}};
#else
  const f32x16 clamped = clamp(x, low, high);
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
  const __mmask16 is_seen = _mm512_cmp_ps_mask((__m512)x.v[0], (__m512)low.v[0], _CMP_NLT_UQ);
  return {{(Register<float>)_mm512_maskz_scalef_ps(is_seen, (__m512)p.v[0], (__m512)n.v[0])}};
#else
  // n stands in the low bits of t and is added to p's exponent. With n = 128, p is below 1.
  const f32x16 y = (f32x16)((u32x16)p + ((u32x16)t << 23));
#if defined(__aarch64__)
  return or_bound(y, x, clamped);
#else
  const f32x16 out = select(x <= high, y, x * __builtin_inff());
  return select(x < low, splat(0.0f), out);
#endif
#endif
}

// 2^x, relative error below 2.5e-7; 0 below -126, infinity from 128 on, NaN stays NaN. What is left after rounding goes
// through a polynomial of degree 5.
RNL_LONG_INLINE f32x16 exp2(const f32x16& x) {
  const f32x16 magic = splat(12582912.0f);
#if defined(__AVX512F__)
  // NaN passes; scalef makes 0 of what is too low, infinity of what is too high.
  const f32x16 clamped{{(Register<float>)_mm512_max_ps(_mm512_set1_ps(-200.0f), (__m512)x.v[0])}};
#else
  const f32x16 low = splat(-126.0f), high = splat(128.0f), clamped = clamp(x, low, high);
#endif
  const f32x16 t = clamped + magic, n = t - magic, r = clamped - n;
  f32x16 p = fma(splat(1.32647269e-3f), r, splat(9.67151266e-3f));
  p = fma(p, r, splat(5.55073374e-2f));
  p = fma(p, r, splat(2.40222421e-1f));
  p = fma(p, r, splat(6.93146978e-1f));
  p = fma(p, r, splat(1.0f));
#if defined(__AVX512F__)
  return {{(Register<float>)_mm512_scalef_ps((__m512)p.v[0], (__m512)n.v[0])}};
#else
  // n stands in the low bits of t and is added to p's exponent.
  const f32x16 y = (f32x16)((u32x16)p + ((u32x16)t << 23));
#if defined(__aarch64__)
  return or_bound(y, x, clamped);
#else
  return select(x < low, splat(0.0f), select(x < high, y, x * __builtin_inff()));
#endif
#endif
}

// 16 halves to floats and back, round to nearest even.
#if defined(__F16C__) || defined(__AVX512F__) || \
    (defined(__ARM_NEON) && (defined(__aarch64__) || defined(__ARM_FP16_FORMAT_IEEE)))
RNL_INLINE f32x16 load_half(const uint16_t* p) {
  return by_index<f32x16>([p](int i) RNL_LAMBDA {
#if defined(__AVX512F__)
    return (Register<float>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(p + 16 * i)));
#elif defined(__F16C__)
    return (Register<float>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8 * i)));
#else
    return (Register<float>)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
#endif
  });
}
RNL_INLINE void store_half(uint16_t* p, const f32x16& v) {
  for_each_part<f32x16::kParts>([p, &v](int i) RNL_LAMBDA {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)(p + 16 * i), _mm512_cvtps_ph((__m512)v.v[i], _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128((__m128i*)(p + 8 * i), _mm256_cvtps_ph((__m256)v.v[i], _MM_FROUND_TO_NEAREST_INT));
#else
    vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.v[i])));
#endif
  });
}
#else
RNL_INLINE f32x16 load_half(const uint16_t* p) {
  const u32x16 h = (u32x16)widen(p), sign = (h & 0x8000u) << 16, em = h & 0x7fffu;
  // Exponent shifted by a multiplication, which also makes subnormals right; 31 (infinity, NaN) is repaired after.
  const f32x16 v = (f32x16)(em << 13) * 0x1p112f;
  const u32x16 special = (u32x16)(em >= 0x7c00u);
  return (f32x16)(((u32x16)v & ~special) | (((em << 13) | 0x7f800000u) & special) | sign);
}
RNL_INLINE void store_half(uint16_t* p, const f32x16& v) {
  for (int i = 0; i < 16; ++i) {
    const uint32_t x = __builtin_bit_cast(uint32_t, v[i]), a = x & 0x7fffffffu;
    uint32_t h;
    if (a > 0x7f800000u) h = 0x7e00;
    else if (a >= 0x477ff000u) h = 0x7c00;
    else if (a < 0x38800000u) h = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, a) + 0.5f) - 0x3f000000u;
    else h = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13;
    p[i] = uint16_t(h | ((x >> 16) & 0x8000));
  }
}
#endif

}  // namespace runnel::RNL_ISA
