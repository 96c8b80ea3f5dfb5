// The best along an axis, what is not 0, and running sums.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

// Two axes in each other's place.
Perm swapped(size_t a, size_t b, int rank) {
  Perm p = identity(rank);
  std::swap(p[a], p[b]);
  return p;
}

}  // namespace

Value places_of(Lowering& l, const Value& flags) {
  if (const auto known = flags.is_constant() ? l.sizes_of(l.cast(flags, Elem::kBool)) : nullptr) {
    Sizes ids;
    for (size_t i = 0; i < known->size(); ++i)
      if (!(*known)[i].is(0)) ids.push_back(int64_t(i));
    const int64_t count = int64_t(ids.size());
    return Lowering::ints(std::move(ids), {count});
  }
  const Value scores = l.plain(l.cast(l.cast(flags, Elem::kBool), Elem::kFloat));
  const Size count = l.result_size(scores.shape[0]);
  format::SelectTokensAttrsT attrs;
  attrs.threshold = 0.5f;
  const auto out = l.emit_all("select_tokens", {scores}, {{Elem::kInt, {count}}, {Elem::kInt, {1}}}, attrs);
  l.bind(out[1], count);
  return out[0];
}

std::vector<Value> best_along(Lowering& l, const Value& given, size_t axis, const Size& k, bool is_smallest,
                              bool is_last) {
  const Perm perm = swapped(axis, size_t(given.rank()) - 1, given.rank());
  const Value v = l.plain(l.transpose(l.cast(given, Elem::kFloat), perm));
  Sizes shape = v.shape;
  shape.back() = k;
  format::TopKAttrsT attrs;
  attrs.smallest = is_smallest, attrs.last = is_last;
  std::vector<Value> out = l.emit_all("top_k", {v}, {{Elem::kFloat, shape}, {Elem::kInt, shape}}, attrs);
  for (Value& o : out) o = l.transpose(o, perm);
  out[0] = l.cast(out[0], given.elem);
  return out;
}

void lower_top_k(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const size_t axis = size_t(axis_of(n.integer("axis", -1), v.rank()));
  const Sizes& k = n.known_sizes(1, "how many are taken");
  if (k.size() != 1) fail("k has %zu numbers", k.size());
  if (k[0].is_constant() && v.shape[axis].is_constant() &&
      (k[0].constant() < 0 || k[0].constant() > v.shape[axis].constant()))
    fail("the best %s of %s", k[0].text().c_str(), v.shape[axis].text().c_str());
  const std::vector<Value> out = best_along(l, v, axis, k[0], n.integer("largest", 1) == 0, false);
  for (size_t i = 0; i < 2; ++i)
    if (n.wants(i)) n.set(i, out[i]);
}

void lower_arg(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const size_t axis = size_t(axis_of(n.integer("axis", 0), v.rank()));
  const Value ids = best_along(l, v, axis, 1, n.op() == "ArgMin", n.integer("select_last_index", 0) != 0)[1];
  Sizes shape = v.shape;
  if (n.integer("keepdims", 1)) shape[axis] = 1;
  else shape.erase(shape.begin() + long(axis));
  n.set(l.reshape(ids, shape));
}

void lower_non_zero(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  if (x.rank() == 0) fail("of a number without axes");
  const Value ids = places_of(l, l.reshape(x, {product(x.shape)}));
  std::vector<Value> rows;
  for (size_t axis = 0; axis < x.shape.size(); ++axis) {
    Value at =
        with_size(l, format::ArithmeticKind::div, ids, product(Sizes(x.shape.begin() + long(axis) + 1, x.shape.end())));
    if (axis > 0) at = with_size(l, format::ArithmeticKind::mod, at, x.shape[axis]);
    rows.push_back(l.reshape(at, {1, ids.shape[0]}));
  }
  n.set(joined(l, std::move(rows), 0));
}

void lower_compress(Lowering& l, const Node& n) {
  const Value& given = n.in(0);
  const bool is_flat = !n.has_attribute("axis");
  const Value x = is_flat ? l.reshape(l.plain(given), {product(given.shape)}) : given;
  if (n.in(1).rank() != 1) fail("flags %s", text(n.in(1).shape).c_str());
  n.set(looked_up(l, x, is_flat ? 0 : axis_of(n.integer("axis", 0), x.rank()), places_of(l, n.in(1))));
}

void lower_cum_sum(Lowering& l, const Node& n) {
  const Value& given = n.in(0);
  // The axis in front, all others as channels.
  const Perm perm = swapped(0, size_t(axis_of(n.known_integer(1, "the axis"), given.rank())), given.rank());
  const Value v = l.plain(l.transpose(l.cast(given, Elem::kFloat), perm));
  const Value flat = l.reshape(v, {v.shape[0], product(Sizes(v.shape.begin() + 1, v.shape.end()))});
  format::ScanAttrsT attrs;
  attrs.reverse = n.integer("reverse", 0) != 0;
  Value y = l.emit("scan", {Value(), flat}, flat.shape, attrs);
  if (n.integer("exclusive", 0)) y = l.binary(format::BinaryKind::sub, y, flat);
  n.set(l.cast(l.transpose(l.reshape(y, v.shape), perm), given.elem));
}

}  // namespace runnel::convert
