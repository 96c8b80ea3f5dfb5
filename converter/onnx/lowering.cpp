#include "converter/onnx/lowering.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <set>

#include "converter/onnx/fusion.h"

namespace runnel::convert {
namespace {

constexpr size_t kMostProblems = 100;

// Whether the name of an axis says that it runs along a sequence.
bool counts_steps(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  const char* const words[] = {"seq", "time", "token", "length", "frame", "step"};
  return std::any_of(std::begin(words), std::end(words), [&](const char* w) { return name.find(w) != name.npos; });
}

std::string kind_of(const OnnxNode& node) { return (node.domain.empty() ? "" : node.domain + ".") + node.op; }

LowerFn function_of(const OnnxNode& node) {
  static const std::map<std::string, LowerFn> kFunctions = {
#define RNL_ONNX(op, function) {#op, function},
#define RNL_ONNXRUNTIME(op, function) {"com.microsoft." #op, function},
#include "converter/onnx/operators.inc"
#undef RNL_ONNX
  };
  const auto it = kFunctions.find(kind_of(node));
  return it == kFunctions.end() ? nullptr : it->second;
}

// A name as expressions over sizes can hold it.
std::string symbol_name(const std::string& name) {
  std::string out;
  for (char c : name) out += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  if (out.empty() || std::isdigit(static_cast<unsigned char>(out[0]))) out = "n" + out;
  return out.substr(0, 60);
}

}  // namespace

bool Value::is_constant() const {
  if (floats || source) return true;
  return ints && std::all_of(ints->begin(), ints->end(), [](const Size& s) { return s.is_constant(); });
}

Lowering::Lowering(const OnnxModel& model, const std::string& where, const LowerOptions& options, ModelBuilder& builder)
    : model_(model),
      where_(where),
      options_(options),
      builder_(builder),
      graph_(builder, "main"),
      program_(builder.model.programs.back().get()) {
  levels_.push_back({program_, {}});
}

Value* Lowering::find(const std::string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (const auto it = scope->values.find(name); it != scope->values.end()) return &it->second;
  return nullptr;
}
void Lowering::define(const std::string& name, Value v) {
  if (!scopes_.back().values.emplace(name, std::move(v)).second)
    fail("value \"%s\" is made twice", printable(name).c_str());
}

const Lowering::Scope* Lowering::scope_of(const std::string& value) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (scope->readers.count(value)) return &*scope;
  return nullptr;
}

const OnnxNode* Lowering::only_reader(const std::string& value, const char* op) const {
  if (!is_sole_reader(value)) return nullptr;
  const Scope* scope = scope_of(value);
  const OnnxNode* reader = scope->readers.at(value)[0];
  return scope == &scopes_.back() && reader->op == op && reader->domain.empty() && !scope->done.count(reader) ? reader
                                                                                                              : nullptr;
}

bool Lowering::has_readers(std::string value, size_t count) const {
  for (;;) {
    const Scope* scope = scope_of(value);
    if (!scope || scope->readers.at(value).size() != count || scope->outputs.count(value)) return false;
    const auto maker = scope->makers.find(value);
    if (maker == scope->makers.end()) return false;
    const auto made = scope->values.find(value);
    if (made == scope->values.end() || made->second.name.empty()) return true;  // now_ makes it, or the file holds it
    const std::string* same = nullptr;
    for (const std::string& from : maker->second->inputs)
      if (const auto it = scope->values.find(from); it != scope->values.end() && it->second.name == made->second.name)
        same = &from;
    if (!same) return true;
    value = *same, count = 1;
  }
}

bool Lowering::has_other_names(const std::string& value) const {
  const Scope* scope = scope_of(value);
  const auto made = scope ? scope->values.find(value) : scopes_.back().values.end();
  if (!scope || made == scope->values.end()) return false;
  for (const OnnxNode* reader : scope->readers.at(value))
    for (const std::string& to : reader->outputs)
      if (const auto it = scope->values.find(to); it != scope->values.end() && it->second.name == made->second.name)
        return true;
  return false;
}

const Value* Lowering::ahead(const std::string& name) {
  if (const Value* v = find(name)) return v;
  const auto& makers = scopes_.back().makers;
  const auto it = makers.find(name);
  if (it == makers.end() || (it->second->op != "Constant" && it->second->op != "Identity")) return nullptr;
  for (const std::string& in : it->second->inputs)
    if (!ahead(in)) return nullptr;
  const OnnxNode* before = now_;
  lower(*it->second);
  take_over(it->second);
  now_ = before;
  return find(name);
}

Value Lowering::packed(std::string name) {
  Value v;
  v.name = std::move(name);
  return v;
}

const OnnxNode* Lowering::producer(const std::string& value) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (scope->values.count(value)) {
      const auto it = scope->makers.find(value);
      return it == scope->makers.end() ? nullptr : it->second;
    }
  return nullptr;
}

void Lowering::limit(const Size& size, int64_t most) {
  for (auto& s : builder_.model.symbols) {
    if (s->kind != format::SymbolKind::axis) continue;
    const Size rest = size - Size::symbol(s->name);
    if (rest.is_constant()) s->bound = "min(" + s->bound + "," + std::to_string(most - rest.constant()) + ")";
  }
}

Size Lowering::result_size(const Size& bound) {
  if (levels_.size() > 1) fail("how much it finds hangs on numbers within an If or a Loop");
  std::string name = "found";
  const auto is_taken = [&] {
    return std::any_of(builder_.model.symbols.begin(), builder_.model.symbols.end(),
                       [&](const auto& s) { return s->name == name; });
  };
  for (int n = 2; is_taken(); ++n) name = "found_" + std::to_string(n);
  graph_.add_symbol(name, format::SymbolKind::result, bound.text());
  return Size::symbol(name);
}

void Lowering::bind(const Value& v, const Size& size) {
  for (auto& value : program_->values)
    if (value->name == v.name) value->binds = size.text();
}

std::string Lowering::unique(const std::string& name) {
  std::string out = name;
  for (int n = 2; !names_.insert(out).second; ++n) out = name + "#" + std::to_string(n);
  return out;
}

// The symbol of a size that the call gives, or its only value.
std::string Lowering::symbol(const OnnxDim& dim, const OnnxValueInfo& input, size_t axis, bool is_batch) {
  // "?" is nobody's name: two axes that have it need not be alike.
  const bool is_named =
      std::any_of(dim.name.begin(), dim.name.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
  const std::string name = is_named ? dim.name : input.name + "_" + std::to_string(axis);
  if (const auto it = symbols_.find(name); it != symbols_.end()) return it->second;
  if (const auto it = options_.known.find(name); it != options_.known.end())
    return symbols_[name] = std::to_string(int64_t(it->second));
  std::string bound = "context";
  if (const auto it = options_.axes.find(name); it != options_.axes.end()) {
    bound = std::to_string(it->second);
  } else if (is_batch) {
    bound = "1";
    notices.push_back("axis \"" + printable(name) + "\" is 1, the number of inputs side by side; --axis " +
                      printable(name) + "=N for up to N");
  }
  std::string made = bound == "1" ? bound : symbol_name(name);
  if (bound != "1") {
    for (const auto& [other, taken] : symbols_)
      if (taken == made) made += "_";
    for (const char* option : {"context", "chunk", "rollback", "rows"})
      if (made == option) made += "_";
    graph_.add_symbol(made, format::SymbolKind::axis, bound);
  }
  return symbols_[name] = made;
}

void Lowering::add_inputs() {
  for (const char* option : {"context", "chunk", "rollback", "rows"})
    graph_.add_symbol(option, format::SymbolKind::option, "");
  // Sizes that stand on axis 0 of inputs alone count the inputs side by side.
  std::set<std::string> inner;
  for (const OnnxValueInfo& v : model_.graph().inputs)
    for (size_t i = 1; i < v.shape.size(); ++i)
      if (v.shape[i].size < 0) inner.insert(v.shape[i].name);
  for (const OnnxValueInfo& v : model_.graph().inputs) {
    if (!v.has_shape) fail("input \"%s\" has no shape", printable(v.name).c_str());
    if (v.shape.size() > size_t(kMaxRank)) fail("input \"%s\" has %zu axes", printable(v.name).c_str(), v.shape.size());
    Value value;
    switch (v.type) {
      case kOnnxFloat:
      case kOnnxF16:
      case kOnnxBF16:
      case kOnnxF64: break;
      case kOnnxU8:
      case kOnnxI8:
      case kOnnxI32:
      case kOnnxI64: value.elem = Elem::kInt; break;
      case kOnnxBool: value.elem = Elem::kBool; break;
      default: fail("input \"%s\" has element type %d, which is not supported", printable(v.name).c_str(), v.type);
    }
    Names shape;
    for (size_t i = 0; i < v.shape.size(); ++i) {
      const OnnxDim& d = v.shape[i];
      const bool is_batch =
          i == 0 && v.shape.size() > 1 && !d.name.empty() && !inner.count(d.name) && !counts_steps(d.name);
      if (d.size >= 0) {
        value.shape.push_back(d.size);
      } else {
        const std::string s = symbol(d, v, i, is_batch);
        value.shape.push_back(std::isdigit(static_cast<unsigned char>(s[0])) ? Size(std::stoll(s)) : Size::symbol(s));
      }
      shape.push_back(value.shape.back().text());
      value.perm.push_back(int(i));
    }
    if (const auto it = options_.known.find(v.name); it != options_.known.end()) {
      if (!product(value.shape).is(1)) fail("--set %s: the input holds more than a number", printable(v.name).c_str());
      if (value.elem != Elem::kFloat && it->second != std::floor(it->second))
        fail("--set %s: the input holds an integer", printable(v.name).c_str());
      define(v.name, value.elem == Elem::kFloat ? floats({float(it->second)}, value.shape)
                                                : ints({int64_t(it->second)}, value.shape, value.elem));
      continue;
    }
    value.name = v.name;
    names_.insert(v.name);
    graph_.add_input(v.name, value.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32, shape,
                     format::Role::none);
    define(v.name, std::move(value));
  }
  for (const auto& [name, used] : options_.axes)
    if (!symbols_.count(name)) fail("--axis %s: the graph's inputs have no axis of this name", printable(name).c_str());
  for (const auto& [name, used] : options_.known) {
    if (!symbols_.count(name) && !find(name))
      fail("--set %s: the graph has no input and no axis of this name", printable(name).c_str());
    if (symbols_.count(name) && (used < 1 || used != std::floor(used) || used > 1e9))
      fail("--set %s: %g is no size of an axis", printable(name).c_str(), used);
  }
}

void Lowering::lower(const OnnxNode& node) {
  now_ = &node;
  Lowered& row = lowered_[kind_of(node)];
  ++row.nodes;
  for (const std::string& name : node.inputs)
    if (!name.empty() && !find(name)) fail("it reads \"%s\", which nothing before it makes", printable(name).c_str());
  if (node.outputs.empty()) fail("it has no outputs");
  const Node n(*this, node, model_.opset());
  if (!lower_spelt_out(*this, n)) function_of(node)(*this, n);
  const Scope& scope = scopes_.back();
  for (const std::string& name : node.outputs)
    if (!name.empty() && !scope.values.count(name) && scope.readers.count(name))
      fail("its output \"%s\" is not supported", printable(name).c_str());
}

bool Lowering::is_poisoned(const std::string& value) const {
  return std::any_of(scopes_.begin(), scopes_.end(), [&](const Scope& s) { return s.poisoned.count(value); });
}

// Names that a node reads, those of graphs within it too.
static void for_each_read(const OnnxNode& node, const std::function<void(const std::string&)>& fn) {
  for (const std::string& name : node.inputs) fn(name);
  for (const auto& [unused, attribute] : node.attributes) {
    if (!attribute.graph) continue;
    for (const OnnxNode& n : attribute.graph->nodes) for_each_read(n, fn);
    for (const OnnxValueInfo& o : attribute.graph->outputs) fn(o.name);
  }
}

void Lowering::enter(const OnnxGraph& g) {
  Scope scope;
  std::set<std::string> given;
  for (const OnnxValueInfo& v : g.inputs) given.insert(v.name);
  for (const auto& [name, unused] : g.initialisers) given.insert(name);
  for (const OnnxNode& n : g.nodes)
    for_each_read(n, [&](const std::string& name) { scope.readers[name].push_back(&n); });
  for (const OnnxNode& n : g.nodes)
    for (const std::string& name : n.outputs)
      if (!name.empty() && (given.count(name) || !scope.makers.emplace(name, &n).second))
        throw Error((scopes_.empty() ? where_ + ": " : "") + "value \"" + printable(name) + "\" is made twice");
  for (const OnnxValueInfo& v : g.outputs) scope.outputs.insert(v.name);
  scopes_.push_back(std::move(scope));
}

void Lowering::lower_nodes(const OnnxGraph& g) {
  for (const auto& [name, tensor] : g.initialisers)
    if (tensor) define(name, tensor_value(*tensor));
    else scopes_.back().poisoned.insert(name);
  // What cannot be lowered is collected; what hangs on it is passed over.
  for (const OnnxNode& n : g.nodes) {
    if (scopes_.back().done.count(&n)) continue;
    bool is_behind = false;
    for_each_read(n, [&](const std::string& name) { is_behind = is_behind || is_poisoned(name); });
    const size_t before = problems_.size();
    std::string problem;
    if (!function_of(n)) {
      problem = "is not supported";
    } else if (!is_behind) {
      try {
        lower(n);
      } catch (const Error& e) {
        // Where nodes within it were named, they are what is in the way.
        if (problems_.size() == before) problem = e.what();
        is_behind = true;
      }
    }
    if (!problem.empty() && problems_.size() < kMostProblems)
      problems_.push_back(printable(kind_of(n)) + " (opset " + std::to_string(model_.opset()) + "), node \"" +
                          printable(n.name) + "\": " + problem);
    if (!problem.empty() || is_behind)
      for (const std::string& name : n.outputs)
        if (!scopes_.back().values.count(name)) scopes_.back().poisoned.insert(name);
  }
}

void Lowering::run() {
  const OnnxGraph& g = model_.graph();
  enter(g);
  for (const OnnxValueInfo& v : g.outputs) names_.insert(v.name);
  add_inputs();
  lower_nodes(g);
  now_ = nullptr;
  if (problems_.empty()) {
    add_outputs();
    return drop_unread();
  }
  std::string all = where_ + ": " + std::to_string(problems_.size()) +
                    (problems_.size() == kMostProblems ? " or more" : "") +
                    (problems_.size() == 1 ? " node" : " nodes") + " cannot be converted:";
  for (const std::string& p : problems_) all += "\n  " + p;
  throw Error(all);
}

void Lowering::add_outputs() {
  std::set<std::string> given;
  for (const auto& v : program_->inputs) given.insert(v->name);
  for (const OnnxValueInfo& o : model_.graph().outputs) {
    Value* found = find(o.name);
    if (!found) fail("output \"%s\" is made by no node", printable(o.name).c_str());
    if (given.count(o.name)) fail("output \"%s\" is an input of that name", printable(o.name).c_str());
    add_output(plain(*found), o.name, &given);
  }
}

// What an operator makes gets the output's name; another name for a value, input or tensor is a view of it.
void Lowering::add_output(const Value& v, const std::string& name, std::set<std::string>* given) {
  const std::string from = name_of(v);
  const bool is_made = !given->count(from) && find_value(*program_, from);
  if (is_made) {
    for (auto& value : program_->values)
      if (value->name == from) value->name = name;
    for (auto& op : program_->ops) {
      std::replace(op->inputs.begin(), op->inputs.end(), from, name);
      std::replace(op->outputs.begin(), op->outputs.end(), from, name);
    }
    for (auto& [unused, value] : scopes_.front().values)
      if (value.name == from) value.name = name;
  } else {
    Names shape;
    for (const Size& s : v.shape) shape.push_back(s.text());
    add_value(*program_, name, shape, v.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32);
    graph_.op("reshape", {from}, {name});
  }
  given->insert(name);
  graph_.add_output(name);
}

// Operators whose results nothing reads, as those of nodes that are parts of another operator.
void Lowering::drop_unread() {
  std::set<std::string> read(program_->outputs.begin(), program_->outputs.end());
  for (const auto& v : program_->values)
    if (!v->binds.empty()) read.insert(v->name);
  auto& ops = program_->ops;
  std::set<std::string> gone;
  for (size_t i = ops.size(); i-- > 0;) {
    const Names& outputs = ops[i]->outputs;
    if (std::any_of(outputs.begin(), outputs.end(), [&](const std::string& y) { return read.count(y) != 0; })) {
      read.insert(ops[i]->inputs.begin(), ops[i]->inputs.end());
      continue;
    }
    gone.insert(outputs.begin(), outputs.end());
    if (const auto kind = kind_of_.find(ops[i].get()); kind != kind_of_.end()) {
      Lowered& row = lowered_.at(kind->second);
      row.is_within_others = true;
      if (--row.operators.at(ops[i]->name) == 0) row.operators.erase(ops[i]->name);
    }
    ops.erase(ops.begin() + long(i));
  }
  auto& values = program_->values;
  values.erase(std::remove_if(values.begin(), values.end(), [&](const auto& v) { return gone.count(v->name) != 0; }),
               values.end());
}

std::string Lowering::report() const {
  std::string out;
  for (const auto& [kind, row] : lowered_) {
    out += kind + " " + std::to_string(row.nodes) + " ->";
    if (row.operators.empty())
      out += row.is_within_others ? " parts of other operators" : " known sizes, numbers and notes";
    const char* between = " ";
    for (const auto& [op, n] : row.operators) out += between + op + " " + std::to_string(n), between = " + ";
    out += "\n";
  }
  return out;
}

}  // namespace runnel::convert
