// The language in which recipes are written: a network as a program over tensors of the source, one call an operator. Shapes are carried
// along, tensors are found by the names of the original code, values are named after the layer that makes them.
//
// A source tensor's name is root + scope + short name in files of the original authors ("model." "layers.3." "self_attn.q_proj.weight");
// in a GGUF the short name is looked up in the recipe's table ("attn_q") and the layer's prefix is "blk.3.". A short name that begins with
// a slash ("/lm_head.weight") stands without root and scope.
#pragma once

#include <map>
#include <set>

#include "converter/program/graph.h"
#include "converter/read/facts.h"

namespace runnel::convert {

// What the configuration says about the bias of a product.
struct BiasRule {
  std::string option;  // where it says so, for messages
  bool is_there = false;
};

struct Naming {
  std::string root;                        // "model."
  std::string layer = "layers.";           // scope of layer i is layer + i + "."
  std::map<std::string, std::string> gguf; // short name -> GGUF name; both without ".weight" and ".bias"
  std::map<std::string, std::string> renamed = {};  // short name -> name in a source that is no GGUF; one that begins with a slash stands without root and scope
  bool is_turned = false;                  // matrices of `linears` are [columns, rows] there
  std::map<std::string, BiasRule> biases = {};  // by the last parts of a product's short name; others have a bias where the source has one
};
// Reads a switch of the configuration for the biases of these products; without it the tensors decide.
void expect_biases(const Facts& facts, const std::string& option, std::initializer_list<const char*> products, Naming& naming);

// A value of the program: [axis, dims...]. axis is T (all tokens of the call) or R (the wanted rows).
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

// One of several products of the same input. Rows of the source matrix [first, first + product of dims) are used; -1: all of them.
struct Product {
  std::string source;         // short name without ".weight"
  std::vector<int64_t> dims;  // of the output, behind the token axis
  int64_t first = -1;
  int64_t rows_in_all = 0;    // of the source matrix, when first >= 0
};

class Net {
 public:
  // is_whole: tokens see those behind them too, so a text is one call. Where no tensor stands under the naming's root, the source was saved from the
  // class without a head, and the root is left out.
  Net(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, int64_t context, bool is_whole = false);

  // Where names are looked up from here on. layer(i) for i < count; the last layer is where `wanted` gathers.
  void layer(size_t i, size_t count);
  void leave_layers();
  bool is_gguf() const { return checkpoint_.is_gguf(); }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  // Something that the person who converts should know.
  void note(std::string text) { checkpoint_.notices.push_back(std::move(text)); }

  // Tensors. `name` is short; full_name adds root and scope (or translates for a GGUF). `global` names have no scope.
  std::string full_name(const std::string& name) const;
  bool has(const std::string& name) const { return checkpoint_.has(full_name(name)); }
  // Whether "{product}.bias" is there; fails when the configuration says otherwise.
  bool has_bias(const std::string& product) const;
  const SourceTensor& take(const std::string& name, const std::vector<int64_t>& shape);
  std::vector<float> values(const std::string& name, const std::vector<int64_t>& shape);
  // The same whatever the shape.
  std::vector<float> numbers(const std::string& name, int64_t count);
  // Fails when absent.
  const SourceTensor& find(const std::string& name);
  // The same with any number of rows, each of shape `row`.
  std::vector<float> values_of_rows(const std::string& name, const std::vector<int64_t>& row);
  // A tensor as f32 in the file, `offset` added; returns its name there.
  std::string plain(const std::string& name, const std::vector<int64_t>& shape, float offset = 0);
  // The same with another shape of as many elements.
  std::string plain_as(const std::string& name, const std::vector<int64_t>& source_shape, const std::vector<int64_t>& shape);
  // Numbers that the recipe computed, stored once under scope + name. shape {-1}: one axis, as long as there are values.
  std::string constant(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& shape);
  // The name of a recurrent state of this layer. initial: name of a tensor of the file that it starts as; empty: zeros.
  std::string state(const std::string& name, const std::vector<int64_t>& shape, format::DType dtype = format::DType::f32, const std::string& initial = "");
  std::string state_name(const std::string& name) const { return own_name(name); }
  void attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim, int64_t value_dim);
  const SourceTensor& rows_of(const SourceTensor& source, int64_t first, int64_t rows) { return checkpoint_.rows_of(source, uint64_t(first), uint64_t(rows)); }
  // Matrices of the same width one below the other, each filled up to whole tiles of 16 rows with zeros: the experts of routed_matmul.
  const SourceTensor& stacked(const std::vector<const SourceTensor*>& parts);
  // A tensor made by the recipe, kept as long as the checkpoint.
  const SourceTensor& derived(SourceTensor description, std::vector<uint8_t> bytes);
  // Rows and columns exchanged.
  const SourceTensor& transposed(const SourceTensor& source);
  // Rows of the source in this order, as a matrix of the checkpoint: for layouts that mix what belongs to different outputs.
  const SourceTensor& reordered(const SourceTensor& source, const std::vector<int64_t>& rows);

  // Operators.
  // What the session fills in: its option `context` [1], and the positions of the tokens [T]; as floats.
  Var session_context() { return filled_in("context", "1", format::Role::context); }
  Var float_positions() { return filled_in("float_positions", "T", format::Role::positions); }
  Var embed(const std::string& table, int64_t vocab, int64_t hidden, float scale = 1);
  Var linear(const Var& x, const Product& product) { return linears(x, {product})[0]; }
  std::vector<Var> linears(const Var& x, const std::vector<Product>& products);
  // Products with matrices that are in the file already.
  struct Weight {
    std::string matrix;
    std::vector<int64_t> dims;
  };
  std::vector<Var> products(const Var& x, const std::vector<Weight>& weights);
  Var times(const Var& x, const std::string& matrix, const std::string& bias, const std::vector<int64_t>& dims);
  // is_delicate: floats even where other matrices are quantised to q8 or q4.
  std::string matrix(const std::string& name, const SourceTensor& source, bool is_delicate = false);
  // Each of `groups` parts of x, `in` channels wide, through a matrix of its own: weights [groups, out, in]. Gives [groups, out].
  Var by_group(const Var& x, const std::string& name, const std::vector<float>& weights, int64_t groups, int64_t out, int64_t in, bool is_delicate = false);
  Var rms_norm(const Var& x, const std::string& weight, double eps, const Var* residual = nullptr);
  Var layer_norm(const Var& x, const std::string& weight, const std::string& bias, double eps);
  Var unary(format::UnaryKind kind, const Var& x, float alpha = 1);
  Var scale(const Var& x, double factor) { return factor == 1 ? x : unary(format::UnaryKind::scale, x, float(factor)); }
  Var binary(format::BinaryKind kind, const Var& x, const Var& y);
  Var binary(format::BinaryKind kind, const Var& x, const std::string& tensor);
  Var add(const Var& x, const Var& y) { return binary(format::BinaryKind::add, x, y); }
  Var mul(const Var& x, const Var& y) { return binary(format::BinaryKind::mul, x, y); }
  Var glu(format::UnaryKind activation, const Var& gate, const Var& up);
  Var rope(const Var& x, const std::string& table, bool interleaved = false, float scale = 1);
  Var reshape(const Var& x, const std::vector<int64_t>& dims);
  Var slice(const Var& x, int axis, int64_t begin, int64_t count);  // axis counts the token axis as 0
  Var concat(const std::vector<Var>& parts, int axis);
  Var wanted(const Var& x);  // in the last layer: the rows whose outputs are asked for; elsewhere x
  // Positions of what lies on this axis.
  std::string positions(const std::string& axis);

  // A value named after this layer; numbered unless is_plain and the name is free.
  Var make(const std::string& what, const std::string& axis, const std::vector<int64_t>& dims, bool is_plain = false, format::DType dtype = format::DType::f32);
  // Any operator: inputs by name ("" absent), one output of these dims and further outputs by name (states).
  Var op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims, const Names& more_outputs = {});
  template <class AttrsT>
  Var op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims, const Names& more_outputs, AttrsT attrs) {
    const Var y = make(name, axis, dims);
    Names outputs = {y.name};
    outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
    graph_.op(name, inputs, outputs, std::move(attrs));
    return y;
  }
  bool is_whole() const { return is_whole_; }
  // The model has no output matrix: tokens see those behind them; or the source has none and its configuration names a class without one, or
  // sentence-transformers' list of modules stands beside it.
  bool is_headless() const { return is_headless_; }
  // The final product, its output called `logits`; x is the optional output `last_hidden_state`. Without a head that is the only output.
  void head(const Var& x, const std::string& matrix, int64_t vocab, double softcap = 0, double factor = 1);

  ModelBuilder& builder() { return builder_; }
  GraphBuilder& graph() { return graph_; }

 private:
  Var filled_in(const std::string& name, const std::string& axis, format::Role role);
  std::string own_name(const std::string& name) const { return name[0] == '/' ? name.substr(1) : scope_ + name; }

  Checkpoint& checkpoint_;
  ModelBuilder& builder_;
  GraphBuilder graph_;
  Naming naming_;
  std::string scope_;
  bool is_last_layer_ = false, is_whole_ = false, is_headless_ = false;
  std::map<std::string, int> used_names_;
  std::map<std::string, Var> wanted_;
  std::map<std::string, const SourceTensor*> turned_;
  std::set<std::string> added_;
};

std::vector<uint64_t> as_shape(const std::vector<int64_t>& dims);

}  // namespace runnel::convert
