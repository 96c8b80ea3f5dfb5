// Grows an honest graph from a fuzzer's input: several inputs, operators over the stream and over rows, states, a head.
// Small differences of numbers stay small in it.
#pragma once

#include <algorithm>
#include <cmath>

#include "fuzz/bytes.h"
#include "unit/kept_graphs.h"

namespace runnel::test {

struct Value {
  std::string name;
  std::vector<int> dims;  // behind the first axis
  bool by_rows = false;   // axis 0 is R, not T
  int width() const {
    int n = 1;
    for (int d : dims) n *= d;
    return n;
  }
};

class Grower {
 public:
  Grower(GraphBuilder& b, Bytes& in) : b_(b), in_(in) {}
  void grow() {
    inputs();
    const int body = 3 + int(in_.below(14));
    for (int i = 0; i < body; ++i) {
      if (has_rows_ && in_.one_in(12)) gather();
      step(false);
    }
    if (has_rows_) {
      gather();
      for (int n = int(in_.below(5)); n > 0; --n) step(true);
    }
    outputs();
  }

 private:
  static std::vector<std::string> shape(const Value& v) {
    std::vector<std::string> s{v.by_rows ? "R" : "T"};
    for (int d : v.dims) s.push_back(std::to_string(d));
    return s;
  }
  Value& add(std::vector<int> dims, bool by_rows) {
    values_.push_back({"v" + std::to_string(values_.size()), std::move(dims), by_rows});
    b_.add_value(values_.back().name, shape(values_.back()));
    return values_.back();
  }
  void inputs() {
    const int widths[] = {4, 8, 12, 16, 32};
    for (int n = 1 + int(in_.below(3)); n > 0; --n) {
      Value v{"x" + std::to_string(n), {widths[in_.below(5)]}, false};
      if (in_.one_in(4)) v.dims.insert(v.dims.begin(), 2);
      b_.add_input(v.name, shape(v));
      values_.push_back(v);
    }
    if (in_.one_in(3)) {
      b_.add_ids(), b_.add_matrix("table", 4, 16, ramp(64));
      b_.embedding("ids", "table", add({16}, false).name);
    }
    if (in_.one_in(3)) b_.add_input("fixed", {"1"}), has_fixed_ = true;
    if ((has_rows_ = !in_.one_in(4))) b_.add_rows();
    if (in_.one_in(6)) b_.add_input("unread", {"T", "3"});
  }
  // One of the values of the stream or of the rows; rank 0: any.
  const Value* pick(bool by_rows, size_t rank) {
    std::vector<const Value*> fit;
    for (const Value& v : values_)
      if (v.by_rows == by_rows && (!rank || v.dims.size() == rank)) fit.push_back(&v);
    return fit.empty() ? nullptr : fit[fit.size() - 1 - in_.below(uint32_t(std::min<size_t>(fit.size(), 6)))];
  }
  void gather() {
    const Value* x = pick(false, 0);
    if (!x) return;
    const std::string from = x->name;
    b_.add_op("gather_rows", {from, "rows"}, {add(std::vector<int>(x->dims), true).name});
  }
  std::string tensor(std::vector<uint64_t> dims, float scale = 1) {
    const std::string name = "t" + std::to_string(tensors_++);
    size_t n = 1;
    for (uint64_t d : dims) n *= d;
    std::vector<float> data = ramp(n, -0.7f + 0.05f * float(tensors_ % 20), 0.31f + 0.01f * float(tensors_));
    for (float& x : data) x *= scale;
    b_.add_tensor(name, std::move(dims), data);
    return name;
  }
  std::string matrix(uint64_t rows, uint64_t columns) {
    const std::string name = "w" + std::to_string(tensors_++);
    std::vector<float> data = ramp(rows * columns, -0.8f + 0.03f * float(tensors_ % 30), 0.37f);
    for (float& x : data) x /= std::sqrt(float(columns));
    b_.add_matrix(name, rows, columns, data);
    return name;
  }

  // A plain operator for rows and stream alike, or one with a state for the stream.
  void step(bool by_rows) {
    constexpr uint32_t kPlain = 18, kStates = 9, kAttend = kPlain + 3;
    const uint32_t kind = in_.below(by_rows ? kPlain : kPlain + kStates);
    const Value* found = pick(by_rows, kind >= kPlain && kind != kAttend ? 1 : 0);
    if (!found) return;
    const Value x = *found;
    switch (kind) {
      case 0: {
        const UnaryKind kinds[] = {UnaryKind::tanh, UnaryKind::sigmoid, UnaryKind::silu, UnaryKind::relu,
                                   UnaryKind::gelu, UnaryKind::neg,     UnaryKind::abs};
        return b_.unary(x.name, add(x.dims, by_rows).name, kinds[in_.below(7)]);
      }
      case 1: return binary(x);
      case 2: {
        const int n = 4 << in_.below(4);
        const std::string w = matrix(uint64_t(n), uint64_t(x.dims.back()));
        std::vector<int> dims = x.dims;
        dims.back() = n;
        b_.add_op("matmul", {x.name, w}, {add(dims, by_rows).name});
        return;
      }
      case 3: b_.add_op(in_.one_in(2) ? "rms_norm" : "softmax", {x.name}, {add(x.dims, by_rows).name}); return;
      case 4: return slice(x);
      case 5: return reshape(x);
      case 6: return concat(x);
      case 7:
        if (x.dims.size() == 2) {
          const uint32_t axis = in_.below(2);
          b_.reduce(x.name, add({x.dims[1 - axis]}, by_rows).name, format::ReduceKind::mean, uint8_t(axis + 1));
        }
        return;
      case 8:
        if (x.dims.size() == 2) {
          format::TransposeAttrsT t;
          t.perm = {0, 2, 1};
          b_.add_op("transpose", {x.name}, {add({x.dims[1], x.dims[0]}, by_rows).name}).attrs.Set(std::move(t));
        }
        return;
      case 9: return image(x);
      case 10: return numbers(x);
      case 11: return truths(x);
      case 12: return gathered(x);
      case 13: return expanded(x);
      case 14: return normed(x);
      case 15: return filled(x);
      case 16: return merged(x);
      case 17: return padded(x);
      default: return state(x, kind - kPlain);
    }
  }
  void binary(const Value& x) {
    const format::BinaryKind kinds[] = {format::BinaryKind::add, format::BinaryKind::sub, format::BinaryKind::mul,
                                        format::BinaryKind::max};
    const auto kind = kinds[in_.below(4)];
    std::vector<std::string> others;
    for (const Value& v : values_)
      if (v.by_rows == x.by_rows && v.dims == x.dims) others.push_back(v.name);
    const uint32_t n = in_.below(uint32_t(others.size()) + 2);
    const std::string y = n < others.size()                  ? others[n]
                          : has_fixed_ && n == others.size() ? "fixed"
                                                             : tensor({uint64_t(x.dims.back())});
    const std::string to = add(x.dims, x.by_rows).name;
    b_.binary(x.name, y, to, kind);
    if (kind == format::BinaryKind::mul) b_.unary(to, add(x.dims, x.by_rows).name);
  }
  void slice(const Value& x) {
    std::vector<int> dims = x.dims;
    const uint32_t axis = in_.below(uint32_t(dims.size()));
    if (dims[axis] < 2) return;
    const int take = dims[axis] / 2;
    format::SliceAttrsT a;
    a.axis = uint8_t(axis + 1), a.begin = in_.one_in(2) ? dims[axis] - take : 0;
    dims[axis] = take;
    b_.add_op("slice", {x.name}, {add(dims, x.by_rows).name}).attrs.Set(std::move(a));
  }
  void reshape(const Value& x) {
    std::vector<int> dims{x.width()};
    if (x.dims.size() == 1 && x.width() % 2 == 0) dims = {2, x.width() / 2};
    b_.add_op("reshape", {x.name}, {add(dims, x.by_rows).name});
  }
  void concat(const Value& x) {
    if (x.width() > 64) return;
    std::vector<int> dims = x.dims;
    dims.back() *= 2;
    format::ConcatAttrsT a;
    a.axis = uint8_t(dims.size());
    b_.add_op("concat", {x.name, x.name}, {add(dims, x.by_rows).name}).attrs.Set(std::move(a));
  }
  std::string recurrent(std::vector<std::string> dims) {
    const std::string name = "s" + std::to_string(states_++);
    b_.add_recurrent(name, std::move(dims));
    return name;
  }
  // Within -1 and 1: for functions that are steep elsewhere.
  Value small(const Value& x) {
    const Value to = add(x.dims, x.by_rows);
    b_.unary(x.name, to.name);
    return to;
  }
  std::string ints(int n) {
    const std::string name = "u" + std::to_string(tensors_++);
    b_.add_ints(name, {std::to_string(n)});
    return name;
  }
  // Of 2 x 2 places, with more around it, and a window over it.
  void image(const Value& x) {
    const int channels = x.width() / 4;
    if (x.width() % 4 || channels > 32) return;
    const int before = int(in_.below(3)), side = 2 + before + int(in_.below(3)), size = 1 + int(in_.below(3)),
              stride = 1 + int(in_.below(2)), kind = int(in_.below(3));
    // The reference takes its time over each weight of a matrix.
    if (side + 2 < size || (kind == 2 && size * size * channels > 64)) return;
    const int result = (side + 2 - size) / stride + 1;
    const std::string plain = add({2, 2, channels}, x.by_rows).name, wide = add({side, side, channels}, x.by_rows).name;
    b_.add_op("reshape", {x.name}, {plain});
    b_.pad(plain, wide, format::PadKind(in_.below(4)), {0, before, before, 0});
    const uint64_t places = uint64_t(size) * uint64_t(size);
    const std::string weight = kind == 0   ? ""
                               : kind == 1 ? tensor({places, uint64_t(channels)}, 0.3f)
                                           : matrix(8, places * uint64_t(channels));
    const std::string to = add({result, result, kind == 2 ? 8 : channels}, x.by_rows).name;
    // A window without a place inside has no average.
    b_.window(wide, weight, to, uint32_t(size), uint32_t(stride), 1, kind == 1 ? uint32_t(channels) : 1);
  }
  void numbers(const Value& x) {
    using format::MathKind;
    const MathKind kinds[] = {MathKind::erf,   MathKind::sin, MathKind::cos,        MathKind::atan,
                              MathKind::asinh, MathKind::elu, MathKind::leaky_relu, MathKind::hard_sigmoid,
                              MathKind::sinh,  MathKind::tan, MathKind::hard_swish, MathKind::clip};
    const Value from = small(x);
    b_.math(from.name, add(x.dims, x.by_rows).name, kinds[in_.below(12)], -0.25f, 0.5f);
  }
  void truths(const Value& x) {
    using format::ArithmeticKind;
    const ArithmeticKind kinds[] = {ArithmeticKind::less, ArithmeticKind::at_most, ArithmeticKind::equal,
                                    ArithmeticKind::mod,  ArithmeticKind::bit_and, ArithmeticKind::sub};
    const int n = x.dims.back();
    const std::string i = ints(n), j = ints(n), truth = ints(n);
    b_.index(i, 0, 1), b_.index(j, float(in_.below(uint32_t(n))), -1);
    b_.arithmetic(i, j, truth, kinds[in_.below(6)]);
    if (in_.one_in(2)) {
      const std::string other = small(x).name;
      b_.add_op("where", {truth, x.name, other}, {add(x.dims, x.by_rows).name});
      return;
    }
    const std::string real = "u" + std::to_string(tensors_++);
    b_.add_value(real, {std::to_string(n)}), b_.add_op("cast", {truth}, {real});
    b_.arithmetic(x.name, real, add(x.dims, x.by_rows).name, ArithmeticKind::max);
  }
  void gathered(const Value& x) {
    const int n = x.dims.back(), begin = int(in_.below(uint32_t(n)));
    const bool is_backwards = in_.one_in(2);
    std::vector<int> dims = x.dims;
    dims.back() = is_backwards ? n : n - begin;
    const std::string ids = ints(dims.back());
    is_backwards ? b_.index(ids, -1, -1) : b_.index(ids, float(begin), 1);
    b_.gather(x.name, ids, add(dims, x.by_rows).name, uint8_t(dims.size()));
  }
  void expanded(const Value& x) {
    const int n = x.width();
    if (n > 32) return;
    const std::string one = add({1, n}, x.by_rows).name;
    b_.add_op("reshape", {x.name}, {one}), b_.add_op("expand", {one}, {add({2, n}, x.by_rows).name});
  }
  void normed(const Value& x) {
    const int groups = 1 << in_.below(3);
    if (x.dims.back() % groups) return;
    const Value from = small(x);
    b_.group_norm(from.name, add(x.dims, x.by_rows).name, uint32_t(groups));
  }
  void padded(const Value& x) {
    if (x.width() > 32) return;
    std::vector<int> dims = x.dims;
    std::vector<int32_t> begin(dims.size() + 1);
    for (size_t i = 0; i < dims.size(); ++i)
      begin[i + 1] = int32_t(in_.below(4)) - 1, dims[i] = std::max(1, dims[i] + begin[i + 1] + int(in_.below(4)) - 1);
    b_.pad(x.name, add(dims, x.by_rows).name, format::PadKind(in_.below(4)), begin);
  }
  void filled(const Value& x) {
    if (x.by_rows) return;
    const std::string name = "f" + std::to_string(tensors_++),
                      column = add(std::vector<int>(x.dims.size(), 1), false).name;
    b_.add_filled(name, "T", DType::f32, 2), b_.add_op("reshape", {name}, {column});
    b_.arithmetic(x.name, column, add(x.dims, false).name,
                  in_.one_in(2) ? format::ArithmeticKind::mul : format::ArithmeticKind::min);
  }
  // What six tokens of the call's own have in common, as a row to add.
  void merged(const Value& x) {
    const int merge = 1 + int(in_.below(3)), n = x.dims.back();
    const std::string number = std::to_string(tensors_++), width = std::to_string(n), from = "n" + number,
                      groups = ints(6), means = "m" + number, back = "b" + number, sum = "r" + number;
    b_.add_input(from, {"6", width}), b_.add_value(means, {std::to_string(6 - std::min(merge, 2)), width});
    b_.add_value(back, {"6", width}), b_.add_value(sum, {width});
    b_.merge_tokens(from, groups, means, uint32_t(merge)), b_.add_op("gather_rows", {means, groups}, {back});
    b_.reduce(back, sum, format::ReduceKind::mean, 0), b_.binary(x.name, sum, add(x.dims, x.by_rows).name);
  }
  void state(const Value& x, uint32_t kind) {
    const int n = x.width();
    const std::string width = std::to_string(n);
    switch (kind) {
      case 0:
      case 1: {
        std::string a = tensor({1, uint64_t(n)}, 0.8f);
        if (in_.one_in(2)) {
          a = add(x.dims, false).name;
          b_.unary(x.name, a, UnaryKind::sigmoid);
        }
        const std::string s = recurrent({width});
        return b_.scan(a, x.name, s, add(x.dims, false).name);
      }
      case 2: {
        const std::string w = tensor({uint64_t(n), 3}, 0.5f), s = recurrent({"2", width});
        b_.add_op("causal_conv", {x.name, w, "", s}, {add(x.dims, false).name, s}).attrs.Set(format::ConvAttrsT{});
        return;
      }
      case 3: return attend(x);
      case 4: {
        format::CellAttrsT a;
        a.kind = format::CellKind::rnn;
        const std::string r = tensor({1, 1, uint64_t(n), uint64_t(n)}, 1 / std::sqrt(float(n))),
                          s = recurrent({"1", width}), p = add({1, 1, n}, false).name;
        b_.add_op("reshape", {x.name}, {p});
        b_.add_op("cell_recurrence", {p, r, "", s}, {add({n}, false).name, s}).attrs.Set(std::move(a));
        return;
      }
      case 5: return memory(x);
      default: return chosen(x, kind == 6);
    }
  }
  // A window, or all of the stream; keys and values of one head.
  void attend(const Value& x) {
    const int n = x.width();
    const std::string name = "kv" + std::to_string(states_++), width = std::to_string(n);
    const uint32_t window = in_.one_in(2) ? 1 + in_.below(12) : 0, kind = in_.below(4);
    const bool first = kind == 0, chunks = kind == 1 && window > 0;
    if (first) b_.add_kv(name, StateKind::first, "1", width, "64", 0);
    else
      b_.add_kv(name, window ? StateKind::ring : StateKind::append, "1", width,
                window ? ring_slots(int(window)) : kAllSlots, window);
    const std::string q = add({1, n}, false).name;
    b_.add_op("reshape", {x.name}, {q});
    const std::string y = add({n}, false).name;
    if (!first && !chunks) return b_.attention(q, y, name + "k", name + "v", window);
    format::SparseAttentionAttrsT a;
    if (first) a.first = 1 + in_.below(20), a.window = window;
    else a.chunk = window;
    b_.add_op("sparse_attention", {q, q, q, name + "k", name + "v"}, {y}).attrs.Set(std::move(a));
  }
  // Some of the keys: those of a budget, or units that are chosen. What is chosen hangs on no small difference.
  void chosen(const Value& x, bool by_budget) {
    const int n = x.width();
    const std::string name = "c" + std::to_string(states_++), width = std::to_string(n), q = add({1, n}, false).name,
                      y = add({1, n}, false).name;
    b_.add_op("reshape", {x.name}, {q});
    if (by_budget) return b_.budget_attention(q, y, name, width, 4 + in_.below(40));
    b_.add_kv(name, StateKind::append, "1", width, kAllSlots, 0);
    b_.chosen_attention(q, y, name + "k", name + "v", format::KeyEstimate(in_.below(8)));
  }
  void memory(const Value& x) {
    const int n = x.width();
    if (n > 32) return;
    const std::string width = std::to_string(n), q = add({1, n}, false).name, unit = add({1, n}, false).name,
                      s = recurrent({"1", width, width});
    b_.add_op("reshape", {x.name}, {q}), b_.add_op("softmax", {q}, {unit});
    format::MatrixRecurrenceAttrsT a;
    a.rule = in_.one_in(2) ? format::RecurrenceRule::delta : format::RecurrenceRule::add;
    a.scale = 0.5f;
    const std::string decay = "t" + std::to_string(tensors_++);
    b_.add_tensor(decay, {1}, {-0.2f});
    b_.add_op("matrix_recurrence", {q, unit, q, decay, "", "", "", "", "", s}, {add({1, n}, false).name, s})
        .attrs.Set(std::move(a));
  }
  void outputs() {
    std::vector<std::string> names;
    for (int n = 1 + int(in_.below(3)); n > 0; --n) {
      const size_t back = in_.below(uint32_t(std::min<size_t>(values_.size(), 8)));
      const std::string& name = values_[values_.size() - 1 - back].name;
      if (name[0] == 'v' && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    if (names.empty() && values_.back().name[0] == 'v') names.push_back(values_.back().name);
    b_.program().outputs = names;
  }

  GraphBuilder& b_;
  Bytes& in_;
  std::vector<Value> values_;
  bool has_rows_ = false, has_fixed_ = false;
  int tensors_ = 0, states_ = 0;
};

}  // namespace runnel::test
