// Graphs within nodes: taken in place where what decides is known, else programs of their own that `if` and `loop` run.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

constexpr int64_t kMostUnrolled = 4096;  // nodes that rounds leave
constexpr int64_t kMostRounds = 1024;    // that are written out

const OnnxGraph& graph_of(const Node& n, const char* name) {
  const OnnxAttribute* a = n.attribute(name, OnnxKind::kGraph);
  if (!a || !a->graph) fail("it has no graph \"%s\"", name);
  return *a->graph;
}

Lowering::Result result_of(const Value& v) { return {v.elem, v.shape}; }

// A number or truth as control.h takes it.
Value as_vector(Lowering& l, const Value& v) {
  if (!product(v.shape).is(1)) fail("%s decides, want one number", text(v.shape).c_str());
  return l.reshape(v, {1});
}

std::vector<Value> rest(const Node& n, size_t first, size_t count) {
  std::vector<Value> out;
  for (size_t i = 0; i < count; ++i) out.push_back(n.has(first + i) ? n.in(first + i) : Value());
  return out;
}

// Rows that rounds gave, as a value with one axis more at the front.
Value stacked(Lowering& l, std::vector<Value> rows) {
  for (Value& v : rows) {
    Sizes shape = {1};
    shape.insert(shape.end(), v.shape.begin(), v.shape.end());
    v = l.reshape(l.plain(v), shape);
  }
  constexpr size_t kMost = 16;  // of concat
  while (rows.size() > 1) {
    std::vector<Value> joined;
    for (size_t i = 0; i < rows.size(); i += kMost) {
      const std::vector<Value> some(rows.begin() + long(i), rows.begin() + long(std::min(rows.size(), i + kMost)));
      Sizes shape = some[0].shape;
      for (size_t k = 1; k < some.size(); ++k) shape[0] = shape[0] + some[k].shape[0];
      joined.push_back(some.size() == 1 ? some[0]
                                        : l.emit("concat", some, shape, format::ConcatAttrsT(), some[0].elem));
    }
    rows = std::move(joined);
  }
  return rows[0];
}

Value zeros(Lowering& l, Elem elem, const Sizes& shape) {
  return l.expand(elem == Elem::kFloat ? Lowering::scalar(0) : Lowering::ints({0}, {}, elem), shape);
}

// Rows from the last to the first, by their numbers from behind.
Value reversed(Lowering& l, const Value& rows) {
  format::IndexAttrsT from_end;
  from_end.begin = from_end.step = -1;
  const Value places = l.emit("index", {}, {rows.shape[0]}, from_end, Elem::kInt);
  return l.emit("gather", {l.plain(rows), places}, rows.shape, format::GatherAttrsT(), rows.elem);
}

// --- rounds over values that are carried from one to the next, with rows that are stacked
struct Rounds {
  Size count;
  Value number;           // of rounds, where `count` is not known
  bool has_count = true;  // the count is known but for the call
  Value first;            // condition; absent: it holds
  std::vector<Value> carried;
  size_t stacks;
  // What a round gives: the condition for the next (absent: it holds), carried values, rows.
  std::function<std::vector<Value>(const Value& round, const std::vector<Value>& carried)> body;
};

bool is_true(const Value& v) { return v.is_absent() || (v.ints && v.is_constant() && !(*v.ints)[0].is(0)); }

// All rounds one behind the other; false: a condition is not known.
bool unroll(Lowering& l, const Rounds& r, int64_t nodes, std::vector<Value>* out) {
  const bool is_open = !r.has_count;
  if (is_open && r.first.is_absent()) return false;
  if (!r.first.is_absent() && !r.first.is_constant()) return false;
  if (!is_open && (!r.count.is_constant() || r.count.constant() * nodes > kMostUnrolled)) return false;
  const Lowering::Mark mark = l.mark();
  std::vector<Value> carried = r.carried;
  std::vector<std::vector<Value>> rows(r.stacks);
  Value goes_on = r.first;
  for (int64_t i = 0; is_true(goes_on) && (is_open || i < r.count.constant()); ++i) {
    if (i == kMostRounds) return l.take_back(mark), false;
    std::vector<Value> given = r.body(Lowering::ints({i}, {}), carried);
    goes_on = given[0];
    if (!goes_on.is_absent() && !goes_on.is_constant()) return l.take_back(mark), false;
    for (size_t k = 0; k < carried.size(); ++k) carried[k] = given[1 + k];
    for (size_t k = 0; k < r.stacks; ++k) rows[k].push_back(given[1 + carried.size() + k]);
  }
  for (const auto& list : rows)
    if (list.empty()) fail("no round runs, and it gives rows");
  *out = std::move(carried);
  for (auto& list : rows) out->push_back(stacked(l, std::move(list)));
  return true;
}

// A program that the rounds run.
std::vector<Value> loop(Lowering& l, const Rounds& r) {
  // The shape of a row is known when a round was written once.
  std::vector<Lowering::Result> kinds;
  if (r.stacks) {
    const Lowering::Mark mark = l.mark();
    std::vector<Value> inputs = {Lowering::ints({0}, {1})};
    inputs.insert(inputs.end(), r.carried.begin(), r.carried.end());
    l.separate(
        "shapes",
        [&](std::vector<Value> in) {
          const std::vector<Value> carried(in.begin() + 1, in.end());
          for (const Value& v : r.body(l.reshape(in[0], {}), carried)) kinds.push_back(result_of(v));
          return std::vector<Value>{in[0]};
        },
        inputs);
    l.take_back(mark);
  }
  std::vector<Value> carried = r.carried;
  for (size_t k = 0; k < r.stacks; ++k) {
    const Lowering::Result& row = kinds[1 + r.carried.size() + k];
    Sizes shape = {r.count};
    shape.insert(shape.end(), row.shape.begin(), row.shape.end());
    carried.push_back(zeros(l, row.elem, shape));
  }
  for (Value& v : carried) v = l.plain(v);
  bool has_condition = false;
  std::vector<Value> inputs = {Lowering::ints({0}, {1})};
  inputs.insert(inputs.end(), carried.begin(), carried.end());
  const Lowering::Part part = l.separate(
      "round",
      [&](std::vector<Value> in) {
        const size_t n = r.carried.size();
        const std::vector<Value> own(in.begin() + 1, in.begin() + 1 + long(n));
        std::vector<Value> given = r.body(l.reshape(in[0], {}), own), out;
        for (size_t k = 0; k < n; ++k) {
          if (!(given[1 + k].shape == own[k].shape) || given[1 + k].elem != own[k].elem)
            fail("a value comes into a round as %s and leaves it as %s", text(own[k].shape).c_str(),
                 text(given[1 + k].shape).c_str());
          out.push_back(given[1 + k]);
        }
        for (size_t k = 0; k < r.stacks; ++k) {
          const Value& row = given[1 + n + k];
          Sizes one = {1};
          one.insert(one.end(), row.shape.begin(), row.shape.end());
          out.push_back(l.emit("scatter", {in[1 + n + k], in[0], l.reshape(l.plain(row), one)}, in[1 + n + k].shape,
                               format::ScatterAttrsT(), row.elem));
        }
        has_condition = !is_true(given[0]);
        if (has_condition) out.push_back(as_vector(l, given[0]));
        return out;
      },
      inputs);
  if (has_condition && r.stacks) fail("it gives rows, and how many its condition decides");
  Names names = {r.has_count            ? l.local_name(Lowering::ints({r.count}, {1}))
                 : r.number.is_absent() ? ""
                                        : l.local_name(as_vector(l, r.number)),
                 r.first.is_absent() ? "" : l.local_name(as_vector(l, r.first))};
  std::vector<Lowering::Result> results;
  for (const Value& v : carried) names.push_back(l.local_name(v)), results.push_back(result_of(v));
  names.insert(names.end(), part.seen.begin(), part.seen.end());
  return l.control("loop", names, results, part.program->name, "");
}

std::vector<Value> run(Lowering& l, const Rounds& r, int64_t nodes) {
  std::vector<Value> out;
  if (unroll(l, r, std::max<int64_t>(nodes, 1), &out)) return out;
  if (r.carried.empty() && r.stacks == 0) return {};
  return loop(l, r);
}

}  // namespace

void lower_if(Lowering& l, const Node& n) {
  const Value condition = n.in(0);
  const OnnxGraph &yes = graph_of(n, "then_branch"), &no = graph_of(n, "else_branch");
  if (condition.is_constant()) {
    const std::vector<Value> out = l.inline_graph(l.numbers(condition)[0] != 0 ? yes : no, {});
    for (size_t i = 0; i < out.size(); ++i) n.set(i, out[i]);
    return;
  }
  const Value decides = as_vector(l, l.plain(condition));
  const auto part_of = [&](const OnnxGraph& g, const char* what) {
    return l.separate(what, [&](std::vector<Value>) { return l.inline_graph(g, {}); }, {});
  };
  Lowering::Part a = part_of(yes, "then"), b = part_of(no, "else");
  if (a.outputs.empty() || a.outputs.size() != b.outputs.size()) fail("its two graphs give different outputs");
  std::vector<Lowering::Result> results;
  for (size_t i = 0; i < a.outputs.size(); ++i) {
    const Value &x = a.outputs[i], &y = b.outputs[i];
    if (!(x.shape == y.shape) || (x.elem == Elem::kFloat) != (y.elem == Elem::kFloat))
      fail("its two graphs give %s and %s", text(x.shape).c_str(), text(y.shape).c_str());
    results.push_back(result_of(x));
  }
  // Both take the same values.
  Names names = a.seen;
  for (const std::string& name : b.seen)
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  for (const auto& [to, from] : {std::pair{a.program, b.program}, {b.program, a.program}}) {
    std::vector<std::unique_ptr<format::ValueT>> ordered;
    for (const std::string& name : names)
      ordered.push_back(std::make_unique<format::ValueT>(value_of(find_value(*to, name) ? *to : *from, name)));
    to->inputs = std::move(ordered);
  }
  Names in = {l.local_name(decides)};
  in.insert(in.end(), names.begin(), names.end());
  const std::vector<Value> out = l.control("if", in, results, a.program->name, b.program->name);
  for (size_t i = 0; i < out.size(); ++i) n.set(i, out[i]);
}

void lower_loop(Lowering& l, const Node& n) {
  const OnnxGraph& g = graph_of(n, "body");
  if (n.inputs() < 2 || g.inputs.size() != n.inputs() || g.outputs.size() + 1 < n.inputs())
    fail("its graph has %zu inputs and %zu outputs for %zu values", g.inputs.size(), g.outputs.size(), n.inputs());
  Rounds r;
  r.carried = rest(n, 2, n.inputs() - 2);
  r.stacks = g.outputs.size() - 1 - r.carried.size();
  r.has_count = false;
  if (n.has(0)) {
    r.number = n.in(0);
    const auto known = l.sizes_of(r.number);
    if (known && known->size() == 1 && !((*known)[0].is_constant() && (*known)[0].constant() > INT32_MAX))
      r.has_count = true, r.count = (*known)[0];
    // More rounds than there are numbers for: the condition ends them.
    if (known && !r.has_count) r.number = Value();
  }
  if (n.has(1)) r.first = n.in(1);
  if (!r.has_count && r.stacks && r.first.is_absent()) fail("it gives rows, and how many the graph computes");
  r.body = [&](const Value& round, const std::vector<Value>& carried) {
    std::vector<Value> in = {round, Lowering::ints({1}, {}, Elem::kBool)};
    in.insert(in.end(), carried.begin(), carried.end());
    std::vector<Value> out = l.inline_graph(g, in);
    if (out[0].is_constant() && is_true(out[0]) && r.has_count) out[0] = Value();
    return out;
  };
  const std::vector<Value> out = run(l, r, int64_t(g.nodes.size()));
  for (size_t i = 0; i < out.size(); ++i) n.set(i, out[i]);
}

void lower_scan(Lowering& l, const Node& n) {
  const OnnxGraph& g = graph_of(n, "body");
  const int64_t scanned = n.integer("num_scan_inputs", 0);
  if (n.opset() < 9) fail("of opset %lld", static_cast<long long>(n.opset()));
  if (scanned < 1 || size_t(scanned) > n.inputs() || g.inputs.size() != n.inputs()) fail("its graph has other inputs");
  const size_t states = n.inputs() - size_t(scanned);
  if (g.outputs.size() < states) fail("its graph has other outputs");
  Rounds r;
  r.carried = rest(n, 0, states);
  r.stacks = g.outputs.size() - states;
  const std::vector<int64_t> in_axes = n.integers("scan_input_axes"), in_ways = n.integers("scan_input_directions"),
                             out_axes = n.integers("scan_output_axes"), out_ways = n.integers("scan_output_directions");
  const auto item = [](const std::vector<int64_t>& list, size_t i) { return i < list.size() ? list[i] : 0; };
  // Rows at the front, in the order of the rounds.
  std::vector<Value> sources;
  for (size_t k = 0; k < size_t(scanned); ++k) {
    Value v = n.in(states + k);
    const int64_t given = item(in_axes, k), axis = given < 0 ? given + v.rank() : given;
    if (axis < 0 || axis >= v.rank())
      fail("it runs along axis %lld of %s", static_cast<long long>(given), text(v.shape).c_str());
    Perm perm = {int(axis)};
    for (int i = 0; i < v.rank(); ++i)
      if (i != axis) perm.push_back(i);
    v = l.plain(l.transpose(v, perm));
    if (k && !(v.shape[0] == r.count))
      fail("it runs along %s and %s rows", r.count.text().c_str(), v.shape[0].text().c_str());
    r.count = v.shape[0];
    sources.push_back(v);
  }
  r.body = [&](const Value& round, const std::vector<Value>& carried) {
    std::vector<Value> in = carried;
    for (size_t k = 0; k < sources.size(); ++k) {
      const Value& v = sources[k];
      Value at = round;
      if (item(in_ways, k)) {
        const Value last = Lowering::ints({r.count - 1}, {});
        at = round.is_constant()
                 ? Lowering::ints({(*last.ints)[0] - (*round.ints)[0]}, {})
                 : l.arithmetic(format::ArithmeticKind::sub, l.reshape(last, {1}), l.reshape(round, {1}), Elem::kInt);
      }
      Sizes shape = v.shape;
      shape[0] = 1;
      in.push_back(l.reshape(l.emit("gather", {v, l.reshape(at, {1})}, shape, format::GatherAttrsT(), v.elem),
                             Sizes(shape.begin() + 1, shape.end())));
    }
    std::vector<Value> out = l.inline_graph(g, in);
    out.insert(out.begin(), Value());
    return out;
  };
  std::vector<Value> out = run(l, r, int64_t(g.nodes.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    if (i < states) {
      n.set(i, out[i]);
      continue;
    }
    Value v = out[i];
    const size_t k = i - states;
    if (item(out_ways, k)) v = reversed(l, v);
    const int64_t given = item(out_axes, k), axis = given < 0 ? given + v.rank() : given;
    if (axis < 0 || axis >= v.rank()) fail("it stacks along axis %lld", static_cast<long long>(given));
    Perm perm;
    for (int a = 1; a < v.rank(); ++a) perm.push_back(a);
    perm.insert(perm.begin() + axis, 0);
    n.set(i, l.transpose(v, perm));
  }
}

// --- the parts of Lowering that they need

std::vector<Value> Lowering::inline_graph(const OnnxGraph& g, const std::vector<Value>& inputs) {
  constexpr size_t kMostNested = 32;
  if (scopes_.size() > kMostNested) fail("graphs are nested too deeply");
  if (inputs.size() != g.inputs.size()) fail("a graph has %zu inputs, given are %zu", g.inputs.size(), inputs.size());
  const OnnxNode* outer = now_;
  const size_t problems = problems_.size();
  enter(g);
  std::vector<Value> out;
  try {
    for (size_t i = 0; i < inputs.size(); ++i) define(g.inputs[i].name, inputs[i]);
    lower_nodes(g);
    if (problems_.size() > problems) fail("what it holds cannot be converted");
    for (const OnnxValueInfo& o : g.outputs) {
      const Value* v = find(o.name);
      if (!v) fail("output \"%s\" of its graph is made by no node", printable(o.name).c_str());
      out.push_back(*v);
    }
  } catch (...) {
    scopes_.pop_back();
    now_ = outer;
    throw;
  }
  scopes_.pop_back();
  now_ = outer;
  return out;
}

std::string Lowering::local_name(const Value& v) {
  const std::string name = name_of(v);
  if (v.is_known()) return name;
  const auto it = level_of_.find(name);
  const size_t home = it == level_of_.end() ? 0 : it->second;
  for (size_t level = home + 1; level < levels_.size(); ++level) {
    Level& part = levels_[level];
    if (std::find(part.seen.begin(), part.seen.end(), name) != part.seen.end()) continue;
    part.seen.push_back(name);
    auto input = std::make_unique<format::ValueT>(value_of(*levels_[level - 1].program, name));
    input->role = format::Role::none;
    part.program->inputs.push_back(std::move(input));
  }
  return name;
}

Lowering::Part Lowering::separate(const std::string& what,
                                  const std::function<std::vector<Value>(std::vector<Value>)>& write,
                                  const std::vector<Value>& inputs) {
  auto program = std::make_unique<format::ProgramT>();
  program->name = unique((now_ ? now_->name : std::string("main")) + "." + what);
  Part part{program.get(), {}, {}};
  builder_.model.programs.push_back(std::move(program));
  levels_.push_back({part.program, {}});
  program_ = part.program;
  std::vector<Value> own;
  for (const Value& v : inputs) {
    Value input;
    input.elem = v.elem, input.shape = v.shape, input.perm = identity(v.rank());
    input.name = unique(what);
    level_of_[input.name] = levels_.size() - 1;
    Names shape;
    for (const Size& s : v.shape) shape.push_back(s.text());
    auto declared = std::make_unique<format::ValueT>();
    declared->name = input.name, declared->shape = shape;
    declared->dtype = v.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32;
    part.program->inputs.push_back(std::move(declared));
    own.push_back(std::move(input));
  }
  const auto leave = [&] {
    part.seen = levels_.back().seen;
    levels_.pop_back();
    program_ = levels_.back().program;
  };
  try {
    std::set<std::string> given;
    for (Value& v : write(own)) {
      v = plain(v);
      const std::string from = local_name(v);
      const bool is_input = std::any_of(part.program->inputs.begin(), part.program->inputs.end(),
                                        [&](const auto& i) { return i->name == from; });
      // Each output is a value of its own that an operator makes.
      if (v.is_known() || is_input || !given.insert(from).second) {
        Names shape;
        for (const Size& s : v.shape) shape.push_back(s.text());
        Value copy = v;
        copy.floats = nullptr, copy.ints = nullptr, copy.source = nullptr;
        copy.perm = identity(v.rank());
        copy.name = unique("output");
        level_of_[copy.name] = levels_.size() - 1;
        add_value(*program_, copy.name, shape, v.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32);
        program_->ops.push_back(new_op("reshape", {from}, {copy.name}));
        given.insert(copy.name);
        v = copy;
      }
      part.program->outputs.push_back(v.name);
      part.outputs.push_back(v);
    }
  } catch (...) {
    leave();
    throw;
  }
  leave();
  // The values of this place that it sees, from here.
  for (const std::string& name : part.seen) {
    Value v;
    v.name = name;
    local_name(v);
  }
  return part;
}

std::vector<Value> Lowering::control(const char* op, const Names& inputs, const std::vector<Result>& results,
                                     const std::string& program, const std::string& otherwise) {
  auto made = new_op(op, inputs, {});
  format::ControlAttrsT attrs;
  attrs.program = program, attrs.otherwise = otherwise;
  made->attrs.Set(std::move(attrs));
  return append(std::move(made), results);
}

void Lowering::take_back(const Mark& m) {
  program_->ops.resize(m.ops);
  program_->values.resize(m.values);
  builder_.model.programs.resize(m.programs);
}

}  // namespace runnel::convert
