#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "converter/weights/quant_row.h"

namespace runnel::convert {

namespace {

constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it rounds to nearest even, for magnitudes below 2^22
float nearest(float v) { return (v + kToInteger) - kToInteger; }

}  // namespace

QuantRow::QuantRow(const PackedFormat& f, uint64_t n) : format(f), columns(n), q(size_t(n)) {
  const size_t blocks = size_t((n + f.block - 1) / f.block), supers = size_t((n + kSuperColumns - 1) / kSuperColumns);
  const bool is_small = f.scale != ScaleKind::kF16;
  d.resize(is_small ? supers : blocks);
  if (f.has_min) dmin.resize(d.size());
  if (is_small) scales.resize(blocks);
  if (is_small && f.has_min) mins.resize(blocks);
}

PackedRow QuantRow::view() const { return {q.data(), d.data(), dmin.data(), scales.data(), mins.data()}; }

void QuantRow::values(float* out) const {
  for (size_t i = 0; i < columns; ++i) {
    const size_t block = i / format.block;
    const size_t at = format.scale == ScaleKind::kF16 ? block : i / kSuperColumns;
    float scale = half_to_float(d[at]);
    float min = format.has_min ? half_to_float(dmin[at]) : 0.0f;
    switch (format.scale) {
      case ScaleKind::kF16: break;
      case ScaleKind::kU4:
      case ScaleKind::kU6: scale *= float(scales[block]); break;
      case ScaleKind::kS6: scale *= float(int(scales[block]) - 32); break;
      case ScaleKind::kI8: scale *= float(int8_t(scales[block])); break;
    }
    if (format.has_min && format.scale != ScaleKind::kF16) min *= float(mins[block]);
    out[i] = scale * float(int(q[i]) - int(format.zero_point)) - min;
  }
}

int64_t QuantRow::first_non_finite() const {
  const auto is_bad = [](uint16_t h) { return (h & 0x7c00) == 0x7c00; };
  for (size_t i = 0; i < d.size(); ++i)
    if (is_bad(d[i]) || (format.has_min && is_bad(dmin[i]))) return int64_t(i);
  return -1;
}

void quantise_q8(const float* values, QuantRow& row) {
  for (size_t b = 0; b < row.d.size(); ++b) {
    const size_t begin = b * 32, end = std::min<size_t>(begin + 32, size_t(row.columns));
    float largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(values[i]));
    row.d[b] = float_to_half(largest / 127.0f);
    const float scale = half_to_float(row.d[b]);
    // q is found with the rounded scale, so that its error is not added to that of q.
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (size_t i = begin; i < end; ++i)
      row.q[i] = uint8_t(int(nearest(std::clamp(values[i] * inverse, -127.0f, 127.0f))) + 128);
  }
}

namespace {

struct Fit {
  uint16_t d;
  float error;
};

// A block of 32 values in the compilers' own vectors of four; a short block is filled up with zeros, which cost
// nothing.
typedef float Lanes __attribute__((vector_size(16)));
struct Block {
  Lanes v[8];
};

float sum(Lanes a) { return (a[0] + a[1]) + (a[2] + a[3]); }

// Squared error of a block with this scale, q in -8..7; best is the least-squares scale of the same q.
float error_with(const Block& block, float scale, float* best) {
  const float inverse = 1.0f / scale;
  const Lanes low = Lanes{} - 8.0f, high = Lanes{} + 7.0f;
  Lanes error{}, vq{}, qq{};
  for (const Lanes& v : block.v) {
    Lanes q = v * inverse;
    q = q < low ? low : q;
    q = q > high ? high : q;
    q = (q + kToInteger) - kToInteger;
    const Lanes e = v - q * scale;
    error += e * e;
    vq += v * q;
    qq += q * q;
  }
  const float denominator = sum(qq);
  *best = denominator > 0 ? sum(vq) / denominator : 0;
  return sum(error);
}

// Tries scales whose end of the range falls on the largest magnitude, a little inside or outside of it, each followed
// by the least-squares scale of its own rounding.
Fit fit_q4(const float* values, size_t n) {
  Block block{};
  std::memcpy(&block, values, n * sizeof(float));
  float extreme = 0, energy = 0;
  for (size_t i = 0; i < n; ++i) {
    if (std::fabs(values[i]) > std::fabs(extreme)) extreme = values[i];
    energy += values[i] * values[i];
  }
  Fit best{0, energy};
  if (extreme == 0) return best;
  if (const uint16_t d = float_to_half(extreme / 8); (d & 0x7c00) == 0x7c00)
    return {d, energy};  // out of range: the caller refuses it
  const auto attempt = [&](float wanted) -> float {
    const uint16_t d = float_to_half(wanted);
    const float scale = half_to_float(d);
    if (scale == 0 || !std::isfinite(scale)) return 0;
    float refined;
    const float error = error_with(block, scale, &refined);
    if (error < best.error) best = {d, error};
    return refined;
  };
  for (int step = -6; step <= 6; ++step) {
    const float refined = attempt(-extreme / (8.0f + 0.15f * float(step)));
    if (refined != 0) attempt(refined);
  }
  const float symmetric = attempt(extreme / 7.0f);
  if (symmetric != 0) attempt(symmetric);
  return best;
}

}  // namespace

void quantise_q4(const float* values, QuantRow& row) {
  for (size_t b = 0; b < row.d.size(); ++b) {
    const size_t begin = b * 32, n = std::min<size_t>(32, size_t(row.columns) - begin);
    row.d[b] = fit_q4(values + begin, n).d;
    const float scale = half_to_float(row.d[b]);
    const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
    for (size_t i = 0; i < n; ++i)
      row.q[begin + i] = uint8_t(int(nearest(std::clamp(values[begin + i] * inverse, -8.0f, 7.0f))) + 8);
  }
}

}  // namespace runnel::convert
