// GridSample: an image read at places that the graph computes. Each corner around a place is a look-up of rows, weighed
// by how near it is.
#include <cmath>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::MathKind;
using format::UnaryKind;

struct Sampling {
  bool is_nearest = false, aligns_corners = false;
  enum { kZeros, kBorder, kReflection } padding = kZeros;
};

Value times(Lowering& l, const Value& v, float by) { return l.unary(UnaryKind::scale, v, by); }
Value plus(Lowering& l, const Value& v, float by) { return l.binary(BinaryKind::add, v, Lowering::scalar(by)); }

// Mirrored between two bounds as often as it takes.
Value reflected(Lowering& l, const Value& v, float low, float high) {
  const float span = high - low;
  if (span <= 0) return times(l, v, 0);
  const Value from = l.unary(UnaryKind::abs, plus(l, v, -low));
  const Value round = l.arithmetic(ArithmeticKind::fmod, from, Lowering::scalar(2 * span), Elem::kFloat);
  // Up to the far bound and back again.
  const Value back = plus(l, l.unary(UnaryKind::neg, round), 2 * span);
  return plus(l, l.binary(BinaryKind::min, round, back), low);
}

// -1 .. 1 as places of pixels along an axis of that size, those outside moved as the padding says.
Value place(Lowering& l, const Value& v, float size, const Sampling& s) {
  const Value at =
      s.aligns_corners ? times(l, plus(l, v, 1), (size - 1) / 2) : plus(l, times(l, plus(l, v, 1), size / 2), -0.5f);
  if (s.padding == Sampling::kZeros) return at;
  const float half = s.aligns_corners ? 0 : 0.5f;
  const Value inside = s.padding == Sampling::kReflection ? reflected(l, at, -half, size - 1 + half) : at;
  return l.math(MathKind::clip, inside, 0, double(size) - 1);
}

// 1 where a whole place is in the image.
Value is_inside(Lowering& l, const Value& at, float size) {
  const Value low = l.arithmetic(ArithmeticKind::at_most, Lowering::scalar(0), at, Elem::kBool);
  const Value high = l.arithmetic(ArithmeticKind::at_most, at, Lowering::scalar(size - 1), Elem::kBool);
  return l.cast(l.arithmetic(ArithmeticKind::bit_and, low, high, Elem::kBool), Elem::kFloat);
}

}  // namespace

void lower_grid_sample(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &grid = n.in(1);
  if (x.rank() != 4 || grid.rank() != 4 || !grid.shape[3].is(2))
    fail("%s at %s", text(x.shape).c_str(), text(grid.shape).c_str());
  const Size batch = x.shape[0], channels = x.shape[1];
  if (!x.shape[2].is_constant() || !x.shape[3].is_constant())
    fail("an image whose size the call gives: %s", text(x.shape).c_str());
  const int64_t height = x.shape[2].constant(), width = x.shape[3].constant();
  if (height < 1 || width < 1) fail("of %s", text(x.shape).c_str());
  Sampling s;
  const std::string mode = n.text("mode", n.opset() < 20 ? "bilinear" : "linear"),
                    padding = n.text("padding_mode", "zeros");
  s.is_nearest = mode == "nearest", s.aligns_corners = n.integer("align_corners", 0) != 0;
  if (!s.is_nearest && mode != "bilinear" && mode != "linear") fail("mode \"%s\"", printable(mode).c_str());
  if (padding == "border") s.padding = Sampling::kBorder;
  else if (padding == "reflection") s.padding = Sampling::kReflection;
  else if (padding != "zeros") fail("padding \"%s\"", printable(padding).c_str());

  // [batch, rows, columns] of places, and the image's pixels as rows.
  const Sizes shape(grid.shape.begin(), grid.shape.end() - 1);
  const auto coordinate = [&](int64_t i, int64_t size) {
    return place(l, l.reshape(piece(l, l.plain(grid), 3, i, 1), shape), float(size), s);
  };
  const Value across = coordinate(0, width), down = coordinate(1, height);
  const Value pixels = l.reshape(l.plain(l.transpose(x, {0, 2, 3, 1})), {batch * x.shape[2] * x.shape[3], channels});
  const Value image = l.reshape(counted(l, 0, batch, height * width), {batch, 1, 1});
  const auto look_up = [&](const Value& row, const Value& column) {
    const Value y = l.cast(l.math(MathKind::clip, row, 0, double(height - 1)), Elem::kInt),
                z = l.cast(l.math(MathKind::clip, column, 0, double(width - 1)), Elem::kInt);
    Value id = l.arithmetic(ArithmeticKind::mul, y, Lowering::ints({width}, {}), Elem::kInt);
    id = l.arithmetic(ArithmeticKind::add, id, z, Elem::kInt);
    return looked_up(l, pixels, 0, l.arithmetic(ArithmeticKind::add, id, image, Elem::kInt));
  };
  const auto weighed = [&](const Value& rows, Value weight) {
    Sizes wide = shape;
    wide.push_back(1);
    return l.binary(BinaryKind::mul, rows, l.reshape(weight, wide));
  };
  const bool is_cut = s.padding == Sampling::kZeros;
  const auto seen = [&](const Value& row, const Value& column) {
    return l.binary(BinaryKind::mul, is_inside(l, row, float(height)), is_inside(l, column, float(width)));
  };
  Value sum;
  if (s.is_nearest) {
    const Value row = l.math(MathKind::round, down), column = l.math(MathKind::round, across);
    sum = look_up(row, column);
    if (is_cut) sum = weighed(sum, seen(row, column));
  } else {
    const Value top = l.unary(UnaryKind::floor, down), left = l.unary(UnaryKind::floor, across);
    const Value low = l.binary(BinaryKind::sub, down, top), right = l.binary(BinaryKind::sub, across, left);
    const auto rest = [&](const Value& part) { return plus(l, l.unary(UnaryKind::neg, part), 1); };
    for (int corner = 0; corner < 4; ++corner) {
      const bool is_low = corner & 2, is_right = corner & 1;
      const Value row = is_low ? plus(l, top, 1) : top, column = is_right ? plus(l, left, 1) : left;
      Value weight = l.binary(BinaryKind::mul, is_low ? low : rest(low), is_right ? right : rest(right));
      if (is_cut) weight = l.binary(BinaryKind::mul, weight, seen(row, column));
      const Value part = weighed(look_up(row, column), weight);
      sum = corner == 0 ? part : l.binary(BinaryKind::add, sum, part);
    }
  }
  n.set(l.transpose(sum, {0, 3, 1, 2}));
}

}  // namespace runnel::convert
