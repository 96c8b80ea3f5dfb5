// The functions of unary and glu on 16 floats. Included by kernels that are compiled once per target.
#pragma once

#include "cpu/simd.h"
#include "ops/unary/unary.h"

namespace runnel::RNL_ISA {

// 1 / (1 + e^-x).
RNL_INLINE f32x16 sigmoid(f32x16 x) { return 1.0f / (exp(-x) + 1.0f); }

// Odd polynomial near 0, 1 - 2 / (e^2|x| + 1) elsewhere.
RNL_LONG_INLINE f32x16 tanh(f32x16 x) {
  const f32x16 a = abs(x), z = x * x;
  f32x16 p = splat(-5.70498872745e-3f);
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const f32x16 near = fma(p * z, x, x);
  const f32x16 far = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  const f32x16 far_signed = (f32x16)((u32x16)far | ((u32x16)x & 0x80000000u));
  return select(a < splat(0.625f), near, select(x == x, far_signed, x));
}

// The normal distribution's Phi(x) = erfc(-x / sqrt 2) / 2. For z >= 0, erfc(z) = e^(-z^2) t P(t) with t = 1 / (1 + 0.4
// z); P is a least-squares fit in Chebyshev points of z in [0, 10], relative error 2e-7. x^2 is split into the square
// of x's upper 12 bits, which is exact, and a small rest, so that the tail is accurate too.
RNL_INLINE f32x16 normal_cdf(f32x16 x) {
  const f32x16 a = min(splat(40.0f), abs(x));  // NaN passes; beyond 13.2 the tail is 0
  const f32x16 z = a * 0.70710678f;
  const f32x16 t = 1.0f / fma(z, splat(0.4f), splat(1.0f));
  f32x16 p = splat(-0.030429896f);
  p = fma(p, t, splat(0.20237118f));
  p = fma(p, t, splat(-0.508615613f));
  p = fma(p, t, splat(0.559893072f));
  p = fma(p, t, splat(-0.294196308f));
  p = fma(p, t, splat(0.277049661f));
  p = fma(p, t, splat(0.128059536f));
  p = fma(p, t, splat(0.215244234f));
  p = fma(p, t, splat(0.224915504f));
  p = fma(p, t, splat(0.225708663f));
  const f32x16 upper = (f32x16)((u32x16)a & 0xfffff000u);
  const f32x16 rest = (upper - a) * (upper + a) * 0.5f;  // -0.09 .. 0
  f32x16 e = fma(rest, splat(1.0f / 24), splat(1.0f / 6));
  e = fma(e, rest, splat(0.5f));
  e = fma(e, rest, splat(1.0f));
  e = fma(e, rest, splat(1.0f));
  const f32x16 half = p * t * (exp(upper * upper * -0.5f) * e) * 0.5f;
  return select(x < splat(0.0f), half, 1.0f - half);
}

// log(1 + f) for 1 + f in [0.7, 2], as 2 atanh(f / (2 + f)).
RNL_LONG_INLINE f32x16 log1p_small(f32x16 f) {
  const f32x16 s = f / (f + 2.0f), z = s * s;
  f32x16 p = splat(2.0f / 17);
  p = fma(p, z, splat(2.0f / 15));
  p = fma(p, z, splat(2.0f / 13));
  p = fma(p, z, splat(2.0f / 11));
  p = fma(p, z, splat(2.0f / 9));
  p = fma(p, z, splat(2.0f / 7));
  p = fma(p, z, splat(2.0f / 5));
  p = fma(p, z, splat(2.0f / 3));
  return fma(p * z, s, s + s);
}

RNL_LONG_INLINE f32x16 log(f32x16 x) {
  const i32x16 tiny = x < splat(1.17549435e-38f);
  const f32x16 v = select(tiny, x * 8388608.0f, x);
  // Mantissa in [sqrt(1/2), sqrt(2)).
  const i32x16 shifted = (i32x16)v - 0x3f3504f3;
  const i32x16 exponent = (shifted >> 23) - (tiny & 23);
  const f32x16 m = (f32x16)((shifted & 0x007fffff) + 0x3f3504f3);
  const f32x16 e = to_float(exponent);
  f32x16 y = fma(e, splat(0.693359375f), fma(e, splat(-2.12194440e-4f), log1p_small(m - 1.0f)));
  y = select(x == splat(__builtin_inff()), x, y);
  y = select(x == splat(0.0f), splat(-__builtin_inff()), y);
  return select(x >= splat(0.0f), y, select(x == x, splat(__builtin_nanf("")), x));
}

// x sigmoid(s); -0 at x = -infinity instead of -infinity * 0.
RNL_INLINE f32x16 gated(f32x16 x, f32x16 s) { return max(splat(-3e38f), x) * sigmoid(s); }

// Where a is NaN, `max(limit, a)` above gives NaN, because its comparison is false: see max in simd.h.
template <UnaryKind kind>
RNL_INLINE f32x16 activate(f32x16 x, float alpha) {
  if constexpr (kind == UnaryKind::kRelu) return select(x < splat(0.0f), splat(0.0f), x);
  else if constexpr (kind == UnaryKind::kSigmoid) return sigmoid(x);
  else if constexpr (kind == UnaryKind::kTanh) return tanh(x);
  else if constexpr (kind == UnaryKind::kSilu) return gated(x, x);
  else if constexpr (kind == UnaryKind::kGelu) return max(splat(-3e38f), x) * normal_cdf(x);
  else if constexpr (kind == UnaryKind::kGeluTanh)
    return gated(x, x * fma(x * x, splat(0.0713548162726f), splat(1.5957691216057f)));
  else if constexpr (kind == UnaryKind::kExp) return exp(x);
  else if constexpr (kind == UnaryKind::kLog) return log(x);
  else if constexpr (kind == UnaryKind::kSqrt) return sqrt(x);
  else if constexpr (kind == UnaryKind::kRsqrt) return 1.0f / sqrt(x);
  else if constexpr (kind == UnaryKind::kSquare) return x * x;
  else if constexpr (kind == UnaryKind::kNeg) return -x;
  else if constexpr (kind == UnaryKind::kAbs) return abs(x);
  else if constexpr (kind == UnaryKind::kSoftplus)
    return select(x == x, max(x, splat(0.0f)) + log1p_small(exp(-abs(x))), x);
  else if constexpr (kind == UnaryKind::kReluSquared) {
    const f32x16 r = select(x < splat(0.0f), splat(0.0f), x);
    return r * r;
  } else if constexpr (kind == UnaryKind::kGeluQuick) return gated(x, x * 1.702f);
  else if constexpr (kind == UnaryKind::kScale) return x * alpha;
  else if constexpr (kind == UnaryKind::kSoftcap) return tanh(x / alpha) * alpha;
  else if constexpr (kind == UnaryKind::kFloor) {
    const i32x16 small = abs(x) < splat(8388608.0f);  // the others, and NaN, are whole already
    const f32x16 v = select(small, x, splat(0.0f)), cut = to_float(to_int(v));
    return select(small, cut - select(cut > v, splat(1.0f), splat(0.0f)), x);
  } else return x;
}

// y = f(x) * up over n elements; up null: y = f(x). One copy of each f serves unary and glu (unary/cpu.cpp). n of the
// function is a multiple of 16; activate_span takes any n.
using ActivationFn = void (*)(const float* x, const float* up, float* y, int64_t n, float alpha);
ActivationFn activation_of(UnaryKind kind);
void activate_span(ActivationFn fn, const float* x, const float* up, float* y, int64_t n, float alpha);

}  // namespace runnel::RNL_ISA

// Calls X(kind) for every kind.
// clang-format off
#define RNL_ACTIVATIONS(X)                                                                                     \
  X(kNone) X(kRelu) X(kSigmoid) X(kTanh) X(kSilu) X(kGelu) X(kGeluTanh) X(kExp) X(kLog) X(kSqrt) X(kRsqrt)      \
  X(kSquare) X(kNeg) X(kAbs) X(kSoftplus) X(kReluSquared) X(kGeluQuick) X(kScale) X(kSoftcap) X(kFloor)
// clang-format on
