// Elements and rows by numbers: gathered, or put into a value. The numbers become those of rows of a flat value.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;

constexpr int64_t kMostPlaces = int64_t(1) << 22;  // of a table of the file

Value integers(Lowering& l, ArithmeticKind kind, const Value& a, const Value& b) {
  return l.arithmetic(kind, a, b, Elem::kInt);
}

// Elements from one step of each axis to the next.
std::vector<int64_t> steps_of(Lowering& l, const Value& v) {
  const std::vector<int64_t> dims = l.known_shape(v, "the value");
  std::vector<int64_t> steps(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) steps[i - 1] = steps[i] * dims[i];
  return steps;
}

// Numbers along an axis of `size`, those from behind counted from the front, times `step`.
Value places(Lowering& l, const Value& ids, const Size& size, int64_t step) {
  const Value front = integers(l, ArithmeticKind::mod, ids, Lowering::ints({size}, {}));
  return step == 1 ? front : integers(l, ArithmeticKind::mul, front, Lowering::ints({step}, {}));
}

// Where the elements that ids name along one axis stand in the flat value: the other axes are where the id stands.
Value element_ids(Lowering& l, const Value& x, const Value& ids, int64_t given) {
  const int64_t axis = given < 0 ? given + x.rank() : given;
  if (axis < 0 || axis >= x.rank() || ids.rank() != x.rank() || ids.elem == Elem::kFloat)
    fail("ids %s along axis %lld of %s", text(ids.shape).c_str(), static_cast<long long>(given), text(x.shape).c_str());
  const std::vector<int64_t> steps = steps_of(l, x), dims = l.known_shape(ids, "the ids");
  const int64_t count = product(ids.shape).constant();
  if (count > kMostPlaces) fail("%lld ids", static_cast<long long>(count));
  Sizes base;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, at = 0;
    for (size_t d = dims.size(); d-- > 0; rest /= dims[d])
      if (int64_t(d) != axis) at += rest % dims[d] * steps[d];
    base.push_back(at);
  }
  const Value along = places(l, l.plain(ids), x.shape[size_t(axis)], steps[size_t(axis)]);
  return integers(l, ArithmeticKind::add, along, Lowering::ints(std::move(base), ids.shape));
}

// Rows of x [axes that ids name, row] by tuples of ids, with the first `batch` axes those of the ids themselves.
// Gives the ids of rows; axes: how many of x they name, batch among them.
Value row_ids(Lowering& l, const Value& x, const Value& ids, int64_t batch, size_t* axes) {
  if (ids.rank() < 1 || ids.elem == Elem::kFloat || !ids.shape.back().is_constant())
    fail("ids %s of %s", text(ids.shape).c_str(), text(x.shape).c_str());
  const int64_t width = ids.shape.back().constant();
  if (batch < 0 || width < 1 || batch + width > x.rank() || batch >= ids.rank())
    fail("ids %s of %s", text(ids.shape).c_str(), text(x.shape).c_str());
  *axes = size_t(batch + width);
  Value named = x;
  named.shape.resize(*axes);
  const std::vector<int64_t> steps = steps_of(l, named);
  const Value s = l.plain(ids);
  const Sizes shape(ids.shape.begin(), ids.shape.end() - 1);
  Value sum;
  for (int64_t i = 0; i < width; ++i) {
    format::SliceAttrsT attrs;
    attrs.axis = uint8_t(ids.rank() - 1), attrs.begin = i;
    Sizes one = ids.shape;
    one.back() = 1;
    const size_t at = size_t(batch + i);
    const Value v = places(l, l.reshape(l.emit("slice", {s}, one, attrs, Elem::kInt), shape), x.shape[at], steps[at]);
    sum = i == 0 ? v : integers(l, ArithmeticKind::add, sum, v);
  }
  if (batch == 0) return sum;
  const std::vector<int64_t> dims = l.known_shape(ids, "the ids");
  const int64_t count = product(shape).constant();
  if (count > kMostPlaces) fail("%lld ids", static_cast<long long>(count));
  Sizes base;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, at = 0;
    for (size_t d = dims.size() - 1; d-- > 0; rest /= dims[d])
      if (int64_t(d) < batch) at += rest % dims[d] * steps[d];
    base.push_back(at);
  }
  return integers(l, ArithmeticKind::add, sum, Lowering::ints(std::move(base), shape));
}

Value gathered(Lowering& l, const Value& rows, const Value& ids) {
  Sizes shape = ids.shape;
  shape.insert(shape.end(), rows.shape.begin() + 1, rows.shape.end());
  return l.emit("gather", {rows, l.plain(ids)}, shape, format::GatherAttrsT(), rows.elem);
}

Value scattered(Lowering& l, const Node& n, const Value& rows, const Value& ids, const Value& updates) {
  static const std::map<std::string, format::ScatterKind> kKinds = {{"none", format::ScatterKind::set},
                                                                    {"add", format::ScatterKind::add},
                                                                    {"mul", format::ScatterKind::mul},
                                                                    {"max", format::ScatterKind::max},
                                                                    {"min", format::ScatterKind::min}};
  const auto kind = kKinds.find(n.text("reduction", "none"));
  if (kind == kKinds.end()) fail("reduction \"%s\"", printable(n.text("reduction", "")).c_str());
  format::ScatterAttrsT attrs;
  attrs.kind = kind->second;
  return l.emit("scatter", {rows, ids, updates}, rows.shape, attrs, rows.elem);
}

}  // namespace

void lower_gather_elements(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &ids = n.in(1);
  const int64_t given = n.integer("axis", 0), axis = given < 0 ? given + x.rank() : given;
  // Where the other axes are 1, which all ids share, this is a look-up along the one axis.
  if (axis >= 0 && axis < x.rank() && ids.rank() == x.rank() && product(x.shape) == x.shape[size_t(axis)])
    return n.set(gathered(l, l.reshape(x, {x.shape[size_t(axis)]}), ids));
  n.set(gathered(l, l.reshape(l.plain(x), {product(x.shape)}), element_ids(l, x, ids, given)));
}

void lower_gather_nd(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &ids = n.in(1);
  size_t axes = 0;
  const Value rows = row_ids(l, x, ids, n.integer("batch_dims", 0), &axes);
  const Sizes row(x.shape.begin() + long(axes), x.shape.end());
  Sizes shape = rows.shape, flat = {product(Sizes(x.shape.begin(), x.shape.begin() + long(axes)))};
  shape.insert(shape.end(), row.begin(), row.end());
  flat.push_back(product(row));
  n.set(l.reshape(gathered(l, l.reshape(l.plain(x), flat), rows), shape));
}

void lower_scatter_elements(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &ids = n.in(1);
  const Value flat = l.reshape(element_ids(l, x, ids, n.integer("axis", 0)), {product(ids.shape)});
  const Value updates = l.reshape(l.plain(n.in(2)), {product(n.in(2).shape)});
  n.set(l.reshape(scattered(l, n, l.reshape(l.plain(x), {product(x.shape)}), flat, updates), x.shape));
}

void lower_scatter_nd(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  size_t axes = 0;
  const Value ids = row_ids(l, x, n.in(1), 0, &axes);
  const Size count = product(ids.shape), row = product(Sizes(x.shape.begin() + long(axes), x.shape.end()));
  const Size rows = product(Sizes(x.shape.begin(), x.shape.begin() + long(axes)));
  const Value y = scattered(l, n, l.reshape(l.plain(x), {rows, row}), l.reshape(ids, {count}),
                            l.reshape(l.plain(n.in(2)), {count, row}));
  n.set(l.reshape(y, x.shape));
}

}  // namespace runnel::convert
