// Values that say where something stands: triangles, diagonals, one of many; and series read backwards.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;

// 0, 1, ... along one axis of a value of that rank.
Value ruler(Lowering& l, const Size& size, int axis, int rank) {
  Sizes shape(size_t(rank), Size(1));
  shape[size_t(axis)] = size;
  return l.reshape(counted(l, 0, size), shape);
}

// Column minus row, [rows, columns].
Value offsets(Lowering& l, const Size& rows, const Size& columns) {
  return l.arithmetic(ArithmeticKind::sub, ruler(l, columns, 1, 2), ruler(l, rows, 0, 2), Elem::kInt);
}

Value zero_of(Elem elem) { return elem == Elem::kFloat ? Lowering::scalar(0) : Lowering::ints({0}, {}, elem); }

// 1 where an id names the place along a new axis, negative ones counted from behind.
Value one_of_many(Lowering& l, const Value& ids, const Size& depth, int axis) {
  Sizes wide = ids.shape;
  wide.insert(wide.begin() + axis, 1);
  const Value id = l.reshape(l.cast(ids, Elem::kInt), wide), places = ruler(l, depth, axis, int(wide.size()));
  const Value behind = l.arithmetic(ArithmeticKind::sub, places, Lowering::ints({depth}, {}), Elem::kInt);
  return l.arithmetic(ArithmeticKind::bit_or, l.arithmetic(ArithmeticKind::equal, id, places, Elem::kBool),
                      l.arithmetic(ArithmeticKind::equal, id, behind, Elem::kBool), Elem::kBool);
}

}  // namespace

void lower_trilu(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  if (x.rank() < 2) fail("of %s", text(x.shape).c_str());
  const int64_t k = n.has(1) ? n.known_integer(1, "the diagonal") : 0;
  const Value off = offsets(l, x.shape[size_t(x.rank() - 2)], x.shape.back()), bound = Lowering::ints({k}, {});
  const bool is_upper = n.integer("upper", 1) != 0;
  const Value stays =
      l.arithmetic(ArithmeticKind::at_most, is_upper ? bound : off, is_upper ? off : bound, Elem::kBool);
  n.set(l.where(stays, x, zero_of(x.elem)));
}

void lower_eye_like(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  if (x.rank() != 2) fail("of %s", text(x.shape).c_str());
  const Value is_one = l.arithmetic(ArithmeticKind::equal, offsets(l, x.shape[0], x.shape[1]),
                                    Lowering::ints({n.integer("k", 0)}, {}), Elem::kBool);
  const int64_t type = n.integer("dtype", x.elem == Elem::kFloat ? kOnnxFloat : kOnnxI64);
  const bool is_float = type == kOnnxFloat || type == kOnnxF16 || type == kOnnxF64 || type == kOnnxBF16;
  n.set(l.cast(is_one, is_float ? Elem::kFloat : type == kOnnxBool ? Elem::kBool : Elem::kInt));
}

void lower_one_hot(Lowering& l, const Node& n) {
  const Value &ids = n.in(0), &values = n.in(2);
  const Sizes& depth = n.known_sizes(1, "the depth");
  if (depth.size() != 1 || values.rank() != 1 || !values.shape[0].is(2)) fail("values %s", text(values.shape).c_str());
  const int axis = axis_of(n.integer("axis", -1), ids.rank() + 1);
  const auto value = [&](int64_t i) { return l.reshape(piece(l, values, 0, i, 1), {}); };
  n.set(l.where(one_of_many(l, ids, depth[0], axis), value(1), value(0)));
}

// 1 at the largest along an axis, the first of several.
void lower_hardmax(Lowering& l, const Node& n) {
  const Value& given = n.in(0);
  const bool is_old = n.opset() < 13;
  int axis = axis_of(n.integer("axis", is_old ? 1 : -1), given.rank());
  Value x = given;
  if (is_old) {  // all axes from this one on are one
    x = l.reshape(x, {product(Sizes(x.shape.begin(), x.shape.begin() + axis)),
                      product(Sizes(x.shape.begin() + axis, x.shape.end()))});
    axis = 1;
  }
  Sizes shape = x.shape;
  shape.erase(shape.begin() + axis);
  const Value id = l.reshape(best_along(l, x, size_t(axis), 1, false, false)[1], shape);
  n.set(l.reshape(l.cast(one_of_many(l, id, x.shape[size_t(axis)], axis), Elem::kFloat), given.shape));
}

void lower_shrink(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const float bound = float(n.real("lambd", 0.5)), bias = float(n.real("bias", 0));
  const auto beyond = [&](const Value& a, const Value& b) {
    return l.arithmetic(ArithmeticKind::less, a, b, Elem::kBool);
  };
  const auto shifted = [&](float by) { return l.binary(format::BinaryKind::add, x, Lowering::scalar(by)); };
  const Value low = l.where(beyond(x, Lowering::scalar(-bound)), shifted(bias), Lowering::scalar(0));
  n.set(l.where(beyond(Lowering::scalar(bound), x), shifted(-bias), low));
}

// The first `length` steps of each series in the other direction.
void lower_reverse_sequence(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &lengths = n.in(1);
  const int batch = axis_of(n.integer("batch_axis", 1), x.rank()), time = axis_of(n.integer("time_axis", 0), x.rank());
  if (batch > 1 || time > 1 || batch == time || lengths.rank() != 1) fail("axes %d and %d", batch, time);
  const Size steps = x.shape[size_t(time)], count = x.shape[size_t(batch)];
  const Value t = ruler(l, steps, 0, 2), length = l.reshape(lengths, {1, count}), one = Lowering::ints({1}, {});
  const auto integer = [&](ArithmeticKind kind, const Value& a, const Value& b) {
    return l.arithmetic(kind, a, b, Elem::kInt);
  };
  const Value back = integer(ArithmeticKind::sub, integer(ArithmeticKind::sub, length, one), t);
  const Value from = l.where(l.arithmetic(ArithmeticKind::less, t, length, Elem::kBool), back, t);
  const Value row = integer(ArithmeticKind::add, integer(ArithmeticKind::mul, from, Lowering::ints({count}, {})),
                            ruler(l, count, 1, 2));
  Perm perm = identity(x.rank());
  if (time == 1) std::swap(perm[0], perm[1]);
  const Value v = l.plain(l.transpose(x, perm));
  const Size rest = product(Sizes(v.shape.begin() + 2, v.shape.end()));
  const Value y = looked_up(l, l.reshape(v, {steps * count, rest}), 0, row);
  n.set(l.transpose(l.reshape(y, v.shape), perm));
}

}  // namespace runnel::convert
