// What is taken over axes.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::ReduceKind;
using format::UnaryKind;

}  // namespace

// Axes that stand together in the program become one, which is then taken.
Value reduced(Lowering& l, ReduceKind kind, const Value& v, const std::vector<bool>& gone) {
  Value s = l.stored(v);
  const Perm order = v.order();
  std::vector<bool> taken(gone.size());
  for (size_t i = 0; i < gone.size(); ++i) taken[size_t(order[i])] = gone[i];
  Sizes merged;
  std::vector<size_t> axes;
  for (size_t i = 0; i < taken.size(); ++i) {
    if (taken[i] && i && taken[i - 1]) {
      merged.back() = merged.back() * s.shape[i];
      continue;
    }
    if (taken[i]) axes.push_back(merged.size());
    merged.push_back(s.shape[i]);
  }
  s = l.reshape(s, merged);
  for (size_t k = axes.size(); k-- > 0;) {
    format::ReduceAttrsT attrs;
    attrs.kind = kind;
    attrs.axis = uint8_t(axes[k]);
    merged.erase(merged.begin() + long(axes[k]));
    s = l.emit("reduce", {s}, merged, attrs);
  }
  // What is left keeps its order.
  Perm perm;
  for (size_t i = 0; i < gone.size(); ++i) {
    if (gone[i]) continue;
    perm.push_back(order[i] - int(std::count(taken.begin(), taken.begin() + order[i], true)));
  }
  return l.labelled(s, perm);
}

void lower_reduce(Lowering& l, const Node& n) {
  const Value& given = n.in(0);
  std::vector<bool> gone(size_t(given.rank()), false);
  std::vector<int64_t> axes = n.integers_of("axes", 1);
  if (axes.empty() && n.integer("noop_with_empty_axes", 0)) return n.set(given);
  if (axes.empty()) gone.assign(gone.size(), true);
  for (int64_t a : axes) gone[size_t(axis_of(a, given.rank()))] = true;
  Sizes kept;
  for (size_t i = 0; i < gone.size(); ++i)
    if (!gone[i]) kept.push_back(given.shape[i]);
    else if (n.integer("keepdims", 1)) kept.push_back(1);
  if (n.op() == "ReduceProd") {
    if (!given.ints || !std::all_of(gone.begin(), gone.end(), [](bool b) { return b; }))
      fail("of numbers that the graph computes");
    return n.set(Lowering::ints({product(*given.ints)}, kept, given.elem));
  }
  if (std::none_of(gone.begin(), gone.end(), [](bool b) { return b; })) return n.set(given);
  const Value v = l.cast(given, Elem::kFloat);
  Value y;
  const std::string& op = n.op();
  const auto sum = [&](const Value& x) { return reduced(l, ReduceKind::sum, x, gone); };
  if (op == "ReduceSum") y = sum(v);
  else if (op == "ReduceMean") y = reduced(l, ReduceKind::mean, v, gone);
  else if (op == "ReduceMax") y = reduced(l, ReduceKind::max, v, gone);
  else if (op == "ReduceMin") y = reduced(l, ReduceKind::min, v, gone);
  else if (op == "ReduceL1") y = sum(l.unary(UnaryKind::abs, v));
  else if (op == "ReduceL2") y = l.unary(UnaryKind::sqrt, sum(l.unary(UnaryKind::square, v)));
  else if (op == "ReduceSumSquare") y = sum(l.unary(UnaryKind::square, v));
  else if (op == "ReduceLogSum") y = l.unary(UnaryKind::log, sum(v));
  else {  // ReduceLogSumExp
    const Value most = reduced(l, ReduceKind::max, v, gone);
    Sizes wide = given.shape;
    for (size_t i = 0; i < gone.size(); ++i)
      if (gone[i]) wide[i] = 1;
    const Value rest = l.unary(UnaryKind::exp, l.binary(BinaryKind::sub, v, l.reshape(most, wide)));
    y = l.binary(BinaryKind::add, most, l.unary(UnaryKind::log, sum(rest)));
  }
  n.set(l.cast(l.reshape(y, kept), given.elem));
}

namespace {

// The length over axes, or the sum of magnitudes.
Value length_of(Lowering& l, const Node& n, const Value& v, const std::vector<bool>& gone) {
  const int64_t p = n.integer("p", 2);
  if (p != 1 && p != 2) fail("p is %lld", static_cast<long long>(p));
  const Value sum = reduced(l, ReduceKind::sum, l.unary(p == 1 ? UnaryKind::abs : UnaryKind::square, v), gone);
  return p == 1 ? sum : l.unary(UnaryKind::sqrt, sum);
}

}  // namespace

// Along an axis that length becomes 1.
void lower_lp_norm(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  std::vector<bool> gone(size_t(v.rank()), false);
  const size_t axis = size_t(axis_of(n.integer("axis", -1), v.rank()));
  gone[axis] = true;
  Sizes wide = v.shape;
  wide[axis] = 1;
  const Value length = l.reshape(length_of(l, n, v, gone), wide);
  // What is 0 throughout stays 0.
  const Value divisor = l.where(l.cast(length, Elem::kBool), length, Lowering::scalar(1));
  n.set(l.binary(BinaryKind::div, v, divisor));
}

// Mean 0 and deviation 1 over axes.
void lower_mean_variance_norm(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  std::vector<bool> gone(size_t(v.rank()), false);
  Sizes wide = v.shape;
  for (int64_t a : n.integers("axes", {0, 2, 3})) {
    const size_t axis = size_t(axis_of(a, v.rank()));
    gone[axis] = true, wide[axis] = 1;
  }
  const Value mean = l.reshape(reduced(l, ReduceKind::mean, v, gone), wide), rest = l.binary(BinaryKind::sub, v, mean);
  const Value variance = l.reshape(reduced(l, ReduceKind::mean, l.unary(UnaryKind::square, rest), gone), wide);
  const Value deviation = l.binary(BinaryKind::add, l.unary(UnaryKind::sqrt, variance), Lowering::scalar(1e-9f));
  n.set(l.binary(BinaryKind::div, rest, deviation));
}

void lower_global_pool(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  if (v.rank() < 3) fail("of %s", text(v.shape).c_str());
  std::vector<bool> gone(size_t(v.rank()), true);
  gone[0] = gone[1] = false;
  Sizes kept(size_t(v.rank()), Size(1));
  kept[0] = v.shape[0], kept[1] = v.shape[1];
  if (n.op() == "GlobalLpPool") return n.set(l.reshape(length_of(l, n, v, gone), kept));
  n.set(l.reshape(reduced(l, n.op() == "GlobalMaxPool" ? ReduceKind::max : ReduceKind::mean, v, gone), kept));
}

Value softmax_of(Lowering& l, const Value& v) {
  const Value s = l.plain(v);
  return l.emit("softmax", {s}, s.shape, format::SoftmaxAttrsT());
}

void lower_softmax(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const bool is_old = n.opset() < 13;
  int64_t axis = n.integer("axis", is_old ? 1 : -1);
  if (axis < 0) axis += x.rank();
  if (axis < 0 || axis >= x.rank()) fail("along an axis that %s has not", text(x.shape).c_str());
  Value v = x;
  // Before opset 13 all axes from this one on are one.
  if (is_old && axis != x.rank() - 1)
    v = l.reshape(x, {product(Sizes(x.shape.begin(), x.shape.begin() + axis)),
                      product(Sizes(x.shape.begin() + axis, x.shape.end()))}),
    axis = 1;
  Perm perm = v.order();
  if (perm[size_t(axis)] != v.rank() - 1) {
    perm = identity(v.rank());
    for (int i = int(axis) + 1; i < v.rank(); ++i) perm[size_t(i)] = i - 1;
    perm[size_t(axis)] = v.rank() - 1;
  }
  Value y;
  if (n.op() == "Softmax") {
    const Value s = l.stored_in(v, perm);
    y = l.labelled(l.emit("softmax", {s}, s.shape, format::SoftmaxAttrsT()), perm);
  } else {
    std::vector<bool> gone(size_t(v.rank()), false);
    gone[size_t(axis)] = true;
    Sizes wide = v.shape;
    wide[size_t(axis)] = 1;
    const Value most = l.reshape(reduced(l, ReduceKind::max, v, gone), wide), low = l.binary(BinaryKind::sub, v, most);
    const Value total = l.reshape(reduced(l, ReduceKind::sum, l.unary(UnaryKind::exp, low), gone), wide);
    y = l.binary(BinaryKind::sub, low, l.unary(UnaryKind::log, total));
  }
  n.set(l.reshape(y, x.shape));
}

}  // namespace runnel::convert
