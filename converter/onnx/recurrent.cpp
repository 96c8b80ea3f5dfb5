// Recurrent layers: the products over the inputs are a matmul, what follows the sequence is cell_recurrence.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::CellKind;
using format::UnaryKind;

// order: where the gates of cell_recurrence stand in ONNX's tensors. functions: names of ONNX's functions by default.
struct Cell {
  CellKind kind;
  std::vector<int64_t> order;
  std::vector<const char*> functions;
};
Cell cell_of(const std::string& op) {
  if (op == "LSTM") return {CellKind::lstm, {0, 2, 3, 1}, {"Sigmoid", "Tanh", "Tanh"}};
  if (op == "GRU") return {CellKind::gru, {1, 0, 2}, {"Sigmoid", "Tanh"}};
  return {CellKind::rnn, {0}, {"Tanh"}};
}

UnaryKind function_of(const std::string& name) {
  static const std::map<std::string, UnaryKind> kFunctions = {
      {"Sigmoid", UnaryKind::sigmoid}, {"Tanh", UnaryKind::tanh}, {"Relu", UnaryKind::relu}};
  const auto it = kFunctions.find(name);
  if (it == kFunctions.end()) fail("activation \"%s\"; there are Sigmoid, Tanh and Relu", printable(name).c_str());
  return it->second;
}

class Layer {
 public:
  Layer(Lowering& l, const Node& n) : l_(l), n_(n), cell_(cell_of(n.op())) {
    is_batch_first_ = n.integer("layout", 0) != 0;
    x_ = is_batch_first_ ? l.transpose(three_axes(n.in(0), "X"), {1, 0, 2}) : three_axes(n.in(0), "X");
    const std::vector<int64_t> w = l.known_shape(three_axes(n.in(1), "W"), "W"),
                               r = l.known_shape(three_axes(n.in(2), "R"), "R");
    gates_ = int64_t(cell_.order.size()), dim_ = r[2], width_ = w[2], directions_ = w[0];
    const std::string direction = n.text("direction", "forward");
    if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
      fail("direction \"%s\"", printable(direction).c_str());
    is_reverse_ = direction == "reverse";
    const bool fits = directions_ == (direction == "bidirectional" ? 2 : 1) && w[1] == gates_ * dim_ &&
                      r[0] == directions_ && r[1] == w[1] && dim_ > 0 && width_ > 0 && x_.shape[2].is(width_) &&
                      n.integer("hidden_size", dim_) == dim_;
    if (!fits)
      fail("X is %s, W %s, R %s", text(x_.shape).c_str(), text(n.in(1).shape).c_str(), text(n.in(2).shape).c_str());
    if (n.integer("input_forget", 0)) fail("input_forget is not supported");
    tokens_ = x_.shape[0], batch_ = x_.shape[1];
    shorten();
  }

  void lower() {
    std::vector<Value> y, h, c;
    for (int64_t d = 0; d < directions_; ++d) {
      const std::vector<Value> out = direction(d);
      y.push_back(l_.reshape(out[0], {steps_, 1, batch_, dim_}));
      h.push_back(l_.reshape(out[1], {1, batch_, dim_}));
      if (out.size() > 2) c.push_back(l_.reshape(out[2], {1, batch_, dim_}));
    }
    if (n_.wants(0)) {
      Value all = padded(joined(y, 1));
      n_.set(0, is_batch_first_ ? l_.transpose(all, {2, 0, 1, 3}) : all);
    }
    for (const auto& [i, list] : {std::pair<size_t, std::vector<Value>&>{1, h}, {2, c}})
      if (n_.wants(i) && !list.empty()) {
        const Value all = joined(list, 0);
        n_.set(i, is_batch_first_ ? l_.transpose(all, {1, 0, 2}) : all);
      }
  }

 private:
  static const Value& three_axes(const Value& v, const char* what) {
    if (v.rank() != 3) fail("%s is %s, want three axes", what, text(v.shape).c_str());
    return v;
  }

  // Sequences that all end at one place before the end of X.
  void shorten() {
    steps_ = tokens_;
    if (!n_.has(4)) return;
    const Sizes& lengths = n_.known_sizes(4, "the lengths of the sequences");
    for (const Size& s : lengths)
      if (!(s == lengths[0])) fail("sequences of different lengths");
    if (lengths.empty() || lengths[0] == tokens_) return;
    if (!lengths[0].is_constant() || !tokens_.is_constant() || lengths[0].constant() < 0 ||
        lengths[0].constant() > tokens_.constant())
      fail("sequences of %s of %s steps", lengths[0].text().c_str(), tokens_.text().c_str());
    steps_ = lengths[0];
    x_ = l_.emit("slice", {l_.plain(x_)}, {steps_, batch_, width_}, format::SliceAttrsT());
  }
  Value padded(const Value& y) {
    if (steps_ == tokens_) return y;
    format::PadAttrsT attrs;
    attrs.begin.assign(4, 0);
    return l_.emit("pad", {y}, {tokens_, directions_, batch_, dim_}, attrs);
  }

  Value joined(const std::vector<Value>& parts, uint8_t axis) {
    if (parts.size() == 1) return parts[0];
    Sizes shape = parts[0].shape;
    shape[axis] = int64_t(parts.size());
    format::ConcatAttrsT attrs;
    attrs.axis = axis;
    return l_.emit("concat", parts, shape, attrs);
  }

  // Numbers of a direction, [gates, rest] in the order of cell_recurrence; `first`: where they begin in those of it.
  std::vector<float> gates_of(size_t input, int64_t d, int64_t rest, int64_t of_direction, int64_t first = 0,
                              const std::vector<int64_t>* order = nullptr) {
    const std::vector<float>& all = n_.known_floats(input, "the weights");
    const std::vector<int64_t>& gates = order ? *order : cell_.order;
    if (int64_t(all.size()) != directions_ * of_direction)
      fail("input %zu has %zu numbers, want %lld", input, all.size(),
           static_cast<long long>(directions_ * of_direction));
    std::vector<float> out;
    for (int64_t g : gates) {
      const auto from = all.begin() + long(d * of_direction + first + g * rest);
      out.insert(out.end(), from, from + long(rest));
    }
    return out;
  }

  // A state before the call: [directions, batch, dim] -> [batch, dim] of one direction. Zeros are left out.
  Value state(size_t input, int64_t d) {
    if (!n_.has(input)) return {};
    Value v = n_.in(input);
    if (is_batch_first_) v = l_.transpose(three_axes(v, "a state"), {1, 0, 2});
    if (!(v.shape == Sizes{directions_, batch_, dim_}))
      fail("input %zu is %s, want %s", input, text(v.shape).c_str(), text({directions_, batch_, dim_}).c_str());
    if (v.is_constant()) {
      const std::vector<float>& all = l_.numbers(v);
      if (std::all_of(all.begin(), all.end(), [](float f) { return f == 0; })) return {};
    }
    v = l_.plain(v);
    if (directions_ > 1) {
      format::SliceAttrsT attrs;
      attrs.begin = d;
      v = l_.emit("slice", {v}, {1, batch_, dim_}, attrs);
    }
    return l_.reshape(v, {batch_, dim_});
  }

  format::CellAttrsT attributes(int64_t d) {
    format::CellAttrsT a;
    a.kind = cell_.kind;
    a.reverse = is_reverse_ || d == 1;
    a.reset_first = cell_.kind == CellKind::gru && !n_.integer("linear_before_reset", 0);
    a.clip = float(n_.real("clip", 0));
    const OnnxAttribute* given = n_.attribute("activations", OnnxKind::kStrings);
    if (!given) return a;
    const size_t count = cell_.functions.size();
    if (given->strings.size() != count * size_t(directions_))
      fail("%zu activations, want %zu", given->strings.size(), count * size_t(directions_));
    const auto function = [&](size_t i) {
      const std::string& name = given->strings[size_t(d) * count + i];
      return name == cell_.functions[i] ? UnaryKind::none : function_of(name);
    };
    if (cell_.kind == CellKind::rnn) return a.candidate = function(0), a;
    a.gate = function(0), a.candidate = function(1);
    if (cell_.kind == CellKind::lstm) a.read = function(2);
    return a;
  }

  // y [steps, batch * dim], h and c [batch, dim].
  std::vector<Value> direction(int64_t d) {
    const int64_t rows = gates_ * dim_;
    Value bias, back;
    if (n_.has(3)) {
      std::vector<float> of_input = gates_of(3, d, dim_, 2 * rows), of_output = gates_of(3, d, dim_, 2 * rows, rows);
      // A reset behind the product reaches the bias of the candidate too.
      for (int64_t i = 0; i < (cell_.kind == CellKind::gru ? 2 * dim_ : rows); ++i)
        of_input[size_t(i)] += of_output[size_t(i)], of_output[size_t(i)] = 0;
      if (cell_.kind == CellKind::gru) back = Lowering::floats(std::move(of_output), {gates_, 1, dim_});
      bias = Lowering::floats(std::move(of_input), {rows});
    }
    const std::string w = l_.matrix(gates_of(1, d, dim_ * width_, rows * width_), rows, width_);
    Value x = l_.emit("matmul", {l_.plain(x_), Lowering::packed(w), bias}, {steps_, batch_, rows});
    if (!batch_.is(1)) {
      format::TransposeAttrsT turn;
      turn.perm = {0, 2, 1, 3};
      x = l_.emit("transpose", {l_.reshape(x, {steps_, batch_, gates_, dim_})}, {steps_, gates_, batch_, dim_}, turn);
    }
    x = l_.reshape(x, {steps_, gates_, batch_, dim_});
    const Value r = Lowering::floats(gates_of(2, d, dim_ * dim_, rows * dim_), {gates_, 1, dim_, dim_});
    const bool is_lstm = cell_.kind == CellKind::lstm;
    std::vector<Value> in = {x, r, back, state(5, d), is_lstm ? state(6, d) : Value()};
    if (is_lstm && n_.has(7)) {
      const std::vector<int64_t> order = {0, 2, 1};  // i, o, f there
      in.resize(8);
      in.push_back(Lowering::floats(gates_of(7, d, dim_, 3 * dim_, 0, &order), {3, 1, dim_}));
    }
    std::vector<Lowering::Result> out = {{Elem::kFloat, {steps_, batch_ * Size(dim_)}}};
    for (int i = 0; i < (is_lstm ? 2 : 1); ++i) out.push_back({Elem::kFloat, {batch_, dim_}});
    return l_.emit_all("cell_recurrence", in, out, attributes(d));
  }

  Lowering& l_;
  const Node& n_;
  Cell cell_;
  Value x_;
  Size tokens_, steps_, batch_;
  int64_t gates_, dim_, width_, directions_;
  bool is_reverse_, is_batch_first_;
};

}  // namespace

void lower_recurrent(Lowering& l, const Node& n) { Layer(l, n).lower(); }

}  // namespace runnel::convert
