// A program written down, one call an operator. Values have any axes and come from any inputs; shapes are carried
// along, values are named after the scope that makes them. It knows no source: matrices and numbers are tensors of the
// file.
#pragma once

#include <map>
#include <set>

#include "converter/program/graph.h"

namespace runnel::convert {

// A value of the program: [axis, dims...]. axis: one size that only a call knows, an expression over the model's
// symbols, or several of them with a space between, or none.
struct Var {
  std::string name;
  std::string axis;
  std::vector<int64_t> dims;
  int64_t width() const {
    int64_t n = 1;
    for (int64_t d : dims) n *= d;
    return n;
  }
};

std::vector<uint64_t> as_shape(const std::vector<int64_t>& dims);

class Program {
 public:
  Program(ModelBuilder& builder, const std::string& name) : builder_(builder), graph_(builder, name) {}

  // What the names of tensors, states and values begin with from here on ("layers.3."). A name that begins with a slash
  // stands without it.
  void set_scope(std::string scope) { scope_ = std::move(scope); }
  std::string own_name(const std::string& name) const { return name[0] == '/' ? name.substr(1) : scope_ + name; }

  Var input(const std::string& name, const std::string& axis, const std::vector<int64_t>& dims,
            format::DType dtype = format::DType::f32, format::Role role = format::Role::none);
  // A value of this scope; numbered unless is_plain and the name is free.
  Var make(const std::string& what, const std::string& axis, const std::vector<int64_t>& dims, bool is_plain = false,
           format::DType dtype = format::DType::f32);
  // Any operator: inputs by name ("" absent), one output of these dims and further outputs by name (states).
  Var op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims,
         const Names& more_outputs = {});
  template <class AttrsT>
  Var op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims,
         const Names& more_outputs, AttrsT attrs) {
    const Var y = make(name, axis, dims);
    Names outputs = {y.name};
    outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
    graph_.op(name, inputs, outputs, std::move(attrs));
    return y;
  }

  // Tensors of the file, each put there once, whichever program asks first.
  // Numbers. shape {-1}: one axis, as long as there are values.
  std::string constant(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& shape);
  // is_delicate: floats even where other matrices are quantised to q8 or q4.
  std::string matrix(const std::string& name, const SourceTensor& source, bool is_delicate = false);
  // The name of a recurrent state of this scope. initial: name of a tensor of the file that it starts as; empty: zeros.
  std::string state(const std::string& name, const std::vector<int64_t>& shape,
                    format::DType dtype = format::DType::f32, const std::string& initial = "");
  std::string state_name(const std::string& name) const { return own_name(name); }
  void attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim, int64_t value_dim);

  // Operators. Products with matrices that are in the file:
  struct Weight {
    std::string matrix;
    std::vector<int64_t> dims;
  };
  std::vector<Var> products(const Var& x, const std::vector<Weight>& weights);
  Var times(const Var& x, const std::string& matrix, const std::string& bias, const std::vector<int64_t>& dims);
  Var rms_norm(const Var& x, const std::string& weight, double eps, const Var* residual = nullptr);
  Var layer_norm(const Var& x, const std::string& weight, const std::string& bias, double eps);
  Var unary(format::UnaryKind kind, const Var& x, float alpha = 1);
  Var scale(const Var& x, double factor) { return factor == 1 ? x : unary(format::UnaryKind::scale, x, float(factor)); }
  Var binary(format::BinaryKind kind, const Var& x, const Var& y);
  Var binary(format::BinaryKind kind, const Var& x, const std::string& tensor);
  Var add(const Var& x, const Var& y) { return binary(format::BinaryKind::add, x, y); }
  Var mul(const Var& x, const Var& y) { return binary(format::BinaryKind::mul, x, y); }
  Var glu(format::UnaryKind activation, const Var& gate, const Var& up);
  Var rotate(const Var& x, const std::string& positions, const std::string& table, bool interleaved = false,
             float scale = 1, const std::vector<uint8_t>& sections = {});
  Var reshape(const Var& x, const std::vector<int64_t>& dims);
  // axis counts all axes of the value; it has to be one of dims.
  Var slice(const Var& x, int axis, int64_t begin, int64_t count);
  Var concat(const std::vector<Var>& parts, int axis);

  ModelBuilder& builder() { return builder_; }
  GraphBuilder& graph() { return graph_; }

 protected:
  // Whether this is the first time that something of this name is asked for.
  bool is_new(const std::string& name) { return added_.insert(name).second; }

 private:
  ModelBuilder& builder_;
  GraphBuilder graph_;
  std::string scope_;
  std::map<std::string, int> used_names_;
  std::set<std::string> added_;
};

// Sizes of all axes.
Names shape_of(const std::string& axis, const std::vector<int64_t>& dims);

}  // namespace runnel::convert
