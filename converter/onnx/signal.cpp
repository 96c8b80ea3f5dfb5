// Sound: windows, discrete Fourier transforms as products with tables of the file, mel scales.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

constexpr int64_t kMostPoints = 8192;  // of a transform: its table has their square

// [points, bins * 2]: what takes a row of numbers to cosine and sine parts side by side, each row times a factor.
// is_imaginary: of numbers that stand for the imaginary part.
std::vector<float> fourier(int64_t points, int64_t bins, bool is_inverse, bool is_imaginary,
                           const std::vector<float>& factors) {
  std::vector<float> table(size_t(points * bins * 2));
  const double scale = is_inverse ? 1.0 / double(points) : 1;
  for (int64_t i = 0; i < points; ++i)
    for (int64_t k = 0; k < bins; ++k) {
      const double angle = 2 * std::numbers::pi * double(i * k % points) / double(points) * (is_inverse ? 1 : -1);
      const double by = scale * (factors.empty() ? 1 : double(factors[size_t(i)]));
      float* to = table.data() + size_t((i * bins + k) * 2);
      to[0] = float(by * (is_imaginary ? -std::sin(angle) : std::cos(angle)));
      to[1] = float(by * (is_imaginary ? std::cos(angle) : std::sin(angle)));
    }
  return table;
}

void check_points(int64_t points) {
  if (points < 1 || points > kMostPoints)
    fail("a transform of %lld points, at most %lld", static_cast<long long>(points),
         static_cast<long long>(kMostPoints));
}

}  // namespace

void lower_dft(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const bool is_old = n.opset() < 20;
  if (x.rank() < 2) fail("of %s", text(x.shape).c_str());
  const int64_t given = is_old ? n.integer("axis", 1) : n.has(2) ? n.known_integer(2, "the axis") : -2;
  const int axis = axis_of(given, x.rank());
  if (axis == x.rank() - 1) fail("along its last axis");
  const bool is_inverse = n.integer("inverse", 0), is_half = n.integer("onesided", 0);
  if (is_inverse && is_half) fail("an inverse of one side");
  // The axis and the parts last.
  Perm perm = identity(x.rank());
  std::swap(perm[size_t(axis)], perm[size_t(x.rank() - 2)]);
  Value v = l.transpose(x, perm);
  const size_t at = size_t(x.rank() - 2);
  if (!v.shape[at].is_constant()) fail("of %s points", v.shape[at].text().c_str());
  const int64_t here = v.shape[at].constant(), points = n.has(1) ? n.known_integer(1, "the length") : here;
  check_points(points);
  const int64_t used = std::min(here, points), bins = is_half ? points / 2 + 1 : points;
  if (used < here) v = piece(l, v, int(at), 0, used);
  Value sum;
  const bool has_imaginary = v.shape.back().is(2);
  if (!has_imaginary && !v.shape.back().is(1)) fail("of %s", text(x.shape).c_str());
  Sizes row(v.shape.begin(), v.shape.end() - 1);
  for (int part = 0; part < (has_imaginary ? 2 : 1); ++part) {
    std::vector<float> table = fourier(points, bins, is_inverse, part == 1, {});
    table.resize(size_t(used * bins * 2));  // numbers behind the given ones are 0
    const Value in = l.reshape(piece(l, v, x.rank() - 1, part, 1), row);
    const Value y = multiplied(l, in, Lowering::floats(std::move(table), {used, bins * 2}));
    sum = part == 0 ? y : l.binary(format::BinaryKind::add, sum, y);
  }
  Sizes shape = row;
  shape.back() = bins, shape.push_back(2);
  n.set(l.transpose(l.reshape(sum, shape), perm));
}

void lower_stft(Lowering& l, const Node& n) {
  Value x = n.in(0);
  if (x.rank() == 3 && x.shape[2].is(1)) x = l.reshape(x, {x.shape[0], x.shape[1]});
  if (x.rank() != 2) fail("of %s", text(x.shape).c_str());
  const int64_t step = n.known_integer(1, "the step");
  if (!n.has(2) && !n.has(3)) fail("it has neither a window nor a length");
  std::vector<float> window;
  if (n.has(2)) window = n.known_floats(2, "the window");
  const int64_t points = n.has(3) ? n.known_integer(3, "the length") : int64_t(window.size());
  check_points(points);
  if (step < 1 || (!window.empty() && int64_t(window.size()) != points))
    fail("a step of %lld, %zu numbers of window for %lld points", static_cast<long long>(step), window.size(),
         static_cast<long long>(points));
  const int64_t bins = n.integer("onesided", 1) ? points / 2 + 1 : points;
  const Size frames = (x.shape[1] - Size(points)).floordiv(step) + Size(1);
  const Value first = l.reshape(counted(l, 0, frames, step), {frames, 1}),
              inside = l.reshape(counted(l, 0, points), {1, points});
  const Value rows = looked_up(l, x, 1, l.arithmetic(format::ArithmeticKind::add, first, inside, Elem::kInt));
  const Value y =
      multiplied(l, rows, Lowering::floats(fourier(points, bins, false, false, window), {points, bins * 2}));
  n.set(l.reshape(y, {x.shape[0], frames, bins, 2}));
}

void lower_window(Lowering&, const Node& n) {
  const int64_t size = n.known_integer(0, "the size");
  if (size < 1 || size > (int64_t(1) << 22)) fail("a window of %lld", static_cast<long long>(size));
  const bool is_periodic = n.integer("periodic", 1) != 0;
  const double whole = double(is_periodic ? size : size - 1);
  struct Cosines {
    double a, b, c;
  };
  const Cosines f = n.op() == "HannWindow"      ? Cosines{0.5, 0.5, 0}
                    : n.op() == "HammingWindow" ? Cosines{25.0 / 46, 21.0 / 46, 0}
                                                : Cosines{0.42, 0.5, 0.08};
  std::vector<float> out;
  for (int64_t i = 0; i < size; ++i) {
    const double angle = whole > 0 ? 2 * std::numbers::pi * double(i) / whole : 0;
    out.push_back(float(f.a - f.b * std::cos(angle) + f.c * std::cos(2 * angle)));
  }
  n.set(Lowering::floats(std::move(out), {size}));
}

// Triangles over the bins of a spectrum whose corners are evenly spaced in mel.
void lower_mel_weights(Lowering&, const Node& n) {
  const int64_t bands = n.known_integer(0, "the number of bands"), points = n.known_integer(1, "the length"),
                rate = n.known_integer(2, "the rate");
  const double low = double(n.known_number(3, "the lower edge")), high = double(n.known_number(4, "the upper edge"));
  if (bands < 1 || bands > 4096 || rate < 1) fail("%lld bands", static_cast<long long>(bands));
  check_points(points);
  const int64_t bins = points / 2 + 1;
  const auto mel = [](double hz) { return 2595 * std::log10(1 + hz / 700); };
  std::vector<int64_t> corners;
  const double step = (mel(high) - mel(low)) / double(bands + 2);
  for (int64_t i = 0; i < bands + 2; ++i) {
    const double hz = 700 * (std::pow(10, (double(i) * step + mel(low)) / 2595) - 1);
    corners.push_back(int64_t(std::floor(double(points + 1) * hz / double(rate))));
  }
  std::vector<float> out(size_t(bins * bands), 0.0f);
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t from = corners[size_t(band)], top = corners[size_t(band + 1)], to = corners[size_t(band + 2)];
    for (int64_t i = std::max<int64_t>(from, 0); i < std::min(to, bins); ++i) {
      const double up = top > from ? double(i - from) / double(top - from) : 1,
                   down = double(to - i) / double(to - top);
      if (i <= top) out[size_t(i * bands + band)] = float(i == top ? 1 : up);
      else out[size_t(i * bands + band)] = float(down);
    }
  }
  n.set(Lowering::floats(std::move(out), {bins, bands}));
}

}  // namespace runnel::convert
