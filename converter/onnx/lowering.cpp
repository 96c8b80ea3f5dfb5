#include "converter/onnx/lowering.h"

#include <algorithm>
#include <set>

namespace runnel::convert {
namespace {

LowerFn function_of(const OnnxNode& node) {
  static const std::map<std::string, LowerFn> kFunctions = {
#define RNL_ONNX(op, function) {#op, function},
#include "converter/onnx/operators.inc"
#undef RNL_ONNX
  };
  if (!node.domain.empty()) return nullptr;
  const auto it = kFunctions.find(node.op);
  return it == kFunctions.end() ? nullptr : it->second;
}

std::string kind_of(const OnnxNode& node) { return (node.domain.empty() ? "" : node.domain + ".") + node.op; }

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
      program_(*builder.model.programs.back()) {}

Value* Lowering::find(const std::string& name) {
  const auto it = values_.find(name);
  return it == values_.end() ? nullptr : &it->second;
}
void Lowering::define(const std::string& name, Value v) {
  if (!values_.emplace(name, std::move(v)).second) fail("value \"%s\" is made twice", printable(name).c_str());
}

const OnnxNode* Lowering::only_reader(const std::string& value, const char* op) const {
  const auto it = readers_.find(value);
  if (it == readers_.end() || it->second.size() != 1 || outputs_.count(value)) return nullptr;
  const OnnxNode* reader = it->second[0];
  return reader->op == op && reader->domain.empty() && !done_.count(reader) ? reader : nullptr;
}

bool Lowering::is_sole_reader(const std::string& value) const {
  const auto it = readers_.find(value);
  return it != readers_.end() && it->second.size() == 1 && !outputs_.count(value);
}

Value Lowering::packed(std::string name) {
  Value v;
  v.name = std::move(name);
  return v;
}

void Lowering::limit(const Size& size, int64_t most) {
  for (auto& s : builder_.model.symbols) {
    if (s->kind != format::SymbolKind::axis) continue;
    const Size rest = size - Size::symbol(s->name);
    if (rest.is_constant()) s->bound = "min(" + s->bound + "," + std::to_string(most - rest.constant()) + ")";
  }
}

std::string Lowering::unique(const std::string& name) {
  std::string out = name;
  for (int n = 2; !names_.insert(out).second; ++n) out = name + "#" + std::to_string(n);
  return out;
}

// The symbol of a size that the call gives, or its only value.
std::string Lowering::symbol(const OnnxDim& dim, const OnnxValueInfo& input, size_t axis, bool is_batch) {
  const std::string name = dim.name.empty() ? input.name + "_" + std::to_string(axis) : dim.name;
  if (const auto it = symbols_.find(name); it != symbols_.end()) return it->second;
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
      case kOnnxI32:
      case kOnnxI64: value.elem = Elem::kInt; break;
      case kOnnxBool: value.elem = Elem::kBool; break;
      default: fail("input \"%s\" has element type %d, which is not supported", printable(v.name).c_str(), v.type);
    }
    Names shape;
    for (size_t i = 0; i < v.shape.size(); ++i) {
      const OnnxDim& d = v.shape[i];
      const bool is_batch = i == 0 && v.shape.size() > 1 && !d.name.empty() && !inner.count(d.name);
      if (d.size >= 0) {
        value.shape.push_back(d.size);
      } else {
        const std::string s = symbol(d, v, i, is_batch);
        value.shape.push_back(s == "1" ? Size(1) : Size::symbol(s));
      }
      shape.push_back(value.shape.back().text());
      value.perm.push_back(int(i));
    }
    value.name = v.name;
    names_.insert(v.name);
    graph_.add_input(v.name, value.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32, shape,
                     format::Role::none);
    define(v.name, std::move(value));
  }
  for (const auto& [name, used] : options_.axes)
    if (!symbols_.count(name)) fail("--axis %s: the graph's inputs have no axis of this name", printable(name).c_str());
}

void Lowering::lower(const OnnxNode& node) {
  now_ = &node;
  Lowered& row = lowered_[kind_of(node)];
  ++row.nodes;
  for (const std::string& name : node.inputs)
    if (!name.empty() && !values_.count(name))
      fail("it reads \"%s\", which nothing before it makes", printable(name).c_str());
  function_of(node)(*this, Node(*this, node, model_.opset()));
  for (const std::string& name : node.outputs)
    if (!name.empty() && !values_.count(name) && readers_.count(name))
      fail("its output \"%s\" is not supported", printable(name).c_str());
}

void Lowering::run() {
  const OnnxGraph& g = model_.graph();
  for (const OnnxNode& n : g.nodes)
    for (const std::string& name : n.inputs) readers_[name].push_back(&n);
  for (const OnnxValueInfo& v : g.outputs) outputs_.insert(v.name), names_.insert(v.name);
  add_inputs();
  for (const auto& [name, tensor] : g.initialisers) {
    if (!tensor) {
      poisoned_.insert(name);
      continue;
    }
    define(name, tensor_value(*tensor));
  }
  // What cannot be lowered is collected; what hangs on it is passed over.
  constexpr size_t kMostProblems = 100;
  std::vector<std::string> problems;
  for (const OnnxNode& n : g.nodes) {
    if (done_.count(&n)) continue;
    const bool is_poisoned =
        std::any_of(n.inputs.begin(), n.inputs.end(), [&](const auto& i) { return poisoned_.count(i); });
    std::string problem;
    if (!function_of(n)) {
      problem = "is not supported";
    } else if (!is_poisoned) {
      try {
        lower(n);
      } catch (const Error& e) {
        problem = e.what();
      }
    }
    if (!problem.empty() && problems.size() < kMostProblems)
      problems.push_back(printable(kind_of(n)) + " (opset " + std::to_string(model_.opset()) + "), node \"" +
                         printable(n.name) + "\": " + problem);
    if (!problem.empty() || is_poisoned)
      for (const std::string& name : n.outputs)
        if (!values_.count(name)) poisoned_.insert(name);
  }
  now_ = nullptr;
  if (problems.empty()) return add_outputs();
  std::string all = where_ + ": " + std::to_string(problems.size()) +
                    (problems.size() == kMostProblems ? " or more" : "") + (problems.size() == 1 ? " node" : " nodes") +
                    " cannot be converted:";
  for (const std::string& p : problems) all += "\n  " + p;
  throw Error(all);
}

void Lowering::add_outputs() {
  std::set<std::string> given;
  for (const auto& v : program_.inputs) given.insert(v->name);
  for (const OnnxValueInfo& o : model_.graph().outputs) {
    Value* found = find(o.name);
    if (!found) fail("output \"%s\" is made by no node", printable(o.name).c_str());
    const Value v = plain(*found);
    const std::string from = name_of(v);
    if (given.count(o.name)) fail("output \"%s\" is an input of that name", printable(o.name).c_str());
    // What an operator makes gets the output's name; another name for a value, input or tensor is a view of it.
    const bool is_made = !given.count(from) && find_value(program_, from);
    if (is_made) {
      for (auto& value : program_.values)
        if (value->name == from) value->name = o.name;
      for (auto& op : program_.ops) {
        std::replace(op->inputs.begin(), op->inputs.end(), from, o.name);
        std::replace(op->outputs.begin(), op->outputs.end(), from, o.name);
      }
      for (auto& [name, value] : values_)
        if (value.name == from) value.name = o.name;
    } else {
      Names shape;
      for (const Size& s : v.shape) shape.push_back(s.text());
      add_value(program_, o.name, shape, v.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32);
      graph_.op("reshape", {from}, {o.name});
    }
    given.insert(o.name);
    graph_.add_output(o.name);
  }
}

std::string Lowering::report() const {
  std::string out;
  for (const auto& [kind, row] : lowered_) {
    out += kind + " " + std::to_string(row.nodes) + " ->";
    if (row.operators.empty()) out += " known sizes, numbers and notes";
    const char* between = " ";
    for (const auto& [op, n] : row.operators) out += between + op + " " + std::to_string(n), between = " + ";
    out += "\n";
  }
  return out;
}

}  // namespace runnel::convert
