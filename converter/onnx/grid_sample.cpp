// GridSample: an image read at places that the graph computes.
#include "converter/onnx/sampling.h"

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

}  // namespace

void lower_grid_sample(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &grid = n.in(1);
  if (x.rank() != 4 || grid.rank() != 4 || !grid.shape[3].is(2))
    fail("%s at %s", text(x.shape).c_str(), text(grid.shape).c_str());
  const Size batch = x.shape[0];
  Sampling s;
  const std::string mode = n.text("mode", n.opset() < 20 ? "bilinear" : "linear"),
                    padding = n.text("padding_mode", "zeros");
  s.is_nearest = mode == "nearest", s.aligns_corners = n.integer("align_corners", 0) != 0;
  if (!s.is_nearest && mode != "bilinear" && mode != "linear") fail("mode \"%s\"", printable(mode).c_str());
  if (padding == "border") s.padding = Sampling::kBorder;
  else if (padding == "reflection") s.padding = Sampling::kReflection;
  else if (padding != "zeros") fail("padding \"%s\"", printable(padding).c_str());

  const Pixels pixels = pixels_of(l, x, l.reshape(counted(l, 0, batch), {batch, 1, 1}));
  // [batch, rows, columns] of places.
  const Sizes shape(grid.shape.begin(), grid.shape.end() - 1);
  const auto coordinate = [&](int64_t i, int64_t size) {
    return place(l, l.reshape(piece(l, l.plain(grid), 3, i, 1), shape), float(size), s);
  };
  const Value across = coordinate(0, pixels.width), down = coordinate(1, pixels.height);
  const bool is_cut = s.padding == Sampling::kZeros;
  const Value y = s.is_nearest ? at_nearest(l, pixels, down, across, is_cut) : between(l, pixels, down, across, is_cut);
  n.set(l.transpose(y, {0, 3, 1, 2}));
}

}  // namespace runnel::convert
