// The sampler's passes over all logits.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "text/exp.h"
#include "text/sampler.h"

namespace runnel {
namespace {

constexpr int32_t kBlock = 2048;  // logits looked at together: they stay in the first cache for a second look
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Status non_finite(const char* what) { return Status::make(Code::kNonFinite, "cannot choose a token: %s", what); }

// Whether x[0 .. n) holds a NaN, and its maximum otherwise. Sixteen lanes that do not depend on each other, spelt out:
// compilers leave the plain loop scalar because of the NaNs.
#if defined(__aarch64__)
bool scan(const float* x, int32_t n, float* highest) {
  float32x4_t a = vdupq_n_f32(-kInfinity), b = a, c = a, d = a;
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) {  // a maximum with NaN is NaN
    a = vmaxq_f32(a, vld1q_f32(x + i));
    b = vmaxq_f32(b, vld1q_f32(x + i + 4));
    c = vmaxq_f32(c, vld1q_f32(x + i + 8));
    d = vmaxq_f32(d, vld1q_f32(x + i + 12));
  }
  float m = vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d)));
  bool any = m != m;
  for (; i < n; ++i) m = x[i] > m ? x[i] : m, any |= x[i] != x[i];
  *highest = m;
  return any;
}
#else
typedef float Lanes __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));
constexpr int kVectors = 4;

bool scan(const float* x, int32_t n, float* highest) {
  Lanes top[kVectors];
  Mask bad[kVectors] = {};
  for (Lanes& t : top) t = Lanes{-kInfinity, -kInfinity, -kInfinity, -kInfinity};
  int32_t i = 0;
  const auto take = [&](int k) {
    Lanes v;
    std::memcpy(&v, x + i + 4 * k, sizeof v);
    const Mask above = v > top[k];
    top[k] = (Lanes)(((Mask)v & above) | ((Mask)top[k] & ~above));
    bad[k] |= v != v;
  };
  for (; i + 4 * kVectors <= n; i += 4 * kVectors) take(0), take(1), take(2), take(3);
  float m = -kInfinity;
  bool any = false;
  for (; i < n; ++i) m = x[i] > m ? x[i] : m, any |= x[i] != x[i];
  for (int k = 0; k < kVectors; ++k)
    for (int l = 0; l < 4; ++l) m = top[k][l] > m ? top[k][l] : m, any |= bad[k][l] != 0;
  *highest = m;
  return any;
}
#endif

Status check_highest(bool nan, float highest) {
  if (nan) return non_finite("a logit is NaN");
  if (highest == kInfinity) return non_finite("a logit is infinite");
  if (highest == -kInfinity) return non_finite("every logit is minus infinity");
  return Status::ok();
}

}  // namespace

Result<int32_t> argmax(const float* logits, int32_t n) {
  float highest = -kInfinity;
  int32_t best = 0;
  bool nan = false;
  for (int32_t i = 0; i < n; i += kBlock) {
    const int32_t size = std::min(kBlock, n - i);
    float m;
    nan |= scan(logits + i, size, &m);
    if (m > highest) {
      highest = m;
      best = i;
      while (logits[best] != m) ++best;
    }
  }
  RNL_TRY(check_highest(nan, highest));
  return best;
}

Result<float> highest_of(const float* logits, int32_t n) {
  float highest;
  const bool nan = scan(logits, n, &highest);
  RNL_TRY(check_highest(nan, highest));
  return highest;
}

inline float Sampler::weight(float logit, float highest) const {
  return exp_negative((logit - highest) * inverse_temperature_);
}

// Fills candidates_ with the top_k most probable, in no order, in one pass that keeps a bounded number of them.
size_t Sampler::take_top_k(const float* x, float highest) {
  const size_t k = std::min(size_t(o_.top_k), size_t(count_));
  const size_t room = std::min(size_t(count_), std::max<size_t>(4 * k, 4096));
  Candidate* c = candidates_.data();
  size_t n = 0;
  float floor = -kInfinity;
  for (int32_t i = 0; i < count_; ++i) {
    if (!(x[i] > floor)) continue;  // an equal one has a higher id than those kept
    c[n++] = {x[i], i, 0};
    if (n == room && n > k) {
      std::nth_element(c, c + k - 1, c + n, before);
      floor = c[k - 1].logit;
      n = k;
    }
  }
  if (n > k) std::nth_element(c, c + k - 1, c + n, before), n = k;
  for (size_t i = 0; i < n; ++i) c[i].p = weight(c[i].logit, highest);
  return n;
}

#if defined(__aarch64__)
// exp_negative of four numbers, with the same bits: GCC leaves a loop of it scalar.
inline float32x4_t exp_negative(float32x4_t x) {
  const float32x4_t low = vdupq_n_f32(-87.0f), clamped = vmaxq_f32(x, low);
  const int32x4_t n = vcvtq_s32_f32(clamped * 1.44269504f - 0.5f);
  const float32x4_t whole = vcvtq_f32_s32(n), r = (clamped - whole * 0.693145752f) - whole * 1.42860677e-6f;
  float32x4_t y = r * 1.98756915e-4f + 1.39819995e-3f;
  y = y * r + 8.33345191e-3f;
  y = y * r + 4.16657963e-2f;
  y = y * r + 1.66666655e-1f;
  y = y * r + 5.00000012e-1f;
  y = y * r * r + r + 1.0f;
  y *= vreinterpretq_f32_s32(vshlq_n_s32(n + 127, 23));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, low)));
}
#endif

// p of the logits from `begin` on, kBlock of them or as many as there are, and their sum in a fixed order.
double Sampler::block_mass(const float* x, int32_t begin, float highest, float* weights) const {
  const int32_t n = std::min(kBlock, count_ - begin);
  int32_t i = 0;
#if defined(__aarch64__)
  const auto four = [&](int at) { return (vld1q_f32(x + begin + at) - highest) * inverse_temperature_; };
  for (; i + 16 <= n; i += 16) {
    const float32x4_t a = exp_negative(four(i)), b = exp_negative(four(i + 4)), c = exp_negative(four(i + 8)),
                      d = exp_negative(four(i + 12));
    vst1q_f32(weights + i, a);
    vst1q_f32(weights + i + 4, b);
    vst1q_f32(weights + i + 8, c);
    vst1q_f32(weights + i + 12, d);
  }
#endif
  for (; i < n; ++i) weights[i] = weight(x[begin + i], highest);
  i = 0;
#if defined(__aarch64__) && !defined(__clang__)  // GCC would keep an array of eight in memory
  float64x2_t sums[4] = {vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0)};
  for (; i + 8 <= n; i += 8) {
    const float32x4_t a = vld1q_f32(weights + i), b = vld1q_f32(weights + i + 4);
    sums[0] = vaddq_f64(sums[0], vcvt_f64_f32(vget_low_f32(a)));
    sums[1] = vaddq_f64(sums[1], vcvt_high_f64_f32(a));
    sums[2] = vaddq_f64(sums[2], vcvt_f64_f32(vget_low_f32(b)));
    sums[3] = vaddq_f64(sums[3], vcvt_high_f64_f32(b));
  }
  double lanes[8];
  for (int k = 0; k < 4; ++k) vst1q_f64(lanes + 2 * k, sums[k]);
#else
  double lanes[8] = {};
  for (; i + 8 <= n; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += double(weights[i + l]);
#endif
  for (; i < n; ++i) lanes[0] += double(weights[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Fills candidates_ with all that top-p and min-p can leave, ascending by id; total is the mass of everything.
size_t Sampler::take_above(const float* x, float highest, double* total) {
  // What lies below this many temperatures under the highest cannot be chosen. The margins cover rounding.
  float depth = 88.0f;
  if (o_.top_p < 1) {
    float weights[kBlock];
    *total = 0;
    for (int32_t i = 0; i < count_; i += kBlock) *total += block_mass(x, i, highest, weights);
    // All of them together weigh less than the share that top-p cuts off.
    depth = std::min(depth, float(std::log(double(count_) / ((1.0 - double(o_.top_p)) * *total))) + 0.01f);
  } else if (o_.min_p > 0) {
    depth = std::min(depth, 0.01f - std::log(o_.min_p));
  }
  const float floor = highest - std::max(depth, 0.01f) * o_.temperature;
  size_t n = 0;
  for (int32_t i = 0; i < count_; ++i) {
    if (!(x[i] >= floor)) continue;
    const float p = weight(x[i], highest);
    if (p > 0) candidates_[n++] = {x[i], i, p};
  }
  return n;
}

// Draws one of all logits, walking up the ids.
int32_t Sampler::draw_any(const float* x, float highest, double random) const {
  float weights[kBlock];
  double total = 0, at = 0;
  for (int32_t i = 0; i < count_; i += kBlock) total += block_mass(x, i, highest, weights);
  const double want = random * total;
  int32_t last = 0;
  for (int32_t begin = 0; begin < count_; begin += kBlock) {
    const double mass = block_mass(x, begin, highest, weights);
    if (at + mass <= want && begin + kBlock < count_) {
      at += mass;
      continue;
    }
    for (int32_t i = 0; i < std::min(kBlock, count_ - begin); ++i) {
      if (weights[i] == 0) continue;
      at += double(weights[i]), last = begin + i;
      if (at > want) return last;
    }
  }
  return last;
}

}  // namespace runnel
