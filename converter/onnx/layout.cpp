// Orders of axes and shapes of values.
#include <algorithm>
#include <numeric>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

bool is_identity(const Perm& p) {
  for (size_t i = 0; i < p.size(); ++i)
    if (p[i] != int(i)) return false;
  return true;
}

format::TransposeAttrsT transpose_attrs(const Perm& p) {
  format::TransposeAttrsT attrs;
  for (int i : p) attrs.perm.push_back(uint8_t(i));
  return attrs;
}

// Axes of two shapes of as many elements that stand for the same ones: axes [a, b) of the first, [c, d) of the second.
struct Group {
  size_t a, b, c, d;
};
// Whether the shapes could be cut into such groups.
bool match(const Sizes& from, const Sizes& to, std::vector<Group>* groups) {
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    if (i < from.size() && from[i].is(1)) {
      ++i;
      continue;
    }
    if (j < to.size() && to[j].is(1)) {
      groups->push_back({i, i, j, j + 1});
      ++j;
      continue;
    }
    if (i == from.size() || j == to.size()) return false;
    Group g{i, i + 1, j, j + 1};
    Size x = from[i], y = to[j];
    while (!(x == y)) {
      const bool grow_from =
          x.is_constant() && y.is_constant() ? x.constant() < y.constant() : y.divided_by(x).has_value();
      if (!grow_from && !(x.is_constant() && y.is_constant()) && !x.divided_by(y)) return false;
      if (grow_from ? g.b == from.size() : g.d == to.size()) return false;
      if (grow_from) x = x * from[g.b++];
      else y = y * to[g.d++];
    }
    i = g.b, j = g.d;
    groups->push_back(g);
  }
  return true;
}

}  // namespace

Perm Value::order() const { return is_known() ? identity(rank()) : perm; }

int axis_of(int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) fail("axis %lld of a value of %d axes", static_cast<long long>(axis), rank);
  return int(axis < 0 ? axis + rank : axis);
}

Perm identity(int rank) {
  Perm p(size_t(rank), 0);
  std::iota(p.begin(), p.end(), 0);
  return p;
}

Sizes broadcast(const Sizes& a, const Sizes& b) {
  const size_t rank = std::max(a.size(), b.size());
  Sizes out;
  for (size_t i = 0; i < rank; ++i) {
    const Size m = i + a.size() < rank ? Size(1) : a[i + a.size() - rank],
               n = i + b.size() < rank ? Size(1) : b[i + b.size() - rank];
    if (m.is(1) || m == n) out.push_back(n);
    else if (n.is(1)) out.push_back(m);
    else fail("shapes %s and %s do not meet", text(a).c_str(), text(b).c_str());
  }
  return out;
}

Value Lowering::stored(const Value& v) const {
  if (v.is_known()) return v;
  Value out = v;
  for (int i = 0; i < v.rank(); ++i) out.shape[size_t(v.perm[size_t(i)])] = v.shape[size_t(i)];
  out.perm = identity(v.rank());
  return out;
}

Value Lowering::labelled(const Value& s, const Perm& perm) {
  if (s.is_known()) return transpose(s, perm);
  Value out = s;
  for (size_t i = 0; i < perm.size(); ++i) out.shape[i] = s.shape[size_t(perm[i])];
  out.perm = perm;
  return out;
}

Value Lowering::in_order(const Value& v, const Perm& wanted) {
  const Perm target = wanted.empty() ? identity(v.rank()) : wanted;
  if (v.is_known() || v.perm == target) return v;
  const Value s = stored(v);
  Perm move(target.size());
  Sizes shape(target.size());
  for (size_t i = 0; i < target.size(); ++i) {
    move[size_t(target[i])] = v.perm[i];
    shape[size_t(target[i])] = v.shape[i];
  }
  Perm wide;  // axes of more than one element
  for (int i : move)
    if (!s.shape[size_t(i)].is(1)) wide.push_back(i);
  if (std::is_sorted(wide.begin(), wide.end())) return labelled(emit("reshape", {s}, shape, v.elem), target);
  std::string& name = turned_[{v.name, move}];
  if (!find_value(*program_, name)) name = emit("transpose", {s}, shape, transpose_attrs(move), v.elem).name;
  Value out = s;
  out.shape = shape, out.name = name;
  return labelled(out, target);
}

bool Lowering::is_at_hand(const Value& v, const Perm& target) const {
  if (v.is_known() || v.perm == target) return true;
  Perm move(target.size()), wide;
  for (size_t i = 0; i < target.size(); ++i) move[size_t(target[i])] = v.perm[i];
  const Value s = stored(v);
  for (int i : move)
    if (!s.shape[size_t(i)].is(1)) wide.push_back(i);
  if (std::is_sorted(wide.begin(), wide.end())) return true;
  const auto it = turned_.find({v.name, move});
  return it != turned_.end() && find_value(*program_, it->second);
}

Value Lowering::stored_in(const Value& v, const Perm& perm) {
  if (!v.is_known()) return stored(in_order(v, perm));
  Perm back(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) back[size_t(perm[i])] = int(i);
  return is_identity(back) ? v : transpose(v, back);
}

Value Lowering::transpose(const Value& v, const Perm& perm) {
  if (is_identity(perm)) return v;
  Value out = v;
  for (size_t i = 0; i < perm.size(); ++i) out.shape[i] = v.shape[size_t(perm[i])];
  if (!v.is_known()) {
    for (size_t i = 0; i < perm.size(); ++i) out.perm[i] = v.perm[size_t(perm[i])];
    return out;
  }
  if (v.is_constant()) return emit("transpose", {v}, out.shape, transpose_attrs(perm), v.elem);
  fail("sizes of a call are transposed");
}

Value Lowering::reshape(const Value& v, const Sizes& shape) {
  if (v.shape == shape) return v;
  if (!(product(v.shape) == product(shape)))
    fail("%s cannot take the shape %s", text(v.shape).c_str(), text(shape).c_str());
  if (v.is_known()) {
    Value out = v;
    out.shape = shape;
    return out;
  }
  std::vector<Group> groups;
  if (is_identity(v.perm) || !match(v.shape, shape, &groups)) return emit("reshape", {plain(v)}, shape, v.elem);
  // Groups keep their places where the axes of each stand together in the program too.
  struct Place {
    int at;
    Group group;
  };
  std::vector<Place> places;
  for (const Group& g : groups) {
    int last = -1, first = -1;  // a group of a single element stands before all others: rows stay rows
    for (size_t i = g.a; i < g.b; ++i) {
      if (v.shape[i].is(1)) continue;
      const int at = v.perm[i];
      if (last >= 0) {
        bool is_next = at > last;
        for (int k = 0; k < v.rank(); ++k)
          if (v.perm[size_t(k)] > last && v.perm[size_t(k)] < at && !v.shape[size_t(k)].is(1)) is_next = false;
        if (!is_next) return emit("reshape", {plain(v)}, shape, v.elem);
      } else {
        first = at;
      }
      last = at;
    }
    places.push_back({first, g});
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.at < b.at; });
  Perm perm(shape.size());
  Sizes moved;
  for (const Place& p : places)
    for (size_t i = p.group.c; i < p.group.d; ++i) {
      perm[i] = int(moved.size());
      moved.push_back(shape[i]);
    }
  return labelled(emit("reshape", {stored(v)}, moved, v.elem), perm);
}

Lowering::Aligned Lowering::align(const std::vector<Value>& values) {
  Aligned out;
  int rank = 0;
  for (const Value& v : values) rank = std::max(rank, v.rank());
  out.perm = identity(rank);
  // The order of the widest value, or of another as wide when more of them are at hand in it.
  int64_t most = -1, best = -1;
  for (const Value& v : values) {
    const int64_t wide = std::count_if(v.shape.begin(), v.shape.end(), [](const Size& s) { return !s.is(1); });
    if (v.is_known() || v.rank() != rank || wide < most) continue;
    const int64_t near = std::count_if(values.begin(), values.end(), [&](const Value& other) {
      return other.rank() == rank && is_at_hand(other, v.perm);
    });
    if (wide == most && near <= best) continue;
    most = wide, best = near;
    out.perm = v.perm;
  }
  // A number alone needs no axes where something else has them.
  const auto is_number = [](const Value& v) { return v.is_known() && product(v.shape).is(1); };
  const bool has_axes =
      std::any_of(values.begin(), values.end(), [&](const Value& v) { return !is_number(v) && v.rank() == rank; });
  for (const Value& v : values) {
    Sizes shape(size_t(rank - v.rank()), Size(1));
    shape.insert(shape.end(), v.shape.begin(), v.shape.end());
    Value s = has_axes && is_number(v)            ? reshape(v, {})
              : is_identity(out.perm) && has_axes ? plain(v)
                                                  : stored_in(reshape(v, shape), out.perm);
    out.shape = broadcast(out.shape, s.shape);
    out.values.push_back(std::move(s));
  }
  return out;
}

Value Lowering::expand(const Value& v, const Sizes& wanted) {
  const Sizes shape = broadcast(v.shape, wanted);
  if (shape == v.shape) return v;
  if (product(v.shape) == product(shape)) return reshape(v, shape);
  if (v.ints && !v.is_constant()) {
    if (!product(v.shape).is(1)) fail("sizes of a call are spread over a shape");
    const Size n = product(shape);
    if (!n.is_constant() || n.constant() > 4096) fail("sizes of a call are spread over a shape");
    return ints(Sizes(size_t(n.constant()), (*v.ints)[0]), shape, v.elem);
  }
  return emit("expand", {plain(v)}, shape, v.elem);
}

}  // namespace runnel::convert
