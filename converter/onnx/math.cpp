// Element by element.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::MathKind;
using format::UnaryKind;

// Element i of a broadcast value.
size_t source_of(size_t i, const Sizes& shape, const Sizes& from) {
  size_t at = 0, step = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    const size_t d = shape.size() - 1 - k, n = size_t(shape[d].constant()), here = i % n;
    i /= n;
    if (k >= from.size()) continue;
    const size_t m = size_t(from[from.size() - 1 - k].constant());
    at += m == 1 ? 0 : here * step;
    step *= m;
  }
  return at;
}

Size quotient(const Size& a, const Size& b, bool is_whole) {
  if (a.is_constant() && b.is_constant() && !b.is(0)) {
    if (!is_whole && a.constant() % b.constant() != 0) fail("a size of a call is divided with a rest");
    return a.constant() / b.constant();  // towards zero
  }
  if (!is_whole && !a.divided_by(b)) fail("a size of a call is divided into parts that are not whole");
  return a.floordiv(b);
}

using SizeFn = std::function<Size(const Size&, const Size&)>;
SizeFn size_function(const std::string& op, bool is_whole) {
  if (op == "Add") return [](const Size& a, const Size& b) { return a + b; };
  if (op == "Sub") return [](const Size& a, const Size& b) { return a - b; };
  if (op == "Mul") return [](const Size& a, const Size& b) { return a * b; };
  if (op == "Div") return [is_whole](const Size& a, const Size& b) { return quotient(a, b, is_whole); };
  if (op == "Min") return [](const Size& a, const Size& b) { return a.min(b); };
  if (op == "Max") return [](const Size& a, const Size& b) { return a.max(b); };
  if (op == "Mod") return [](const Size& a, const Size& b) { return a.mod(b); };
  if (op == "And") return [](const Size& a, const Size& b) { return a * b; };
  const auto compared = [](std::function<bool(int64_t)> holds) -> SizeFn {
    return [holds](const Size& a, const Size& b) -> Size {
      const Size d = a - b;
      if (!d.is_constant()) fail("sizes of a call are compared: %s and %s", a.text().c_str(), b.text().c_str());
      return holds(d.constant());
    };
  };
  // A size that a call gives is no -1 or 0: what asks for that is decided here.
  if (op == "Equal")
    return [](const Size& a, const Size& b) -> Size {
      const Size d = a - b;
      if (d.is_constant()) return d.is(0);
      for (const Size* s : {&a, &b})
        if (s->is_constant() && s->constant() <= 0) return 0;
      fail("sizes of a call are compared: %s and %s", a.text().c_str(), b.text().c_str());
    };
  if (op == "Less") return compared([](int64_t d) { return d < 0; });
  if (op == "LessOrEqual") return compared([](int64_t d) { return d <= 0; });
  if (op == "Greater") return compared([](int64_t d) { return d > 0; });
  if (op == "GreaterOrEqual") return compared([](int64_t d) { return d >= 0; });
  return nullptr;
}

bool is_small(const Sizes& shape) {
  const Size n = product(shape);
  return n.is_constant() && n.constant() <= 65536;
}

// Of sizes, where both are known and it has a meaning for them.
bool of_sizes(Lowering& l, const std::string& op, const Value& a, const Value& b, Value* out, Elem elem) {
  if (!a.is_known() || !b.is_known() || (a.elem == Elem::kFloat && a.is_constant() && b.is_constant())) return false;
  const SizeFn f = size_function(op, a.elem != Elem::kFloat);
  const auto x = l.sizes_of(a), y = l.sizes_of(b);
  const Sizes shape = broadcast(a.shape, b.shape);
  if (!f || !x || !y || !is_small(shape)) return false;
  Sizes list;
  for (size_t i = 0; i < size_t(product(shape).constant()); ++i)
    list.push_back(f((*x)[source_of(i, shape, a.shape)], (*y)[source_of(i, shape, b.shape)]));
  *out = Lowering::ints(std::move(list), shape, elem);
  return true;
}

struct UnaryRow {
  const char* op;
  UnaryKind kind;
};
constexpr UnaryRow kUnary[] = {{"Abs", UnaryKind::abs},           {"Exp", UnaryKind::exp},
                               {"Floor", UnaryKind::floor},       {"Log", UnaryKind::log},
                               {"Neg", UnaryKind::neg},           {"Relu", UnaryKind::relu},
                               {"Sqrt", UnaryKind::sqrt},         {"Sigmoid", UnaryKind::sigmoid},
                               {"Softplus", UnaryKind::softplus}, {"Tanh", UnaryKind::tanh}};

struct MathRow {
  const char* op;
  MathKind kind;
  double alpha, beta;
};
constexpr MathRow kMath[] = {{"Ceil", MathKind::ceil, 0, 0},
                             {"Round", MathKind::round, 0, 0},
                             {"Sign", MathKind::sign, 0, 0},
                             {"Erf", MathKind::erf, 0, 0},
                             {"Sin", MathKind::sin, 0, 0},
                             {"Cos", MathKind::cos, 0, 0},
                             {"Tan", MathKind::tan, 0, 0},
                             {"Asin", MathKind::asin, 0, 0},
                             {"Acos", MathKind::acos, 0, 0},
                             {"Atan", MathKind::atan, 0, 0},
                             {"Sinh", MathKind::sinh, 0, 0},
                             {"Cosh", MathKind::cosh, 0, 0},
                             {"Asinh", MathKind::asinh, 0, 0},
                             {"Acosh", MathKind::acosh, 0, 0},
                             {"Atanh", MathKind::atanh, 0, 0},
                             {"Elu", MathKind::elu, 1, 0},
                             {"LeakyRelu", MathKind::leaky_relu, 0.01, 0},
                             {"HardSigmoid", MathKind::hard_sigmoid, 0.2, 0.5},
                             {"HardSwish", MathKind::hard_swish, 1.0 / 6, 0.5}};

}  // namespace

Value Lowering::unary(UnaryKind kind, const Value& v, float alpha) {
  format::UnaryAttrsT attrs;
  attrs.kind = kind;
  attrs.alpha = alpha;
  const Value s = stored(v);
  return labelled(emit("unary", {s}, s.shape, attrs), v.order());
}

Value Lowering::math(MathKind kind, const Value& v, double alpha, double beta) {
  format::MathAttrsT attrs;
  attrs.kind = kind;
  attrs.alpha = float(alpha);
  attrs.beta = float(beta);
  const Value s = stored(v);
  return labelled(emit("math", {s}, s.shape, attrs), v.order());
}

Value Lowering::binary(BinaryKind kind, const Value& a, const Value& b) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  const auto aligned = align({a, b});
  return labelled(emit("binary", aligned.values, aligned.shape, attrs), aligned.perm);
}

Value Lowering::arithmetic(ArithmeticKind kind, const Value& a, const Value& b, Elem result) {
  format::ArithmeticAttrsT attrs;
  attrs.kind = kind;
  const auto aligned = align({a, b});
  return labelled(emit("arithmetic", aligned.values, aligned.shape, attrs, result), aligned.perm);
}

Value Lowering::where(const Value& condition, const Value& x, const Value& y) {
  const auto a = align({condition, x, y});
  return labelled(emit("where", a.values, a.shape, x.elem), a.perm);
}

Value Lowering::cast(const Value& v, Elem to) {
  if (v.elem == to || (v.elem == Elem::kBool && to == Elem::kInt)) {
    Value out = v;
    out.elem = to;
    return out;
  }
  if (to == Elem::kBool)
    return arithmetic(ArithmeticKind::unequal, v, v.elem == Elem::kFloat ? scalar(0) : ints({0}, {}), Elem::kBool);
  if (v.ints) {  // sizes stay known
    Value out = v;
    out.elem = to;
    return out;
  }
  const Value s = stored(v);
  return labelled(emit("cast", {s}, s.shape, to), v.order());
}

void lower_unary(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  if (v.elem != Elem::kFloat || (v.ints && n.op() == "Floor")) {
    if (n.op() == "Floor") return n.set(v);
    const Value zero = Lowering::ints({0}, {});
    Value out;
    if (n.op() == "Neg") {
      if (of_sizes(l, "Sub", zero, v, &out, v.elem)) return n.set(out);
      return n.set(l.arithmetic(ArithmeticKind::sub, zero, v, v.elem));
    }
    if (n.op() == "Relu") return n.set(l.arithmetic(ArithmeticKind::max, zero, v, v.elem));
    if (n.op() != "Abs") fail("of integers");
    return n.set(l.arithmetic(ArithmeticKind::max, v, l.arithmetic(ArithmeticKind::sub, zero, v, v.elem), v.elem));
  }
  for (const UnaryRow& row : kUnary)
    if (n.op() == row.op) {
      const bool may_join =
          row.kind == UnaryKind::relu || row.kind == UnaryKind::sigmoid || row.kind == UnaryKind::tanh;
      return n.set(may_join ? activated(l, row.kind, n.raw().inputs[0], 1) : l.unary(row.kind, v));
    }
}

void lower_math(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  if (v.elem != Elem::kFloat || v.ints) {
    if (n.op() == "Ceil" || n.op() == "Round") return n.set(v);
    if (n.op() != "Sign") fail("of integers");
    const Value one = Lowering::ints({1}, {}), minus = Lowering::ints({-1}, {});
    return n.set(l.arithmetic(ArithmeticKind::min, l.arithmetic(ArithmeticKind::max, v, minus, v.elem), one, v.elem));
  }
  for (const MathRow& row : kMath)
    if (n.op() == row.op) return n.set(l.math(row.kind, v, n.real("alpha", row.alpha), n.real("beta", row.beta)));
}

void lower_binary(Lowering& l, const Node& n) {
  static const std::map<std::string, std::pair<BinaryKind, ArithmeticKind>> kKinds = {
      {"Add", {BinaryKind::add, ArithmeticKind::add}}, {"Sub", {BinaryKind::sub, ArithmeticKind::sub}},
      {"Mul", {BinaryKind::mul, ArithmeticKind::mul}}, {"Div", {BinaryKind::div, ArithmeticKind::div}},
      {"Max", {BinaryKind::max, ArithmeticKind::max}}, {"Min", {BinaryKind::min, ArithmeticKind::min}},
      {"Sum", {BinaryKind::add, ArithmeticKind::add}}, {"Mean", {BinaryKind::add, ArithmeticKind::add}}};
  const auto kinds = kKinds.at(n.op());
  Value out = n.in(0);
  for (size_t i = 1; i < n.inputs(); ++i) {
    const Value b = n.in(i);
    Value next;
    if (!of_sizes(l, n.op(), out, b, &next, out.elem))
      next = out.elem == Elem::kFloat ? l.binary(kinds.first, out, b) : l.arithmetic(kinds.second, out, b, out.elem);
    out = next;
  }
  if (n.op() == "Mean") out = l.unary(UnaryKind::scale, out, float(1.0 / double(n.inputs())));
  n.set(out);
}

void lower_compare(Lowering& l, const Node& n) {
  Value a = n.in(0), b = n.in(1), out;
  if (of_sizes(l, n.op(), a, b, &out, Elem::kBool)) return n.set(out);
  if (n.op()[0] == 'G') std::swap(a, b);
  const ArithmeticKind kind = n.op() == "Equal"                         ? ArithmeticKind::equal
                              : n.op() == "Less" || n.op() == "Greater" ? ArithmeticKind::less
                                                                        : ArithmeticKind::at_most;
  n.set(l.arithmetic(kind, a, b, Elem::kBool));
}

void lower_logic(Lowering& l, const Node& n) {
  const ArithmeticKind kind = n.op().find("Xor") != std::string::npos  ? ArithmeticKind::bit_xor
                              : n.op().find("Or") != std::string::npos ? ArithmeticKind::bit_or
                                                                       : ArithmeticKind::bit_and;
  n.set(l.arithmetic(kind, n.in(0), n.in(1), n.in(0).elem));
}

void lower_not(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  Value out;
  const Value one = Lowering::ints({1}, {}, Elem::kBool);
  if (of_sizes(l, "Sub", one, v, &out, Elem::kBool)) return n.set(out);
  n.set(l.arithmetic(ArithmeticKind::bit_xor, v, one, Elem::kBool));
}

void lower_bitwise_not(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  if (v.elem != Elem::kInt) fail("of real numbers");
  // -1 - x; of numbers without a sign the file would have to say how many bits there are.
  if (v.tensor && v.tensor->type == SourceType::kU8) fail("of numbers without a sign");
  n.set(l.arithmetic(ArithmeticKind::sub, Lowering::ints({-1}, {}), v, v.elem));
}

// Of numbers without a sign, divided by powers of two.
void lower_bit_shift(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  if (n.text("direction", "") != "RIGHT") fail("to the left: how many bits its numbers have is not known");
  if (!b.is_constant() || b.elem != Elem::kInt) fail("by what the graph computes");
  Sizes factors;
  for (const Size& s : *b.ints) {
    if (s.constant() < 0 || s.constant() > 30) fail("by %lld bits", static_cast<long long>(s.constant()));
    factors.push_back(int64_t(1) << s.constant());
  }
  n.set(l.arithmetic(ArithmeticKind::div, a, Lowering::ints(factors, b.shape), a.elem));
}

void lower_mod(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  Value out;
  if (of_sizes(l, "Mod", a, b, &out, a.elem)) return n.set(out);
  n.set(l.arithmetic(n.integer("fmod", 0) ? ArithmeticKind::fmod : ArithmeticKind::mod, a, b, a.elem));
}

void lower_pow(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  if (b.is_constant() && product(b.shape).is(1)) {
    const float e = l.numbers(b)[0];
    if (a.elem == Elem::kFloat && e == 2) return n.set(l.unary(UnaryKind::square, a));
    if (a.elem == Elem::kFloat && e == 0.5f) return n.set(l.unary(UnaryKind::sqrt, a));
    if (a.elem == Elem::kFloat && e == 1) return n.set(a);
    if (a.elem == Elem::kFloat && e == 3) return n.set(l.binary(BinaryKind::mul, a, l.unary(UnaryKind::square, a)));
  }
  n.set(l.cast(l.arithmetic(ArithmeticKind::pow, l.cast(a, Elem::kFloat), l.cast(b, Elem::kFloat), Elem::kFloat),
               a.elem));
}

void lower_cast(Lowering& l, const Node& n) {
  switch (n.op() == "CastLike" ? (n.in(1).elem == Elem::kFloat  ? kOnnxFloat
                                  : n.in(1).elem == Elem::kBool ? kOnnxBool
                                                                : kOnnxI32)
                               : n.integer("to", 0)) {
    case kOnnxFloat:
    case kOnnxF16:
    case kOnnxBF16:
    case kOnnxF64: return n.set(l.cast(n.in(0), Elem::kFloat));
    case kOnnxI32:
    case kOnnxI64: return n.set(l.cast(n.in(0), Elem::kInt));
    case kOnnxBool: return n.set(l.cast(n.in(0), Elem::kBool));
    default: fail("to element type %lld", static_cast<long long>(n.integer("to", 0)));
  }
}

void lower_where(Lowering& l, const Node& n) {
  const Value &c = n.in(0), &x = n.in(1), &y = n.in(2);
  const auto p = l.sizes_of(c), q = l.sizes_of(x), r = l.sizes_of(y);
  const Sizes shape = broadcast(c.shape, broadcast(x.shape, y.shape));
  if (p && q && r && c.is_constant() && x.elem != Elem::kFloat && is_small(shape)) {
    Sizes list;
    for (size_t i = 0; i < size_t(product(shape).constant()); ++i)
      list.push_back((*p)[source_of(i, shape, c.shape)].is(0) ? (*r)[source_of(i, shape, y.shape)]
                                                              : (*q)[source_of(i, shape, x.shape)]);
    return n.set(Lowering::ints(std::move(list), shape, x.elem));
  }
  n.set(l.where(c, x, y));
}

void lower_clip(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  double low = n.real("min", -INFINITY), high = n.real("max", INFINITY);
  if (v.elem != Elem::kFloat || (n.has(1) && !n.in(1).is_constant()) || (n.has(2) && !n.in(2).is_constant())) {
    Value out = v;
    const bool is_float = v.elem == Elem::kFloat;
    if (n.has(1))
      out =
          is_float ? l.binary(BinaryKind::max, out, n.in(1)) : l.arithmetic(ArithmeticKind::max, out, n.in(1), v.elem);
    if (n.has(2))
      out =
          is_float ? l.binary(BinaryKind::min, out, n.in(2)) : l.arithmetic(ArithmeticKind::min, out, n.in(2), v.elem);
    return n.set(out);
  }
  if (n.has(1)) low = double(n.known_number(1, "min"));
  if (n.has(2)) high = double(n.known_number(2, "max"));
  if (auto* conv = open_convolution(l, n.raw().inputs[0], 1)) {
    conv->least = float(low);
    conv->most = float(high);
    return n.set(v);
  }
  n.set(l.math(MathKind::clip, v, low, high));
}

// Functions that are made of others.
void lower_composed(Lowering& l, const Node& n) {
  const Value x = n.in(0);
  const auto mul = [&](const Value& a, const Value& b) { return l.binary(BinaryKind::mul, a, b); };
  if (n.op() == "Reciprocal") return n.set(l.binary(BinaryKind::div, Lowering::scalar(1), x));
  if (n.op() == "Gelu")
    return n.set(l.unary(n.text("approximate", "none") == "tanh" ? UnaryKind::gelu_tanh : UnaryKind::gelu, x));
  if (n.op() == "Selu") {
    const double alpha = n.real("alpha", 1.67326319217681884765625), gamma = n.real("gamma", 1.05070102214813232421875);
    return n.set(l.unary(UnaryKind::scale, l.math(MathKind::elu, x, alpha), float(gamma)));
  }
  if (n.op() == "Celu") {
    const float alpha = float(n.real("alpha", 1));
    const Value inner = l.math(MathKind::elu, l.unary(UnaryKind::scale, x, 1 / alpha), 1);
    return n.set(l.unary(UnaryKind::scale, inner, alpha));
  }
  if (n.op() == "Softsign")
    return n.set(
        l.binary(BinaryKind::div, x, l.binary(BinaryKind::add, l.unary(UnaryKind::abs, x), Lowering::scalar(1))));
  if (n.op() == "Mish") return n.set(mul(x, l.unary(UnaryKind::tanh, l.unary(UnaryKind::softplus, x))));
  if (n.op() == "Swish") {
    const float alpha = float(n.real("alpha", 1));
    return n.set(alpha == 1 ? l.unary(UnaryKind::silu, x)
                            : mul(x, l.unary(UnaryKind::sigmoid, l.unary(UnaryKind::scale, x, alpha))));
  }
  if (n.op() == "ThresholdedRelu") {
    const Value seen = l.arithmetic(ArithmeticKind::less, Lowering::scalar(float(n.real("alpha", 1))), x, Elem::kBool);
    return n.set(l.where(seen, x, Lowering::scalar(0)));
  }
  if (n.op() == "PRelu") {
    const Value zero = Lowering::scalar(0);
    return n.set(l.binary(BinaryKind::add, l.binary(BinaryKind::max, x, zero),
                          mul(n.in(1), l.binary(BinaryKind::min, x, zero))));
  }
  if (n.op() == "IsNaN") return n.set(l.arithmetic(ArithmeticKind::unequal, x, x, Elem::kBool));
  // IsInf
  const bool up = n.integer("detect_positive", 1), down = n.integer("detect_negative", 1);
  const Value value = up && down ? l.unary(UnaryKind::abs, x) : x;
  n.set(l.arithmetic(ArithmeticKind::equal, value, Lowering::scalar(up ? INFINITY : -INFINITY), Elem::kBool));
}

}  // namespace runnel::convert
