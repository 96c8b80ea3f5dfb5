// Sequences of values. They are known while converting: which value stands where may not hang on what the graph
// computes, and none comes in or goes out.
#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

Value sequence_of(std::vector<Value> items) {
  Value v;
  v.items = std::make_shared<const std::vector<Value>>(std::move(items));
  return v;
}

// The place that input i says, counted from behind where it is negative, below `limit`.
size_t place_of(const Node& n, size_t i, size_t count, size_t limit) {
  const int64_t given = n.known_integer(i, "the place"), at = given < 0 ? given + int64_t(count) : given;
  if (at < 0 || at >= int64_t(limit)) fail("place %lld of a sequence of %zu", static_cast<long long>(given), count);
  return size_t(at);
}

}  // namespace

void lower_sequence_construct(Lowering&, const Node& n) {
  std::vector<Value> items;
  for (size_t i = 0; i < n.inputs(); ++i) items.push_back(n.in(i));
  n.set(sequence_of(std::move(items)));
}

void lower_sequence_insert(Lowering&, const Node& n) {
  std::vector<Value> items = n.sequence(0);
  const size_t at = n.has(2) ? place_of(n, 2, items.size(), items.size() + 1) : items.size();
  items.insert(items.begin() + long(at), n.in(1));
  n.set(sequence_of(std::move(items)));
}

void lower_sequence_erase(Lowering&, const Node& n) {
  std::vector<Value> items = n.sequence(0);
  if (items.empty()) fail("of an empty sequence");
  items.erase(items.begin() + long(n.has(1) ? place_of(n, 1, items.size(), items.size()) : items.size() - 1));
  n.set(sequence_of(std::move(items)));
}

void lower_sequence_at(Lowering&, const Node& n) {
  const std::vector<Value>& items = n.sequence(0);
  n.set(items[place_of(n, 1, items.size(), items.size())]);
}

void lower_sequence_length(Lowering&, const Node& n) { n.set(Lowering::ints({int64_t(n.sequence(0).size())}, {})); }

void lower_split_to_sequence(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const int axis = axis_of(n.integer("axis", 0), v.rank());
  const Size& all = v.shape[size_t(axis)];
  // Parts of one, whose axis goes unless it is kept; of one size; or of a size each.
  Sizes sizes;
  const bool is_list = n.has(1) && n.in(1).rank() == 1;
  if (is_list) {
    sizes = n.known_sizes(1, "the sizes");
    Size sum;
    for (const Size& s : sizes) sum = sum + s;
    if (!(sum == all)) fail("parts of %s in all of %s", sum.text().c_str(), all.text().c_str());
  } else {
    const int64_t each = n.has(1) ? n.known_integer(1, "the size") : 1;
    if (!all.is_constant()) fail("how many parts of %s there are would hang on the call", all.text().c_str());
    if (each < 1 || all.constant() / each > 65536) fail("parts of %lld", static_cast<long long>(each));
    for (int64_t at = 0; at < all.constant(); at += each) sizes.push_back(std::min(each, all.constant() - at));
  }
  std::vector<Value> items;
  Size begin;
  for (const Size& size : sizes) {
    Value part = piece(l, v, axis, begin, size);
    if (!n.has(1) && n.integer("keepdims", 1) == 0) {
      Sizes shape = part.shape;
      shape.erase(shape.begin() + axis);
      part = l.reshape(part, shape);
    }
    items.push_back(std::move(part));
    begin = begin + size;
  }
  n.set(sequence_of(std::move(items)));
}

void lower_concat_from_sequence(Lowering& l, const Node& n) {
  std::vector<Value> items = n.sequence(0);
  if (items.empty()) fail("of an empty sequence");
  const bool is_new = n.integer("new_axis", 0) != 0;
  const Value first = items[0];
  const int axis = axis_of(n.integer("axis", 0), first.rank() + is_new);
  for (Value& v : items) {
    if (v.rank() != first.rank() || v.elem != first.elem)
      fail("of %s and %s", text(first.shape).c_str(), text(v.shape).c_str());
    if (!is_new) continue;
    Sizes shape = v.shape;
    shape.insert(shape.begin() + axis, 1);
    v = l.reshape(v, shape);
  }
  n.set(joined(l, std::move(items), axis));
}

}  // namespace runnel::convert
