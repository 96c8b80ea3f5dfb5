#include "converter/onnx/sampling.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::MathKind;
using format::UnaryKind;

// The rows at whole places, those outside moved to the border.
Value look_up(Lowering& l, const Pixels& p, const Value& row, const Value& column) {
  const Value y = l.cast(l.math(MathKind::clip, row, 0, double(p.height - 1)), Elem::kInt),
              x = l.cast(l.math(MathKind::clip, column, 0, double(p.width - 1)), Elem::kInt);
  Value id = with_size(l, ArithmeticKind::mul, y, p.width);
  id = l.arithmetic(ArithmeticKind::add, id, x, Elem::kInt);
  return looked_up(l, p.rows, 0, l.arithmetic(ArithmeticKind::add, id, p.image, Elem::kInt));
}

Value is_seen(Lowering& l, const Pixels& p, const Value& row, const Value& column) {
  return l.binary(BinaryKind::mul, is_within(l, row, 0, float(p.height - 1)),
                  is_within(l, column, 0, float(p.width - 1)));
}

}  // namespace

Value times(Lowering& l, const Value& v, float by) { return l.unary(UnaryKind::scale, v, by); }
Value plus(Lowering& l, const Value& v, float by) { return l.binary(BinaryKind::add, v, Lowering::scalar(by)); }

Value is_within(Lowering& l, const Value& v, float low, float high) {
  const Value above = l.arithmetic(ArithmeticKind::at_most, Lowering::scalar(low), v, Elem::kBool);
  const Value below = l.arithmetic(ArithmeticKind::at_most, v, Lowering::scalar(high), Elem::kBool);
  return l.cast(l.arithmetic(ArithmeticKind::bit_and, above, below, Elem::kBool), Elem::kFloat);
}

Value weighed(Lowering& l, const Value& rows, const Value& weight) {
  Sizes shape = weight.shape;
  shape.push_back(1);
  return l.binary(BinaryKind::mul, rows, l.reshape(weight, shape));
}

Pixels pixels_of(Lowering& l, const Value& x, const Value& image) {
  if (x.rank() != 4) fail("an image %s", text(x.shape).c_str());
  if (!x.shape[2].is_constant() || !x.shape[3].is_constant())
    fail("an image whose size the call gives: %s", text(x.shape).c_str());
  Pixels p;
  p.height = x.shape[2].constant(), p.width = x.shape[3].constant();
  if (p.height < 1 || p.width < 1) fail("of %s", text(x.shape).c_str());
  p.rows = l.reshape(l.plain(l.transpose(x, {0, 2, 3, 1})), {x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]});
  p.image = with_size(l, ArithmeticKind::mul, image, p.height * p.width);
  return p;
}

Value at_nearest(Lowering& l, const Pixels& p, const Value& row, const Value& column, bool is_cut) {
  const Value y = l.math(MathKind::round, row), x = l.math(MathKind::round, column);
  const Value rows = look_up(l, p, y, x);
  return is_cut ? weighed(l, rows, is_seen(l, p, y, x)) : rows;
}

Value between(Lowering& l, const Pixels& p, const Value& row, const Value& column, bool is_cut) {
  const Value top = l.unary(UnaryKind::floor, row), left = l.unary(UnaryKind::floor, column);
  const Value low = l.binary(BinaryKind::sub, row, top), right = l.binary(BinaryKind::sub, column, left);
  const auto rest = [&](const Value& part) { return plus(l, l.unary(UnaryKind::neg, part), 1); };
  Value sum;
  for (int corner = 0; corner < 4; ++corner) {
    const bool is_low = corner & 2, is_right = corner & 1;
    const Value y = is_low ? plus(l, top, 1) : top, x = is_right ? plus(l, left, 1) : left;
    Value weight = l.binary(BinaryKind::mul, is_low ? low : rest(low), is_right ? right : rest(right));
    if (is_cut) weight = l.binary(BinaryKind::mul, weight, is_seen(l, p, y, x));
    const Value part = weighed(l, look_up(l, p, y, x), weight);
    sum = corner == 0 ? part : l.binary(BinaryKind::add, sum, part);
  }
  return sum;
}

}  // namespace runnel::convert
