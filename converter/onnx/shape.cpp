// Shapes, and values that are moved without being changed.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

// Element numbers of a known value along one axis: [outer][axis][inner].
struct Strides {
  int64_t outer = 1, size, inner = 1;
};
Strides strides_of(const Sizes& shape, int axis) {
  Strides s;
  for (int i = 0; i < int(shape.size()); ++i) {
    const int64_t d = shape[size_t(i)].constant();
    if (i < axis) s.outer *= d;
    else if (i == axis) s.size = d;
    else s.inner *= d;
  }
  return s;
}

// Known sizes picked along an axis.
Value picked(const Value& v, int axis, const std::vector<int64_t>& rows, const Sizes& shape) {
  const Strides s = strides_of(v.shape, axis);
  Sizes list;
  for (int64_t o = 0; o < s.outer; ++o)
    for (int64_t r : rows) {
      if (r < 0 || r >= s.size)
        fail("index %lld of an axis of %lld", static_cast<long long>(r), static_cast<long long>(s.size));
      for (int64_t i = 0; i < s.inner; ++i) list.push_back((*v.ints)[size_t((o * s.size + r) * s.inner + i)]);
    }
  return Lowering::ints(std::move(list), shape, v.elem);
}

}  // namespace

// begin may hang on the call where the rest behind the piece does not.
Value piece(Lowering& l, const Value& v, int axis, const Size& begin, const Size& count) {
  const Size& all = v.shape[size_t(axis)];
  if (begin.is(0) && count == all) return v;
  const bool is_fixed = begin.is_constant() && count.is_constant();
  if (v.ints && !is_fixed && !v.is_constant()) fail("a piece of sizes hangs on the call");
  if (v.ints && is_fixed) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < count.constant(); ++i) rows.push_back(begin.constant() + i);
    Sizes shape = v.shape;
    shape[size_t(axis)] = count;
    return picked(v, axis, rows, shape);
  }
  if (all.is_constant()) l.limit(begin + count, all.constant());
  format::SliceAttrsT attrs;
  const Value s = l.stored(v);
  const int at = v.is_known() ? axis : v.perm[size_t(axis)];
  attrs.axis = uint8_t(at);
  const Size behind = begin - all;
  if (begin.is_constant()) attrs.begin = begin.constant();
  else if (behind.is_constant()) attrs.begin = behind.constant();
  else fail("a piece begins where the call says: %s of %s", begin.text().c_str(), all.text().c_str());
  Sizes shape = s.shape;
  shape[size_t(at)] = count;
  return l.labelled(l.emit("slice", {s}, shape, attrs, v.elem), v.order());
}

Value looked_up(Lowering& l, const Value& v, int axis, const Value& rows) {
  Sizes shape(v.shape.begin(), v.shape.begin() + axis);
  shape.insert(shape.end(), rows.shape.begin(), rows.shape.end());
  shape.insert(shape.end(), v.shape.begin() + axis + 1, v.shape.end());
  format::GatherAttrsT attrs;
  attrs.axis = uint8_t(axis);
  return l.emit("gather", {l.plain(v), l.plain(rows)}, shape, attrs, v.elem);
}

void lower_constant(Lowering& l, const Node& n) {
  if (n.has_attribute("value_float")) return n.set(Lowering::scalar(float(n.real("value_float", 0))));
  if (n.has_attribute("value_int")) return n.set(Lowering::ints({n.integer("value_int", 0)}, {}));
  if (const OnnxAttribute* a = n.attribute("value_floats", OnnxKind::kFloats))
    return n.set(Lowering::floats(a->floats, {int64_t(a->floats.size())}));
  if (n.has_attribute("value_ints")) {
    Sizes list;
    for (int64_t v : n.integers("value_ints")) list.push_back(v);
    const int64_t count = int64_t(list.size());
    return n.set(Lowering::ints(std::move(list), {count}));
  }
  const OnnxAttribute* a = n.attribute("value", OnnxKind::kTensor);
  if (!a || !a->tensor) fail("of a kind that is not supported");
  n.set(l.tensor_value(*a->tensor));
}

void lower_identity(Lowering&, const Node& n) { n.set(n.in(0)); }

void lower_shape(Lowering&, const Node& n) {
  const Value& v = n.in(0);
  const int64_t rank = v.rank();
  const auto clamped = [rank](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const int64_t begin = clamped(n.integer("start", 0)), end = std::max(begin, clamped(n.integer("end", rank)));
  n.set(Lowering::ints(Sizes(v.shape.begin() + begin, v.shape.begin() + end), {end - begin}));
}

void lower_size(Lowering&, const Node& n) { n.set(Lowering::ints({product(n.in(0).shape)}, {})); }

void lower_reshape(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  Sizes shape = n.known_sizes(1, "the axes of the shape");
  Size rest = 1;
  int open = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i].is(0) && !n.integer("allowzero", 0)) {
      if (i >= v.shape.size()) fail("axis %zu of the shape is that of a value without it", i);
      shape[i] = v.shape[i];
    }
    if (shape[i].is(-1)) {
      if (open >= 0) fail("two axes of the shape are -1");
      open = int(i);
    } else {
      rest = rest * shape[i];
    }
  }
  if (open >= 0) {
    const auto left = product(v.shape).divided_by(rest);
    if (!left) fail("%s is not divided by %s", text(v.shape).c_str(), rest.text().c_str());
    shape[size_t(open)] = *left;
  }
  n.set(l.reshape(v, shape));
}

void lower_flatten(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const int64_t given = n.integer("axis", 1), axis = given < 0 ? given + v.rank() : given;
  if (axis < 0 || axis > v.rank()) fail("axis %lld of a value of %d axes", static_cast<long long>(given), v.rank());
  n.set(l.reshape(v, {product(Sizes(v.shape.begin(), v.shape.begin() + axis)),
                      product(Sizes(v.shape.begin() + axis, v.shape.end()))}));
}

void lower_squeeze(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  std::vector<bool> gone(size_t(v.rank()), false);
  if (n.has_integers("axes", 1))
    for (int64_t a : n.integers_of("axes", 1)) gone[size_t(axis_of(a, v.rank()))] = true;
  else
    for (size_t i = 0; i < gone.size(); ++i) gone[i] = v.shape[i].is(1);
  Sizes shape;
  for (size_t i = 0; i < gone.size(); ++i)
    if (!gone[i]) shape.push_back(v.shape[i]);
  n.set(l.reshape(v, shape));
}

void lower_unsqueeze(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const std::vector<int64_t> axes = n.integers_of("axes", 1);
  const int rank = v.rank() + int(axes.size());
  std::vector<bool> added(size_t(rank), false);
  for (int64_t a : axes) added[size_t(axis_of(a, rank))] = true;
  Sizes shape;
  size_t next = 0;
  for (bool is_new : added) {
    if (!is_new && next == v.shape.size()) fail("axes stand twice in its list");
    shape.push_back(is_new ? Size(1) : v.shape[next++]);
  }
  n.set(l.reshape(v, shape));
}

void lower_transpose(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  std::vector<int64_t> given = n.integers("perm");
  if (given.empty())
    for (int i = v.rank() - 1; i >= 0; --i) given.push_back(i);
  Perm perm;
  std::vector<bool> seen(size_t(v.rank()), false);
  for (int64_t a : given) {
    perm.push_back(axis_of(a, v.rank()));
    if (seen[size_t(perm.back())]) fail("perm names an axis twice");
    seen[size_t(perm.back())] = true;
  }
  if (perm.size() != seen.size()) fail("perm has %zu axes but the value %zu", perm.size(), seen.size());
  n.set(l.transpose(v, perm));
}

Value joined(Lowering& l, std::vector<Value> parts, int axis) {
  Sizes shape = parts[0].shape;
  bool all_sizes = true;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].rank() != int(shape.size()))
      fail("shapes %s and %s are joined", text(shape).c_str(), text(parts[i].shape).c_str());
    if (i) shape[size_t(axis)] = shape[size_t(axis)] + parts[i].shape[size_t(axis)];
    all_sizes = all_sizes && parts[i].ints;
  }
  if (parts.size() == 1) return parts[0];
  if (all_sizes && axis == 0) {
    Sizes list;
    for (const Value& v : parts) list.insert(list.end(), v.ints->begin(), v.ints->end());
    return Lowering::ints(std::move(list), shape, parts[0].elem);
  }
  Perm perm = identity(parts[0].rank());
  for (const Value& v : parts)
    if (!v.is_known()) {
      perm = v.perm;
      break;
    }
  const int at = perm[size_t(axis)];
  for (Value& v : parts) v = l.stored_in(v, perm);
  constexpr size_t kMost = 16;  // of the operator
  while (parts.size() > 1) {
    std::vector<Value> fewer;
    for (size_t i = 0; i < parts.size(); i += kMost) {
      const std::vector<Value> some(parts.begin() + long(i), parts.begin() + long(std::min(parts.size(), i + kMost)));
      Sizes together = some[0].shape;
      for (size_t k = 1; k < some.size(); ++k) together[size_t(at)] = together[size_t(at)] + some[k].shape[size_t(at)];
      format::ConcatAttrsT attrs;
      attrs.axis = uint8_t(at);
      fewer.push_back(some.size() == 1 ? some[0] : l.emit("concat", some, together, attrs, some[0].elem));
    }
    parts = std::move(fewer);
  }
  return l.labelled(parts[0], perm);
}

void lower_concat(Lowering& l, const Node& n) {
  std::vector<Value> parts;
  for (size_t i = 0; i < n.inputs(); ++i) {
    const Value& v = n.in(i);
    if (v.rank() > 0 && product(v.shape).is(0) && n.inputs() > 1) continue;  // nothing
    parts.push_back(v);
  }
  if (parts.empty()) return n.set(n.in(0));
  const int axis = axis_of(n.integer("axis", 0), parts[0].rank());
  n.set(joined(l, std::move(parts), axis));
}

void lower_split(Lowering& l, const Node& n) {
  const Value v = n.in(0);
  const int axis = axis_of(n.integer("axis", 0), v.rank());
  const Size all = v.shape[size_t(axis)];
  Sizes parts;
  if (n.has_attribute("split"))
    for (int64_t p : n.integers("split")) parts.push_back(p);
  else if (n.has(1)) parts = n.known_sizes(1, "the parts");
  if (parts.empty()) {
    const int64_t count = n.integer("num_outputs", int64_t(n.outputs()));
    const Size each = all.ceildiv(count);
    parts.assign(size_t(std::max<int64_t>(count - 1, 0)), each);
    parts.push_back(all - each * Size(count - 1));
  }
  if (parts.size() < n.outputs()) fail("%zu parts for %zu outputs", parts.size(), n.outputs());
  Size begin = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (n.wants(i)) n.set(i, piece(l, v, axis, begin, parts[i]));
    begin = begin + parts[i];
  }
  if (!(begin == all)) fail("the parts have %s together, the axis %s", begin.text().c_str(), all.text().c_str());
}

namespace {

// A bound of a slice as a place on the axis, between 0 and its size (-1 and size - 1 backwards).
Size place(const Size& given, const Size& size, bool is_backwards) {
  if (!given.is_constant()) return given;
  int64_t c = given.constant();
  if (size.is_constant()) {
    const int64_t n = size.constant(), low = is_backwards ? -1 : 0, high = is_backwards ? n - 1 : n;
    return std::clamp(c < 0 ? (c < -n ? low : c + n) : c, low, high);
  }
  if (c >= INT32_MAX) return is_backwards ? size - 1 : size;
  if (c <= INT32_MIN) return is_backwards ? -1 : 0;
  return c < 0 ? size + Size(c) : Size(c);
}

}  // namespace

void lower_slice(Lowering& l, const Node& n) {
  Value v = n.in(0);
  const bool is_old = n.has_attribute("starts");
  Sizes starts, ends;
  std::vector<int64_t> axes, steps;
  if (is_old) {
    for (int64_t s : n.integers("starts")) starts.push_back(s);
    for (int64_t s : n.integers("ends")) ends.push_back(s);
    axes = n.integers("axes");
  } else {
    starts = n.known_sizes(1, "the beginnings"), ends = n.known_sizes(2, "the ends");
    if (n.has(3)) axes = n.known_integers(3, "axes");
    if (n.has(4)) steps = n.known_integers(4, "steps");
  }
  if (axes.empty())
    for (size_t i = 0; i < starts.size(); ++i) axes.push_back(int64_t(i));
  if (steps.empty()) steps.assign(axes.size(), 1);
  if (starts.size() != axes.size() || ends.size() != axes.size() || steps.size() != axes.size())
    fail("its lists have different lengths");
  for (size_t i = 0; i < axes.size(); ++i) {
    const int axis = axis_of(axes[i], v.rank());
    const Size all = v.shape[size_t(axis)];
    const int64_t step = steps[i];
    if (step == 0) fail("a step of 0");
    const Size begin = place(starts[i], all, step < 0);
    Size end = place(ends[i], all, step < 0);
    if (step == 1) {
      if (!all.is_constant() && end.is_constant() && !begin.is_constant())
        fail("a piece from %s to %s", begin.text().c_str(), end.text().c_str());
      if (!all.is_constant() && end.is_constant()) end = end.min(all);
      Size count = end - begin;
      if (count.is_constant()) count = std::max<int64_t>(count.constant(), 0);
      v = piece(l, v, axis, count.is(0) ? Size(0) : begin, count);
      continue;
    }
    if (!all.is_constant() || !begin.is_constant() || !end.is_constant())
      fail("steps of %lld along an axis of the call", static_cast<long long>(step));
    std::vector<int64_t> rows;
    for (int64_t r = begin.constant(); step > 0 ? r < end.constant() : r > end.constant(); r += step) rows.push_back(r);
    Sizes shape = v.shape;
    shape[size_t(axis)] = int64_t(rows.size());
    if (v.ints) {
      v = picked(v, axis, rows, shape);
      continue;
    }
    v = looked_up(l, v, axis, Lowering::ints(Sizes(rows.begin(), rows.end()), {int64_t(rows.size())}));
  }
  n.set(v);
}

void lower_gather(Lowering& l, const Node& n) {
  const Value &v = n.in(0), &rows = n.in(1);
  const int axis = axis_of(n.integer("axis", 0), v.rank());
  const Size& size = v.shape[size_t(axis)];
  if (rows.ints && rows.is_constant() && (v.ints || rows.rank() == 0)) {
    std::vector<int64_t> list;
    for (const Size& s : *rows.ints) {
      if (s.constant() < 0 && !size.is_constant() && v.ints) fail("an index from behind of an axis of the call");
      list.push_back(s.constant() < 0 && size.is_constant() ? s.constant() + size.constant() : s.constant());
    }
    Sizes shape(v.shape.begin(), v.shape.begin() + axis);
    shape.insert(shape.end(), rows.shape.begin(), rows.shape.end());
    shape.insert(shape.end(), v.shape.begin() + axis + 1, v.shape.end());
    if (v.ints) return n.set(picked(v, axis, list, shape));
    return n.set(l.reshape(piece(l, v, axis, list[0] < 0 ? size + Size(list[0]) : Size(list[0]), 1), shape));
  }
  if (axis == 0 && v.rank() == 2 && v.is_constant() && v.elem == Elem::kFloat && rows.elem == Elem::kInt &&
      !rows.is_known() && size.constant() > 1) {
    // A table that ids look up, stored as other matrices are.
    const std::vector<int64_t> dims = l.known_shape(v, "the table");
    Sizes shape = rows.shape;
    shape.push_back(dims[1]);
    return n.set(l.emit("embedding", {l.plain(rows), Lowering::packed(l.matrix(v, dims[0], dims[1], dims[1], 1))},
                        shape, format::EmbeddingAttrsT()));
  }
  n.set(looked_up(l, v, axis, rows));
}

void lower_expand(Lowering& l, const Node& n) { n.set(l.expand(n.in(0), n.known_sizes(1, "the axes of the shape"))); }

void lower_tile(Lowering& l, const Node& n) {
  Value v = l.plain(n.in(0));
  const Sizes times = n.known_sizes(1, "the repeats");
  if (int(times.size()) != v.rank()) fail("%zu repeats of %d axes", times.size(), v.rank());
  for (size_t i = 0; i < times.size(); ++i) {
    if (times[i].is(1)) continue;
    const Sizes whole = v.shape;
    const Size outer = product(Sizes(whole.begin(), whole.begin() + long(i))),
               inner = product(Sizes(whole.begin() + long(i), whole.end()));
    const Value wide = l.expand(l.reshape(v, {outer, 1, inner}), {outer, times[i], inner});
    Sizes shape = whole;
    shape[i] = shape[i] * times[i];
    v = l.reshape(wide, shape);
  }
  n.set(v);
}

void lower_constant_of_shape(Lowering& l, const Node& n) {
  const Sizes& shape = n.known_sizes(0, "the axes of the shape");
  const OnnxAttribute* a = n.attribute("value", OnnxKind::kTensor);
  Value one = Lowering::scalar(0);
  if (a && !a->tensor) fail("of a kind that is not supported");
  if (a) one = l.reshape(l.tensor_value(*a->tensor), {});
  n.set(l.expand(one, shape));
}

Value with_size(Lowering& l, format::ArithmeticKind kind, const Value& a, const Size& b) {
  const bool changes = !b.is(1) || (kind != format::ArithmeticKind::div && kind != format::ArithmeticKind::mul);
  return changes ? l.arithmetic(kind, a, Lowering::ints({b}, {}), Elem::kInt) : a;
}

Value counted(Lowering& l, const Size& begin, const Size& count, int64_t step, Elem elem) {
  if (count.is_constant() && count.constant() <= 65536) {
    Sizes list;
    for (int64_t i = 0; i < count.constant(); ++i) list.push_back(begin + Size(i * step));
    const int64_t n = int64_t(list.size());
    return Lowering::ints(std::move(list), {n}, elem);
  }
  format::IndexAttrsT attrs;
  attrs.step = float(step);
  if (begin.is_constant()) attrs.begin = float(begin.constant());
  const Value steps = l.emit("index", {}, {count}, attrs, elem);
  return begin.is_constant()
             ? steps
             : l.arithmetic(format::ArithmeticKind::add, steps, Lowering::ints({begin}, {}, elem), elem);
}

void lower_range(Lowering& l, const Node& n) {
  const Value &first = n.in(0), &limit = n.in(1), &step = n.in(2);
  const auto a = l.sizes_of(first), b = l.sizes_of(limit), c = l.sizes_of(step);
  if (!a || !b || !c || !(*c)[0].is_constant() || (*c)[0].is(0))
    fail("its bounds hang on what the graph computes, or are not whole");
  const int64_t by = (*c)[0].constant();
  const Size begin = (*a)[0], end = (*b)[0], count = by > 0 ? (end - begin).ceildiv(by) : (begin - end).ceildiv(-by);
  n.set(counted(l, begin, count, by, first.elem));
}

void lower_pad(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const std::string mode = n.text("mode", "constant");
  std::vector<int64_t> pads = n.integers_of("pads", 1), axes;
  if (n.has(3)) axes = n.known_integers(3, "axes");
  if (axes.empty())
    for (int i = 0; i < v.rank(); ++i) axes.push_back(i);
  if (pads.size() != 2 * axes.size()) fail("%zu pads of %zu axes", pads.size(), axes.size());
  format::PadAttrsT attrs;
  attrs.kind = mode == "constant"  ? format::PadKind::constant
               : mode == "edge"    ? format::PadKind::edge
               : mode == "reflect" ? format::PadKind::reflect
                                   : format::PadKind::wrap;
  if (attrs.kind == format::PadKind::wrap && mode != "wrap") fail("mode \"%s\"", printable(mode).c_str());
  attrs.value = float(n.real("value", 0));
  if (n.has(2)) attrs.value = n.known_number(2, "the value");
  const Value s = l.stored(v);
  const Perm perm = v.order();
  Sizes shape = s.shape;
  attrs.begin.assign(size_t(v.rank()), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t at = size_t(perm[size_t(axis_of(axes[i], v.rank()))]);
    attrs.begin[at] = int32_t(pads[i]);
    shape[at] = shape[at] + Size(pads[i]) + Size(pads[i + axes.size()]);
  }
  if (shape == s.shape && std::all_of(attrs.begin.begin(), attrs.begin.end(), [](int32_t b) { return b == 0; }))
    return n.set(v);
  n.set(l.labelled(l.emit("pad", {s}, shape, attrs, v.elem), perm));
}

}  // namespace runnel::convert
