#include "converter/passes/name_values.h"

#include <map>
#include <set>
#include <string>

namespace runnel::convert {
namespace {

using Names = std::vector<std::string>;

bool starts_with(const std::string& text, const std::string& part) { return text.compare(0, part.size(), part) == 0; }
bool ends_with(const std::string& text, const std::string& part) {
  return text.size() >= part.size() && text.compare(text.size() - part.size(), std::string::npos, part) == 0;
}

// "layers.0.mlp" of "layers.0.mlp.gate_proj" and "layers.0.mlp.up_proj".
std::string common_module(const std::string& a, const std::string& b) {
  const std::string x = a + ".", y = b + ".";
  size_t end = 0;
  for (size_t i = 0; i < std::min(x.size(), y.size()) && x[i] == y[i]; ++i)
    if (x[i] == '.') end = i;
  return a.substr(0, end);
}

// What an operator does, as part of a name.
std::string label_of(const format::OpT& op) {
  if (const auto* unary = op.attrs.AsUnaryAttrs()) return format::EnumNameUnaryKind(unary->kind);
  if (const auto* binary = op.attrs.AsBinaryAttrs()) return format::EnumNameBinaryKind(binary->kind);
  if (op.name == "unary") return format::EnumNameUnaryKind(format::UnaryKind::none);
  return op.name == "binary" ? format::EnumNameBinaryKind(format::BinaryKind::add) : op.name;
}

class Namer {
 public:
  Namer(const format::ModelT& model, format::ProgramT& program) : program_(program) {
    for (const auto& t : model.tensors) tensors_.insert(t->name);
    for (const auto& s : model.states) taken_.insert(s->name);
    for (const auto& v : program.inputs) taken_.insert(v->name);
    taken_.insert(tensors_.begin(), tensors_.end());
    for (const auto& v : program.values) all_.insert(v->name);
    for (const auto& op : program.ops)
      for (const std::string& out : op->outputs) {
        if (!all_.count(out)) continue;
        if (!is_numbered(*op, out)) taken_.insert(out);
        else if (const size_t dot = out.rfind('.', out.rfind('#')); dot != std::string::npos)
          scopes_.insert(out.substr(0, dot + 1));
      }
  }
  void run() {
    for (const auto& op : program_.ops)
      for (size_t i = 0; i < op->outputs.size(); ++i)
        if (all_.count(op->outputs[i])) name(*op, i);
    name_layers();
    const auto rename = [&](std::string& name) {
      if (const auto it = values_.find(name); it != values_.end()) name = it->second.name;
    };
    for (const auto& v : program_.values) rename(v->name);
    for (const auto& op : program_.ops) {
      for (std::string& in : op->inputs) rename(in);
      for (std::string& out : op->outputs) rename(out);
    }
    for (auto* list : {&program_.outputs, &program_.optional_outputs})
      for (std::string& out : *list) rename(out);
  }

 private:
  struct Value {
    std::string name, module, scope;
  };

  // Whether the name is a layer's prefix, the operator and a number.
  static bool is_numbered(const format::OpT& op, const std::string& name) {
    const size_t number = name.rfind('#'), dot = number == std::string::npos ? number : name.rfind('.', number),
                 begin = dot == std::string::npos ? 0 : dot + 1;
    return number != std::string::npos && name.compare(begin, number - begin, op.name) == 0;
  }
  // "layers.0." of "layers.0.self_attn.q_proj".
  std::string scope_of(const std::string& old) const {
    std::string found;
    for (const std::string& s : scopes_)
      if (s.size() > found.size() && starts_with(old, s)) found = s;
    return found;
  }
  void name(const format::OpT& op, size_t output) {
    const std::string& old = op.outputs[output];
    Value v{old, old, scope_of(old)};
    if (is_numbered(op, old)) {
      bool is_plain = false;
      v.module = module_of(op, output, v.scope, &is_plain);
      const bool adds_residual = op.name == "rms_norm" && op.inputs.size() == 3;
      v.name = v.module;
      if (!is_plain || adds_residual) v.name += (v.name.empty() ? "" : ".") + (adds_residual ? "add" : label_of(op));
      const std::string base = v.name;
      for (int n = 2; !taken_.insert(v.name).second; ++n) v.name = base + "#" + std::to_string(n);
    }
    if (is_numbered(op, old)) numbered_.insert(old);
    values_[old] = v;
  }
  // is_plain: the module's weight and the operator are all that there is to it.
  std::string module_of(const format::OpT& op, size_t output, const std::string& scope, bool* is_plain) const {
    static const std::set<std::string> kModules = {"rms_norm", "layer_norm", "embedding", "matmul"};
    const bool has_matrix = op.name == "matmul" || op.name == "routed_matmul";
    for (size_t i = op.name == "matmul" ? 1 + output : 0; i < op.inputs.size(); ++i) {
      const std::string& in = op.inputs[i];
      if (!tensors_.count(in)) continue;
      if (ends_with(in, ".weight")) {
        *is_plain = kModules.count(op.name) != 0;
        return in.substr(0, in.size() - 7);
      }
      if (has_matrix) return in;
    }
    std::string module;
    for (const std::string& in : op.inputs) {
      const auto it = values_.find(in);
      if (it == values_.end() || !starts_with(it->second.module + ".", scope)) continue;
      module = module.empty() ? it->second.module : common_module(module, it->second.module);
    }
    return module.empty() && !scope.empty() ? scope.substr(0, scope.size() - 1) : module;
  }
  void name_layers() {
    std::map<std::string, std::set<std::string>> leaving;  // scope -> its values that others read
    const auto scope = [&](const std::string& value) {
      return values_.count(value) ? values_[value].scope : std::string();
    };
    for (const auto& op : program_.ops)
      for (const std::string& in : op->inputs)
        if (const std::string from = scope(in); !from.empty() && from != scope(op->outputs[0]))
          leaving[from].insert(in);
    for (const auto& [from, values] : leaving) {
      const std::string layer = from.substr(0, from.size() - 1);
      if (values.size() == 1 && numbered_.count(*values.begin()) && taken_.insert(layer).second)
        values_[*values.begin()].name = layer;
    }
  }

  format::ProgramT& program_;
  std::set<std::string> all_, numbered_, tensors_, taken_, scopes_;  // all_, numbered_: values by their old names
  std::map<std::string, Value> values_;                              // by the old name
};

}  // namespace

void name_values(format::ModelT& model) {
  for (const auto& program : model.programs) Namer(model, *program).run();
}

}  // namespace runnel::convert
