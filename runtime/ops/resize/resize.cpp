#include "ops/resize/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::ResizeMode::MAX) == int(ResizeMode::kCubic));
static_assert(int(format::ResizePlace::MAX) == int(ResizePlace::kCrop));
static_assert(int(format::ResizeRounding::MAX) == int(ResizeRounding::kCeil));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ResizeAttrs*>(attrs);
  ResizeParams p{};
  RNL_CHECK_ARG(a.mode() <= format::ResizeMode::MAX && a.place() <= format::ResizePlace::MAX &&
                    a.rounding() <= format::ResizeRounding::MAX,
                "resize: mode %d, place %d or rounding %d is not known", int(a.mode()), int(a.place()),
                int(a.rounding()));
  RNL_CHECK_ARG((!a.scale() || a.scale()->size() == 2) && (!a.roi() || a.roi()->size() == 4),
                "resize: scale is of two axes, roi of four numbers");
  for (unsigned i = 0; i < 2; ++i) {
    p.scale[i] = a.scale() ? a.scale()->Get(i) : 0;
    p.begin[i] = a.roi() ? a.roi()->Get(i) : 0;
    p.end[i] = a.roi() ? a.roi()->Get(i + 2) : 1;
    RNL_CHECK_ARG(p.scale[i] == 0 || (p.scale[i] >= 1e-6f && p.scale[i] <= 1e6f), "resize: a scale of %g",
                  double(p.scale[i]));
    RNL_CHECK_ARG(std::fabs(p.begin[i]) <= 1e6f && std::fabs(p.end[i]) <= 1e6f, "resize: a roi from %g to %g",
                  double(p.begin[i]), double(p.end[i]));
  }
  p.cubic = a.cubic(), p.outside = a.outside();
  RNL_CHECK_ARG(std::fabs(p.cubic) <= 1e3f, "resize: a cubic coefficient of %g", double(p.cubic));
  p.mode = ResizeMode(a.mode()), p.place = ResizePlace(a.place()), p.rounding = ResizeRounding(a.rounding());
  p.antialias = a.antialias() && p.mode != ResizeMode::kNearest, p.exclude_outside = a.exclude_outside();
  RNL_CHECK_ARG(!p.antialias || p.place != ResizePlace::kCrop, "resize: antialias of a crop");
  *params_of<ResizeParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const ResizeParams& p = params_of<ResizeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("resize", "x", x));
  RNL_TRY(check_dense("resize", "y", y));
  describe(x, a, sizeof a), describe(y, b, sizeof b);
  RNL_CHECK_ARG(x.dtype == DType::kF32 && y.dtype == DType::kF32 && x.rank == 4 && y.rank == 4 &&
                    x.dims[0] == y.dims[0] && x.dims[3] == y.dims[3],
                "resize: x is %s and y is %s, want f32 [batch, height, width, channels]", a, b);
  for (int i = 1; i < 3; ++i) {
    RNL_CHECK_ARG(x.dims[i] < (1 << 24) && y.dims[i] < (1 << 24), "resize: axis %d is too long", i);
    RNL_CHECK_ARG(x.dims[i] > 0 || y.dims[i] == 0, "resize: axis %d of x is empty", i);
    // What a place reaches is bounded by the sizes.
    const double scale = double(p.scale[i - 1]);
    RNL_CHECK_ARG(!p.antialias || scale == 0 || scale * double(x.dims[i]) >= double(y.dims[i]) - 0.75,
                  "resize: a scale of %g from %s to %s", scale, a, b);
  }
  return Status::ok();
}

float scale_of(const ResizeParams& p, int axis, int64_t from, int64_t to) {
  return p.scale[axis] != 0 ? p.scale[axis] : float(to) / float(from);
}

// The place of x where place j of y stands.
float place_of(const ResizeParams& p, int axis, int64_t from, int64_t to, int64_t j) {
  const float at = float(j), s = scale_of(p, axis, from, to), size = float(from);
  if (s == 1.0f && from == to && p.place != ResizePlace::kCrop) return at;
  switch (p.place) {
    case ResizePlace::kHalfPixel: return (at + 0.5f) / s - 0.5f;
    case ResizePlace::kSymmetric: {
      const float part = float(to) / (s * size);
      return size / 2 * (1 - part) + (at + 0.5f) / s - 0.5f;
    }
    case ResizePlace::kPytorch: return to > 1 ? (at + 0.5f) / s - 0.5f : 0;
    case ResizePlace::kAlignCorners: return to > 1 ? at * (size - 1) / float(to - 1) : 0;
    case ResizePlace::kAsymmetric: return at / s;
    case ResizePlace::kHalfPixelNearest: return (at + 0.5f) / s;
    case ResizePlace::kCrop: break;
  }
  if (to == 1) return 0.5f * (p.begin[axis] + p.end[axis]) * (size - 1);
  return p.begin[axis] * (size - 1) + at * (p.end[axis] - p.begin[axis]) * (size - 1) / float(to - 1);
}

float rounded(ResizeRounding r, float at) {
  switch (r) {
    case ResizeRounding::kPreferFloor: return std::ceil(at - 0.5f);
    case ResizeRounding::kPreferCeil: return std::floor(at + 0.5f);
    case ResizeRounding::kFloor: return std::floor(at);
    case ResizeRounding::kCeil: break;
  }
  return std::ceil(at);
}

// The weight of a tap `d` places away.
float weight_of(const ResizeParams& p, float d) {
  d = std::fabs(d);
  if (p.mode == ResizeMode::kLinear) return d < 1 ? 1 - d : 0;
  const float a = p.cubic;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

}  // namespace

int64_t resize_taps(const ResizeParams& p, int axis, int64_t from, int64_t to) {
  if (from == 0 || to == 0) return 0;
  const int64_t reach = p.mode == ResizeMode::kCubic ? 2 : 1;
  int64_t taps = p.mode == ResizeMode::kNearest ? 1 : 2 * reach;
  if (p.antialias) {
    const double s = std::min(1.0, double(scale_of(p, axis, from, to)));
    taps = int64_t(std::ceil(2 * double(reach) / s)) + 2;
  }
  return std::min(taps, from);
}

ResizeTaps resize_taps_of(const ResizeParams& p, int axis, int64_t from, int64_t to, int64_t j, float* weights) {
  const float at = place_of(p, axis, from, to, j), end = float(from - 1);
  if (p.place == ResizePlace::kCrop && !(at >= 0 && at <= end)) return {0, 0};
  if (p.mode == ResizeMode::kNearest) {
    weights[0] = 1;
    return {int32_t(std::clamp(rounded(p.rounding, at), 0.0f, end)), 1};
  }
  const int reach = p.mode == ResizeMode::kCubic ? 2 : 1;
  const float s = p.antialias ? std::min(1.0f, scale_of(p, axis, from, to)) : 1.0f, far = float(reach) / s;
  // Taps from `low` on, those beyond x among them; they are counted where x has them.
  const int64_t low = p.antialias ? int64_t(std::floor(at - far)) + 1 : int64_t(std::floor(at)) + 1 - reach,
                high = p.antialias ? int64_t(std::ceil(at + far)) - 1 : low + 2 * reach - 1,
                first = std::clamp<int64_t>(low, 0, from - 1), last = std::clamp<int64_t>(high, 0, from - 1);
  std::fill(weights, weights + (last - first + 1), 0.0f);
  float sum = 0;
  for (int64_t i = low; i <= high; ++i) {
    const int64_t to_tap = std::clamp<int64_t>(i, 0, from - 1);
    if (p.exclude_outside && i != to_tap) continue;
    const float w = weight_of(p, (float(i) - at) * s);
    weights[to_tap - first] += w;
    sum += w;
  }
  if ((p.antialias || p.exclude_outside) && sum != 0)
    for (int64_t i = 0; i <= last - first; ++i) weights[i] /= sum;
  return {int32_t(first), int32_t(last - first + 1)};
}

namespace {

void reference(const OpCall& c) {
  const ResizeParams& p = params_of<ResizeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t channels = x.dims[3], height = x.dims[1], width = x.dims[2];
  const float* from = static_cast<const float*>(x.data);
  float* to = static_cast<float*>(y.data);
  if (element_count(y) == 0) return;
  std::vector<float> down(size_t(resize_taps(p, 0, height, y.dims[1]))),
      right(size_t(resize_taps(p, 1, width, y.dims[2])));
  for (int64_t b = 0; b < y.dims[0]; ++b)
    for (int64_t i = 0; i < y.dims[1]; ++i) {
      const ResizeTaps v = resize_taps_of(p, 0, height, y.dims[1], i, down.data());
      for (int64_t j = 0; j < y.dims[2]; ++j) {
        const ResizeTaps h = resize_taps_of(p, 1, width, y.dims[2], j, right.data());
        for (int64_t ch = 0; ch < channels; ++ch) {
          double sum = v.count && h.count ? 0 : double(p.outside);
          for (int64_t k = 0; k < int64_t(v.count) * h.count; ++k) {
            const int64_t row = v.first + k / h.count, column = h.first + k % h.count;
            sum += double(down[size_t(k / h.count)]) * double(right[size_t(k % h.count)]) *
                   double(from[((b * height + row) * width + column) * channels + ch]);
          }
          *to++ = float(sum);
        }
      }
    }
}

}  // namespace

extern constexpr OpDef resize_def = define_op(registry_row::resize, parse, check, reference);

}  // namespace runnel
