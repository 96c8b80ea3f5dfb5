// Quantised numbers: whole numbers of 8 or 16 bits with a scale and a zero point. In the program they are real numbers
// that are whole: a product of two sums them up as such, without error as long as the sum stays below 2^24, else with
// that of a sum of real numbers. Rounding is to the nearest, ties to even, as in ONNX.
#include <algorithm>
#include <cmath>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::MathKind;

Value add(Lowering& l, const Value& a, const Value& b) { return l.binary(BinaryKind::add, a, b); }
Value sub(Lowering& l, const Value& a, const Value& b) { return l.binary(BinaryKind::sub, a, b); }
Value mul(Lowering& l, const Value& a, const Value& b) { return l.binary(BinaryKind::mul, a, b); }
Value div(Lowering& l, const Value& a, const Value& b) { return l.binary(BinaryKind::div, a, b); }

struct Range {
  double least, most;
};
// Of the numbers that a zero point's type holds; without one they are bytes from 0 on.
Range range_of(Lowering& l, const Node& n, size_t zero_point) {
  if (!n.has(zero_point)) return {0, 255};
  const SourceTensor* t = n.in(zero_point).tensor;
  if (!t) fail("a zero point that the graph computes");
  if (l.has_four_bits(*t)) return t->type == SourceType::kI8 ? Range{-8, 7} : Range{0, 15};
  switch (t->type) {
    case SourceType::kU8: return {0, 255};
    case SourceType::kI8: return {-128, 127};
    case SourceType::kI16: return {-32768, 32767};
    case SourceType::kI32: return {0, 65535};  // numbers of 16 bits without a sign are read as these
    default: fail("a zero point of type %s", t->describe().c_str());
  }
}

// Scales or zero points of x: one, or one for each place of an axis, or one for each block of it.
Value along(Lowering& l, const Value& v, const Value& x, int64_t axis, int64_t block) {
  const Value number = l.cast(v, Elem::kFloat);
  if (product(v.shape).is(1)) return l.reshape(number, {});
  const int at = axis_of(axis, x.rank());
  if (block == 0) {
    if (v.rank() != 1 || !(v.shape[0] == x.shape[size_t(at)]))
      fail("scales %s along axis %d of %s", text(v.shape).c_str(), at, text(x.shape).c_str());
    Sizes shape(size_t(x.rank() - at), 1);
    shape[0] = v.shape[0];
    return l.reshape(number, shape);
  }
  if (!v.is_constant()) fail("blocks with scales that the graph computes");
  const std::vector<int64_t> from = l.known_shape(v, "the scales"), to = l.known_shape(x, "the blocks");
  if (from.size() != to.size() || from[size_t(at)] * block < to[size_t(at)])
    fail("scales %s in blocks of %lld of %s", text(v.shape).c_str(), static_cast<long long>(block),
         text(x.shape).c_str());
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < int(to.size()); ++i) {
    if (i != at && from[size_t(i)] != to[size_t(i)])
      fail("scales %s of %s", text(v.shape).c_str(), text(x.shape).c_str());
    (i < at ? outer : inner) *= i == at ? 1 : to[size_t(i)];
  }
  const std::vector<float>& given = l.numbers(number);
  std::vector<float> all;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < to[size_t(at)]; ++k)
      for (int64_t i = 0; i < inner; ++i) all.push_back(given[size_t((o * from[size_t(at)] + k / block) * inner + i)]);
  return Lowering::floats(std::move(all), x.shape);
}

bool is_zero(Lowering& l, const Value& v) {
  if (!v.is_constant()) return false;
  const std::vector<float>& list = l.numbers(v);
  return std::all_of(list.begin(), list.end(), [](float x) { return x == 0; });
}

// x - zero point, which input i names. Its numbers lie along an axis of x.
Value centred(Lowering& l, const Node& n, const Value& x, size_t i, int64_t axis = 0, int64_t block = 0) {
  const Value number = l.cast(x, Elem::kFloat);
  if (!n.has(i) || is_zero(l, n.in(i))) return number;
  return sub(l, number, along(l, n.in(i), x, axis, block));
}

// round(x) + zero point, within the range of its type.
Value rounded(Lowering& l, const Node& n, const Value& x, size_t zero_point, int64_t axis = 0, int64_t block = 0) {
  const Range range = range_of(l, n, zero_point);
  const Value whole = l.math(MathKind::round, x);
  if (!n.has(zero_point) || is_zero(l, n.in(zero_point))) return l.math(MathKind::clip, whole, range.least, range.most);
  const Value zero = along(l, n.in(zero_point), x, axis, block);
  if (zero.is_constant() && zero.rank() == 0) {
    const double at = double(l.numbers(zero)[0]);
    return add(l, l.math(MathKind::clip, whole, range.least - at, range.most - at), zero);
  }
  return l.math(MathKind::clip, add(l, whole, zero), range.least, range.most);
}

Value quantised(Lowering& l, const Node& n, const Value& x, size_t scale, size_t zero_point) {
  return rounded(l, n, div(l, x, along(l, n.in(scale), x, 0, 0)), zero_point);
}
Value dequantised(Lowering& l, const Node& n, size_t x, size_t scale, size_t zero_point) {
  return mul(l, centred(l, n, n.in(x), zero_point), along(l, n.in(scale), n.in(x), 0, 0));
}

// A row of numbers as one along the channels of what a convolution gives.
Value by_channel(Lowering& l, const Value& v, int rank) {
  if (product(v.shape).is(1)) return l.reshape(v, {});
  Sizes shape(size_t(rank - 1), 1);
  shape[0] = product(v.shape);
  return l.reshape(v, shape);
}

// x as bytes with a scale of its own, (q - zero point), and that scale.
struct Dynamic {
  Value q, zero_point, scale;
};
Dynamic dynamic(Lowering& l, const Value& x) {
  const Value flat = l.reshape(l.plain(x), {product(x.shape)});
  const auto bound = [&](format::ReduceKind kind, BinaryKind with) {
    format::ReduceAttrsT attrs;
    attrs.kind = kind;
    return l.binary(with, l.emit("reduce", {flat}, {}, attrs), Lowering::scalar(0));
  };
  const Value least = bound(format::ReduceKind::min, BinaryKind::min),
              most = bound(format::ReduceKind::max, BinaryKind::max);
  // That of zeros alone is 1.
  const Value step = div(l, sub(l, most, least), Lowering::scalar(255));
  const Value is_none = l.arithmetic(format::ArithmeticKind::equal, step, Lowering::scalar(0), Elem::kBool);
  const Value scale = add(l, step, l.cast(is_none, Elem::kFloat));
  const Value zero_point =
      l.math(MathKind::clip, l.math(MathKind::round, div(l, sub(l, Lowering::scalar(0), least), scale)), 0, 255);
  const Value q = l.math(MathKind::clip, add(l, l.math(MathKind::round, div(l, x, scale)), zero_point), 0, 255);
  return {q, zero_point, scale};
}

// Of a product's operands.
int64_t last_axis(const Value& v) { return v.rank() == 0 ? 0 : v.rank() - 1; }
int64_t row_axis(const Value& v) { return v.rank() > 1 ? v.rank() - 2 : 0; }

}  // namespace

void lower_quantize(Lowering& l, const Node& n) {
  const int64_t axis = n.integer("axis", 1), block = n.integer("block_size", 0);
  if (n.integer("output_dtype", 0) && !n.has(2)) fail("output_dtype without a zero point");
  const Value& x = n.in(0);
  const Value scale = along(l, n.in(1), x, axis, block);
  n.set(rounded(l, n, div(l, l.cast(x, Elem::kFloat), scale), 2, axis, block));
}

void lower_dequantize(Lowering& l, const Node& n) {
  const int64_t axis = n.integer("axis", 1), block = n.integer("block_size", 0);
  const Value& x = n.in(0);
  n.set(mul(l, centred(l, n, x, 2, axis, block), along(l, n.in(1), x, axis, block)));
}

void lower_dynamic_quantize(Lowering& l, const Node& n) {
  if (n.in(0).elem != Elem::kFloat) fail("of integers");
  const Dynamic d = dynamic(l, n.in(0));
  n.set(0, d.q);
  if (n.wants(1)) n.set(1, d.scale);
  if (n.wants(2)) n.set(2, d.zero_point);
}

void lower_conv_integer(Lowering& l, const Node& n) {
  n.set(applied(l, n, lower_conv, "Conv", {centred(l, n, n.in(0), 2), centred(l, n, n.in(1), 3, 0)}));
}

void lower_matmul_integer(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  const Value x = centred(l, n, a, 2, row_axis(a)), w = centred(l, n, b, 3, last_axis(b));
  n.set(applied(l, n, lower_matmul, "MatMul", {x, w}));
}

void lower_qlinear_conv(Lowering& l, const Node& n) {
  const Value x = centred(l, n, n.in(0), 2), w = centred(l, n, n.in(3), 5, 0);
  const Value sum = applied(l, n, lower_conv, "Conv", {x, w, n.has(8) ? l.cast(n.in(8), Elem::kFloat) : Value()});
  const Value factor = div(l, mul(l, l.reshape(n.in(1), {}), n.in(4)), l.reshape(n.in(6), {}));
  n.set(rounded(l, n, mul(l, sum, by_channel(l, factor, sum.rank())), 7));
}

void lower_qlinear_matmul(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(3);
  const Value x = centred(l, n, a, 2, row_axis(a)), w = centred(l, n, b, 5, last_axis(b));
  const Value sum = applied(l, n, lower_matmul, "MatMul", {x, w});
  const Value factor = div(l, mul(l, along(l, n.in(1), a, row_axis(a), 0), along(l, n.in(4), b, last_axis(b), 0)),
                           along(l, n.in(6), sum, 0, 0));
  n.set(rounded(l, n, mul(l, sum, factor), 7));
}

// --- of onnxruntime

// Operators of one input: x, its scale and zero point, those of the result.
void lower_qlinear_unary(Lowering& l, const Node& n) {
  static const std::map<std::string, std::pair<const char*, LowerFn>> kOperators = {
      {"QLinearSigmoid", {"Sigmoid", lower_unary}},
      {"QLinearLeakyRelu", {"LeakyRelu", lower_math}},
      {"QLinearSoftmax", {"Softmax", lower_softmax}},
      {"QLinearAveragePool", {"AveragePool", lower_pool}},
      {"QLinearGlobalAveragePool", {"GlobalAveragePool", lower_global_pool}}};
  if (n.integer("channels_last", 0)) fail("channels_last");
  const auto& [op, function] = kOperators.at(n.op());
  const Value y =
      applied(l, n, function, op, {dequantised(l, n, 0, 1, 2)}, {"channels_last", "opset"}, n.integer("opset", 13));
  n.set(quantised(l, n, y, 3, 4));
}

// Sums often lie between two steps: they are taken as onnxruntime's kernels take them, in units of the result's scale
// and with what the zero points add as one number.
void lower_qlinear_add(Lowering& l, const Node& n) {
  const Range range = range_of(l, n, 7);
  Value sum = n.has(7) ? along(l, n.in(7), n.in(0), 0, 0) : Lowering::scalar(0), zeros = Lowering::scalar(0), parts[2];
  for (size_t i : {0, 3}) {
    const Value ratio = div(l, along(l, n.in(i + 1), n.in(i), 0, 0), along(l, n.in(6), n.in(i), 0, 0));
    if (n.has(i + 2)) zeros = add(l, zeros, mul(l, ratio, along(l, n.in(i + 2), n.in(i), 0, 0)));
    parts[i / 3] = mul(l, l.cast(n.in(i), Elem::kFloat), ratio);
  }
  sum = add(l, add(l, sub(l, sum, zeros), parts[0]), parts[1]);
  n.set(l.math(MathKind::clip, l.math(MathKind::round, sum), range.least, range.most));
}

void lower_qlinear_mul(Lowering& l, const Node& n) {
  const Value a = dequantised(l, n, 0, 1, 2), b = dequantised(l, n, 3, 4, 5);
  n.set(quantised(l, n, mul(l, a, b), 6, 7));
}

void lower_qlinear_where(Lowering& l, const Node& n) {
  n.set(quantised(l, n, l.where(n.in(0), dequantised(l, n, 1, 2, 3), dequantised(l, n, 4, 5, 6)), 7, 8));
}

void lower_qlinear_concat(Lowering& l, const Node& n) {
  std::vector<Value> parts;
  for (size_t i = 2; i + 2 < n.inputs(); i += 3) parts.push_back(dequantised(l, n, i, i + 1, i + 2));
  if (parts.empty()) fail("without inputs");
  n.set(quantised(l, n, applied(l, n, lower_concat, "Concat", parts), 0, 1));
}

void lower_qgemm(Lowering& l, const Node& n) {
  const Value& b = n.in(3);
  const bool is_turned = n.integer("transB", 0);
  const int64_t axis = is_turned ? 0 : last_axis(b);
  const Value x = centred(l, n, n.in(0), 2), w = centred(l, n, b, 5, axis);
  const Value sum =
      applied(l, n, lower_gemm, "Gemm", {x, w, n.has(6) ? l.cast(n.in(6), Elem::kFloat) : Value()}, {"alpha"});
  Value factor = mul(l, along(l, n.in(1), n.in(0), 0, 0), l.reshape(n.in(4), {product(n.in(4).shape)}));
  factor = mul(l, factor, Lowering::scalar(float(n.real("alpha", 1))));
  if (!n.has(7)) return n.set(mul(l, sum, factor));
  n.set(rounded(l, n, mul(l, sum, div(l, factor, along(l, n.in(7), sum, 0, 0))), 8));
}

void lower_dynamic_matmul(Lowering& l, const Node& n) {
  const Value& b = n.in(1);
  if (n.in(0).elem != Elem::kFloat) fail("of integers");
  const Dynamic d = dynamic(l, n.in(0));
  const Value sum =
      applied(l, n, lower_matmul, "MatMul", {sub(l, d.q, d.zero_point), centred(l, n, b, 3, last_axis(b))});
  const Value y = mul(l, sum, mul(l, d.scale, along(l, n.in(2), b, last_axis(b), 0)));
  n.set(n.has(4) ? add(l, y, n.in(4)) : y);
}

void lower_integer_matmul_to_float(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  const Value sum =
      applied(l, n, lower_matmul, "MatMul", {centred(l, n, a, 4, row_axis(a)), centred(l, n, b, 5, last_axis(b))});
  const Value y = mul(l, sum, mul(l, along(l, n.in(2), a, row_axis(a), 0), along(l, n.in(3), b, last_axis(b), 0)));
  n.set(n.has(6) ? add(l, y, n.in(6)) : y);
}

}  // namespace runnel::convert
