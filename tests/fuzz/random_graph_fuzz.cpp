// Honest random graphs of many operators, with several inputs, states, rows and heads, run in many ways: what a way
// gives must be what the reference kernels give in one pass. Input: the graph, operator by operator, then the ways.
// RUNNEL_FUZZ_THREADS=1 leaves out two threads.
#include <cstdio>

#include "cpu/kernels.h"
#include "fuzz/bytes.h"
#include "unit/compare_runs.h"
#include "unit/kept_graphs.h"

using namespace runnel;
using namespace runnel::test;

namespace {

int g_target = -1;  // below 0: all that the machine has; behind the last: the reference alone

}  // namespace

// The linker puts it in the place of find_kernel (tests/fuzz/CMakeLists.txt).
extern "C" const Kernel* real_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) asm(
    "__real__ZN6runnel11find_kernelEtRKNS_6OpCallEPKNS_9CpuTargetE");
extern "C" const Kernel* wrapped_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) asm(
    "__wrap__ZN6runnel11find_kernelEtRKNS_6OpCallEPKNS_9CpuTargetE");
extern "C" const Kernel* wrapped_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) {
  int count = 0;
  const CpuTarget* all = cpu_targets(&count);
  if (g_target >= count) return nullptr;
  return real_find_kernel(op, call, g_target >= 0 ? all + g_target : from);
}

namespace {

int target_count() {
  int count = 0;
  cpu_targets(&count);
  return count;
}

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
    const uint32_t kind = in_.below(by_rows ? 9 : 16);
    const Value* found = pick(by_rows, kind >= 9 && kind != 12 ? 1 : 0);
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
      default: return state(x, kind);
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
  void state(const Value& x, uint32_t kind) {
    const int n = x.width();
    const std::string width = std::to_string(n);
    switch (kind) {
      case 9:
      case 10: {
        std::string a = tensor({1, uint64_t(n)}, 0.8f);
        if (in_.one_in(2)) {
          a = add(x.dims, false).name;
          b_.unary(x.name, a, UnaryKind::sigmoid);
        }
        const std::string s = recurrent({width});
        return b_.scan(a, x.name, s, add(x.dims, false).name);
      }
      case 11: {
        const std::string w = tensor({uint64_t(n), 3}, 0.5f), s = recurrent({"2", width});
        b_.add_op("causal_conv", {x.name, w, "", s}, {add(x.dims, false).name, s}).attrs.Set(format::ConvAttrsT{});
        return;
      }
      case 12: return attend(x);
      case 13: {
        format::CellAttrsT a;
        a.kind = format::CellKind::rnn;
        const std::string r = tensor({1, 1, uint64_t(n), uint64_t(n)}, 1 / std::sqrt(float(n))),
                          s = recurrent({"1", width}), p = add({1, 1, n}, false).name;
        b_.add_op("reshape", {x.name}, {p});
        b_.add_op("cell_recurrence", {p, r, "", s}, {add({n}, false).name, s}).attrs.Set(std::move(a));
        return;
      }
      default: return memory(x);
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

// Puts a run of operators, without states, into a program of its own that takes their place: called, or behind a
// condition of which both sides are that program. The numbers stay the same.
void outline(GraphBuilder& b, Bytes& in, int number) {
  format::ProgramT& main = b.program();
  const auto has = [](const auto& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& v) { return v->name == name; });
  };
  const auto is_plain = [&](const format::OpT& op) {
    for (const auto* list : {&op.inputs, &op.outputs})
      for (const std::string& name : *list)
        if (has(b.root.states, name)) return false;
    return control_of(op.code) == Control::kNone;
  };
  const size_t begin = in.below(uint32_t(main.ops.size()));
  size_t end = begin, most = 1 + in.below(6);
  while (end < main.ops.size() && end < begin + most && is_plain(*main.ops[end])) ++end;
  if (begin == end) return;
  auto part = std::make_unique<format::ProgramT>();
  part->name = "part" + std::to_string(number);
  std::vector<std::string> made, inputs, outputs;
  for (size_t i = begin; i < end; ++i) {
    for (const std::string& name : main.ops[i]->inputs) {
      const bool is_value = has(main.inputs, name) || has(main.values, name);
      if (is_value && std::find(made.begin(), made.end(), name) == made.end() &&
          std::find(inputs.begin(), inputs.end(), name) == inputs.end())
        inputs.push_back(name);
    }
    made.insert(made.end(), main.ops[i]->outputs.begin(), main.ops[i]->outputs.end());
  }
  bool by_rows = false;
  for (auto it = main.values.begin(); it != main.values.end();) {
    const std::string name = (*it)->name;
    if (std::find(made.begin(), made.end(), name) == made.end()) {
      ++it;
      continue;
    }
    by_rows = by_rows || (*it)->shape[0] == "R";
    bool is_used = std::find(main.outputs.begin(), main.outputs.end(), name) != main.outputs.end();
    for (size_t i = 0; i < main.ops.size(); ++i)
      for (const std::string& read : main.ops[i]->inputs)
        is_used = is_used || ((i < begin || i >= end) && read == name);
    part->values.push_back(std::make_unique<format::ValueT>(**it));
    if (is_used) outputs.push_back(name), ++it;
    else it = main.values.erase(it);
  }
  if (outputs.empty()) outputs.push_back(made.back());
  if (!has(main.values, outputs[0])) main.values.push_back(std::make_unique<format::ValueT>(*part->values.back()));
  for (const std::string& name : inputs)
    for (const auto* list : {&main.inputs, &main.values})
      for (const auto& v : *list)
        if (v->name == name) {
          part->inputs.push_back(std::make_unique<format::ValueT>(*v));
          part->inputs.back()->role = format::Role::none, part->inputs.back()->optional = false;
        }
  // The part's own name for the tokens, where all it takes of them comes with it.
  if (in.one_in(2) && !by_rows)
    for (auto* list : {&part->inputs, &part->values})
      for (const auto& v : *list)
        if (!v->shape.empty() && v->shape[0] == "T") v->shape[0] = "N";
  part->outputs = outputs;
  auto op = std::make_unique<format::OpT>();
  format::ControlAttrsT a;
  a.program = a.otherwise = part->name;
  const bool branches = !by_rows && in.one_in(2);
  op->name = branches ? "if" : "call", op->version = kControlVersion;
  op->code = uint16_t(branches ? Control::kIf : Control::kCall);
  op->attrs.Set(std::move(a));
  op->inputs = inputs, op->outputs = outputs;
  if (branches) op->inputs.insert(op->inputs.begin(), in.one_in(2) ? "yes" : "no");
  part->ops.assign(std::make_move_iterator(main.ops.begin() + long(begin)),
                   std::make_move_iterator(main.ops.begin() + long(end)));
  main.ops.erase(main.ops.begin() + long(begin), main.ops.begin() + long(end));
  main.ops.insert(main.ops.begin() + long(begin), std::move(op));
  b.root.programs.insert(b.root.programs.begin() + 1, std::move(part));
}

// The same graph, part of it in programs of their own.
std::vector<unsigned char> outlined(Bytes graph, Bytes& in, std::string* text) {
  GraphBuilder b;
  Grower(b, graph).grow();
  b.add_symbol("N", format::SymbolKind::axis, "64");
  b.add_tensor("yes", {1}, {1}), b.add_tensor("no", {1}, {0});
  for (int n = int(in.below(4)), i = 0; i < n; ++i) outline(b, in, i);
  for (const auto& p : b.root.programs) {
    *text += p->name + ":\n";
    for (const auto& op : p->ops) {
      *text += "  " + op->name;
      for (const auto& s : op->inputs) *text += " " + s;
      *text += " ->";
      for (const auto& s : op->outputs) *text += " " + s;
      *text += "\n";
    }
  }
  return b.build();
}

Way any_way(Bytes& in, int64_t total) {
  static const bool one_thread =
      std::getenv("RUNNEL_FUZZ_THREADS") && std::atoi(std::getenv("RUNNEL_FUZZ_THREADS")) == 1;
  Way w;
  w.chunk = one_of({1, 2, 3, 7, 8, 16, 64}, in.below(7));
  w.rows = one_of({1, 2, 5, 64}, in.below(4));
  w.window = one_of({0, 1, 8, 64}, in.below(4));
  w.threads = one_thread ? 1 : 1 + int(in.below(2));
  w.target = int(in.below(uint32_t(target_count()) + 2)) - 1;
  for (int64_t left = total; left > 0;) {
    const int64_t n = std::min<int64_t>(left, in.one_in(3) ? 1 : 1 + in.below(30));
    w.calls.push_back(n);
    left -= n;
  }
  if (in.one_in(2)) w.fork_before = in.below(uint32_t(w.calls.size()));
  if (in.one_in(2)) w.back_before = in.below(uint32_t(w.calls.size())), w.back = 1 + in.below(8);
  return w;
}

[[noreturn]] void fail(const Way& way, const std::string& what, const std::string& graph) {
  std::fprintf(stderr, "%s\n%s\n%s", way.text().c_str(), what.c_str(), graph.c_str());
  __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  Bytes in{data, size};
  GraphBuilder b;
  const Bytes graph = in;
  Grower(b, in).grow();
  if (b.program().outputs.empty()) return 0;
  const std::vector<unsigned char> file = b.build();
  const int64_t total = 1 + in.below(60), context = 64;
  const auto choose = [](int t) { g_target = t; };
  Way reference;
  reference.calls = {total}, reference.target = target_count();
  const WayResult wanted = run_way(file, reference, context, 5, choose);
  if (!wanted.ran) return 0;  // refused, or its numbers are too large
  for (int n = 0; n < 3; ++n) {
    const Way way = any_way(in, total);
    std::string text;
    const WayResult got = run_way(outlined(graph, in, &text), way, context, 5, choose);
    if (!got.is_planned) {
      // Refused for what the way wants, then, and not for where its operators stand.
      if (run_way(file, way, context, 5, choose).is_planned) fail(way, got.error, text);
      continue;
    }
    if (!got.ran) fail(way, got.error, text);
    if (const std::string e = difference_of(got.out, wanted.out, 1e-4f); !e.empty()) fail(way, e, text);
  }
  return 0;
}
