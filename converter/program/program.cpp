#include "converter/program/program.h"

#include <algorithm>

namespace runnel::convert {
namespace {

// Axes in front of dims.
int axes_before(const std::string& axis) {
  return axis.empty() ? 0 : 1 + int(std::count(axis.begin(), axis.end(), ' '));
}

}  // namespace

std::vector<uint64_t> as_shape(const std::vector<int64_t>& dims) { return {dims.begin(), dims.end()}; }

Names shape_of(const std::string& axis, const std::vector<int64_t>& dims) {
  Names out;
  for (size_t at = 0; at < axis.size();) {
    const size_t end = std::min(axis.find(' ', at), axis.size());
    out.push_back(axis.substr(at, end - at));
    at = end + 1;
  }
  for (int64_t d : dims) out.push_back(std::to_string(d));
  return out;
}

Var Program::input(const std::string& name, const std::string& axis, const std::vector<int64_t>& dims,
                   format::DType dtype, format::Role role) {
  graph_.add_input(name, dtype, shape_of(axis, dims), role);
  return {name, axis, dims};
}

Var Program::make(const std::string& what, const std::string& axis, const std::vector<int64_t>& dims, bool is_plain,
                  format::DType dtype) {
  std::string name = own_name(what);
  const int n = used_names_[name]++;
  if (!is_plain || n) name += "#" + std::to_string(n + 1);
  graph_.value(name, shape_of(axis, dims), dtype);
  return {name, axis, dims};
}

Var Program::op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims,
                const Names& more_outputs) {
  const Var y = make(name, axis, dims);
  Names outputs = {y.name};
  outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
  graph_.op(name, inputs, outputs);
  return y;
}

std::string Program::constant(const std::string& name, const std::vector<float>& values,
                              const std::vector<int64_t>& shape) {
  const std::string to = own_name(name);
  if (is_new(to) && !builder_.has_tensor(to))
    builder_.add_floats(to, values,
                        shape == std::vector<int64_t>{-1} ? std::vector<uint64_t>{values.size()} : as_shape(shape));
  return to;
}

std::string Program::matrix(const std::string& name, const SourceTensor& source, bool is_delicate) {
  const std::string to = own_name(name);
  if (is_new(to) && !builder_.has_tensor(to)) builder_.add_matrix(to, source, is_delicate);
  return to;
}

std::string Program::state(const std::string& name, const std::vector<int64_t>& shape, format::DType dtype,
                           const std::string& initial) {
  auto s = std::make_unique<format::StateT>();
  s->name = own_name(name);
  s->kind = format::StateKind::recurrent;
  s->dtype = dtype;
  s->initial = initial;
  for (int64_t d : shape) s->shape.push_back(std::to_string(d));
  builder_.model.states.push_back(std::move(s));
  return own_name(name);
}

void Program::attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim,
                               int64_t value_dim) {
  graph_.add_attention_states(own_name(name), window, kv_heads, key_dim, value_dim);
}

std::vector<Var> Program::products(const Var& x, const std::vector<Weight>& weights) {
  Names inputs = {x.name}, outputs;
  std::vector<Var> vars;
  for (const Weight& w : weights) {
    inputs.push_back(w.matrix);
    std::vector<int64_t> dims(x.dims.begin(), x.dims.end() - 1);
    dims.insert(dims.end(), w.dims.begin(), w.dims.end());
    vars.push_back(make("matmul", x.axis, dims));
    outputs.push_back(vars.back().name);
  }
  graph_.op("matmul", inputs, outputs);
  return vars;
}

Var Program::times(const Var& x, const std::string& matrix_name, const std::string& bias,
                   const std::vector<int64_t>& dims) {
  Names inputs = {x.name, matrix_name};
  if (!bias.empty()) inputs.push_back(bias);
  std::vector<int64_t> out(x.dims.begin(), x.dims.end() - 1);
  out.insert(out.end(), dims.begin(), dims.end());
  return op("matmul", inputs, x.axis, out);
}

Var Program::rms_norm(const Var& x, const std::string& weight, double eps, const Var* residual) {
  format::NormAttrsT attrs;
  attrs.eps = float(eps);
  Names inputs = {x.name};
  if (!weight.empty() || residual) inputs.push_back(weight);
  if (residual) inputs.push_back(residual->name);
  return op("rms_norm", inputs, x.axis, x.dims, {}, attrs);
}

Var Program::layer_norm(const Var& x, const std::string& weight, const std::string& bias, double eps) {
  format::NormAttrsT attrs;
  attrs.eps = float(eps);
  Names inputs = {x.name};
  if (!weight.empty() || !bias.empty()) inputs.push_back(weight);
  if (!bias.empty()) inputs.push_back(bias);
  return op("layer_norm", inputs, x.axis, x.dims, {}, attrs);
}

Var Program::unary(format::UnaryKind kind, const Var& x, float alpha) {
  format::UnaryAttrsT attrs;
  attrs.kind = kind;
  attrs.alpha = alpha;
  return op("unary", {x.name}, x.axis, x.dims, {}, attrs);
}

Var Program::binary(format::BinaryKind kind, const Var& x, const Var& y) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  if (x.axis != y.axis) fail("recipe: %s and %s have different axes in front", x.name.c_str(), y.name.c_str());
  // Axes meet from the end; those in front must meet each other.
  if (x.dims.size() != y.dims.size()) fail("recipe: %s and %s have different ranks", x.name.c_str(), y.name.c_str());
  std::vector<int64_t> dims = x.dims;
  for (size_t i = 0; i < dims.size(); ++i) dims[i] = std::max(x.dims[i], y.dims[i]);
  return op("binary", {x.name, y.name}, x.axis, dims, {}, attrs);
}

Var Program::binary(format::BinaryKind kind, const Var& x, const std::string& tensor) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  return op("binary", {x.name, tensor}, x.axis, x.dims, {}, attrs);
}

Var Program::glu(format::UnaryKind activation, const Var& gate, const Var& up) {
  format::GluAttrsT attrs;
  attrs.activation = activation;
  return op("glu", {gate.name, up.name}, gate.axis, gate.dims, {}, attrs);
}

Var Program::rotate(const Var& x, const std::string& positions, const std::string& table, bool interleaved, float scale,
                    const std::vector<uint8_t>& sections) {
  format::RopeAttrsT attrs;
  attrs.sections = sections;
  attrs.interleaved = interleaved;
  attrs.scale = scale;
  return op("rope", {x.name, positions, table}, x.axis, x.dims, {}, attrs);
}

Var Program::reshape(const Var& x, const std::vector<int64_t>& dims) { return op("reshape", {x.name}, x.axis, dims); }

Var Program::slice(const Var& x, int axis, int64_t begin, int64_t count) {
  format::SliceAttrsT attrs;
  attrs.axis = uint8_t(axis);
  attrs.begin = begin;
  std::vector<int64_t> dims = x.dims;
  dims[size_t(axis - axes_before(x.axis))] = count;
  return op("slice", {x.name}, x.axis, dims, {}, attrs);
}

Var Program::concat(const std::vector<Var>& parts, int axis) {
  constexpr size_t kMost = 16;  // inputs of the operator
  if (parts.size() == 1) return parts[0];
  if (parts.size() > kMost) {
    std::vector<Var> groups;
    for (size_t i = 0; i < parts.size(); i += kMost)
      groups.push_back(
          concat({parts.begin() + long(i), parts.begin() + long(std::min(i + kMost, parts.size()))}, axis));
    return concat(groups, axis);
  }
  format::ConcatAttrsT attrs;
  attrs.axis = uint8_t(axis);
  Names inputs;
  std::vector<int64_t> dims = parts[0].dims;
  const size_t at = size_t(axis - axes_before(parts[0].axis));
  int64_t& n = dims[at];
  n = 0;
  for (const Var& p : parts) {
    inputs.push_back(p.name);
    n += p.dims[at];
  }
  return op("concat", inputs, parts[0].axis, dims, {}, attrs);
}

}  // namespace runnel::convert
