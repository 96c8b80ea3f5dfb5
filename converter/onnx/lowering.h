// From the nodes of an ONNX graph to operators of a program. A node's operator is a small function (operators.inc names
// them all): it reads the node's values and attributes and sets its outputs, mostly through the helpers here.
//
// Shapes are sizes over symbols, so that what a graph computes about its own shapes is known here and leaves no
// operator behind. What hangs on numbers of the file alone is computed here too, by the operators' own reference.
// Values may stand in the program in another order of axes than in the graph (images as [batch, height, width,
// channels]): a transposition is a note until an operator needs the axes in order.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "contract/op.h"
#include "converter/program/size.h"
#include "converter/program/filters.h"
#include "converter/program/graph.h"
#include "converter/read/onnx_model.h"

namespace runnel::convert {

// What a value of the graph holds, however wide: f32 in the program, or i32; truths are i32 of 0 and 1.
enum class Elem : uint8_t { kFloat, kInt, kBool };

using Perm = std::vector<int>;

struct Value {
  Elem elem = Elem::kFloat;
  Sizes shape;
  // One of these three. Of a value, input or tensor of the program: its name; axis i of the graph is axis perm[i]
  // there.
  std::string name;
  Perm perm;
  // Numbers that are known, in the graph's order of axes. Sizes may be known but for the call, also as real numbers.
  std::shared_ptr<const std::vector<float>> floats;
  std::shared_ptr<const Sizes> ints;
  // Real numbers that are a tensor of the source as it stands; they are read when somebody asks for them.
  const SourceTensor* source = nullptr;
  // The tensor of the file whose numbers these are, which says their type there.
  const SourceTensor* tensor = nullptr;
  // Not null: a sequence of values, which is known here alone.
  std::shared_ptr<const std::vector<Value>> items;

  int rank() const { return int(shape.size()); }
  // perm, or the order that known numbers are in.
  Perm order() const;
  bool is_known() const { return floats || ints || source; }
  // Numbers, whatever the call.
  bool is_constant() const;
  bool is_absent() const { return name.empty() && !is_known() && !items; }
};

class Lowering;

// A node as the operators' functions see it.
class Node {
 public:
  Node(Lowering& l, const OnnxNode& node, int64_t opset) : l_(l), node_(node), opset_(opset) {}
  const std::string& op() const { return node_.op; }
  const std::string& name() const { return node_.name; }
  int64_t opset() const { return opset_; }
  const OnnxNode& raw() const { return node_; }

  size_t inputs() const { return node_.inputs.size(); }
  size_t outputs() const { return node_.outputs.size(); }
  bool has(size_t i) const { return i < node_.inputs.size() && !node_.inputs[i].empty(); }
  bool wants(size_t i) const { return i < node_.outputs.size() && !node_.outputs[i].empty(); }
  // Fails when it is absent, or a sequence; and when it is none.
  const Value& in(size_t i) const;
  const std::vector<Value>& sequence(size_t i) const;
  void set(size_t i, Value v) const;
  void set(Value v) const { set(0, std::move(v)); }

  bool has_attribute(const char* name) const { return node_.attributes.count(name) != 0; }
  int64_t integer(const char* name, int64_t otherwise) const;
  double real(const char* name, double otherwise) const;
  std::string text(const char* name, const char* otherwise) const;
  std::vector<int64_t> integers(const char* name, std::vector<int64_t> otherwise = {}) const;
  const OnnxAttribute* attribute(const char* name, OnnxKind kind) const;

  // Input i, which must be known numbers: one, integers, integers but for the call, real numbers.
  float known_number(size_t i, const char* what) const;
  int64_t known_integer(size_t i, const char* what) const;
  std::vector<int64_t> known_integers(size_t i, const char* what) const;
  const Sizes& known_sizes(size_t i, const char* what) const;
  const std::vector<float>& known_floats(size_t i, const char* what) const;
  // Integers from an attribute, or from input i in later opsets.
  std::vector<int64_t> integers_of(const char* name, size_t i) const;
  bool has_integers(const char* name, size_t i) const { return has_attribute(name) || has(i); }

 private:
  Lowering& l_;
  const OnnxNode& node_;
  int64_t opset_;
};

struct LowerOptions {
  std::map<std::string, int64_t> axes;  // largest sizes of named axes
  std::map<std::string, double> known;  // inputs of one number, and axes, that have this value in every call
};

// What became of the nodes of one kind.
struct Lowered {
  int nodes = 0;
  bool is_within_others = false;  // operators of other nodes do their work
  std::map<std::string, int> operators;
};

class Lowering {
 public:
  Lowering(const OnnxModel& model, const std::string& where, const LowerOptions& options, ModelBuilder& builder);
  // The whole graph; throws Error that names every node that cannot be lowered.
  void run();
  std::string report() const;
  std::vector<std::string> notices;

  struct Result {
    Elem elem;
    Sizes shape;
  };

  // --- what operators' functions use
  Value* find(const std::string& name);
  void define(const std::string& name, Value v);
  // The one node that reads a value, of this operator; null: there are others, or the value is an output.
  const OnnxNode* only_reader(const std::string& value, const char* op) const;
  // One node, or so many, read this value of the graph; none more reads it by another name, and no output is it.
  bool is_sole_reader(const std::string& value) const { return has_readers(value, 1); }
  bool has_readers(std::string value, size_t count) const;
  // A node that reads this value gives it on as it is.
  bool has_other_names(const std::string& value) const;
  // A value that a node further behind may make, when that needs nothing but numbers of the file; null: it is not
  // known.
  const Value* ahead(const std::string& name);
  // Numbers that are whole, or sizes of a call; null: others, or not known.
  std::shared_ptr<const Sizes> sizes_of(const Value& v);
  // The program computes with `size` only up to this limit: where it is one symbol and a number, that bounds the
  // symbol.
  void limit(const Size& size, int64_t most);
  // A size that a value of the program tells each call, at most `bound`.
  Size result_size(const Size& bound);
  void bind(const Value& v, const Size& size);
  static Value packed(std::string name);
  // Its work is done by the function that runs now.
  void take_over(const OnnxNode* node) { scopes_.back().done.insert(node); }
  // The node that makes a value; null: none does.
  const OnnxNode* producer(const std::string& value) const;
  int64_t opset() const { return model_.opset(); }
  bool has_four_bits(const SourceTensor& t) const { return model_.has_four_bits(t); }

  // --- graphs within nodes
  // The outputs of a graph that sees all values of this place, with values for its inputs.
  std::vector<Value> inline_graph(const OnnxGraph& g, const std::vector<Value>& inputs);
  // A program of its own while `write` runs, which gives its outputs: values that the program's operators make. It
  // takes `inputs` and, behind them, whatever it sees of this place.
  struct Part {
    format::ProgramT* program;
    std::vector<Value> outputs;
    Names seen;
  };
  Part separate(const std::string& what, const std::function<std::vector<Value>(std::vector<Value>)>& write,
                const std::vector<Value>& inputs);
  // An operator of control.h; results stand for the outputs of the program.
  std::vector<Value> control(const char* op, const Names& inputs, const std::vector<Result>& results,
                             const std::string& program, const std::string& otherwise);
  // Name of a value for an operator of this program.
  std::string local_name(const Value& v);
  // Undoes what was written since.
  struct Mark {
    size_t ops, values, programs;
  };
  Mark mark() const { return {program_->ops.size(), program_->values.size(), builder_.model.programs.size()}; }
  void take_back(const Mark& m);

  static Value floats(std::vector<float> values, Sizes shape);
  static Value ints(Sizes values, Sizes shape, Elem elem = Elem::kInt);
  Value tensor_value(const SourceTensor& tensor);
  static Value scalar(float v) { return floats({v}, {}); }
  // Numbers of a known value.
  const std::vector<float>& numbers(const Value& v);
  std::vector<int64_t> known_shape(const Value& v, const char* what) const;

  // The value in the graph's order of axes, or in another one: axis i of the graph at perm[i].
  Value plain(const Value& v) { return in_order(v, {}); }
  Value in_order(const Value& v, const Perm& perm);
  // As it stands in the program, or as it would with another order: axes in that order. And back.
  Value stored(const Value& v) const;
  Value stored_in(const Value& v, const Perm& perm);
  // That order costs no transposition more.
  bool is_at_hand(const Value& v, const Perm& perm) const;
  Value labelled(const Value& stored_value, const Perm& perm);
  // Its numbers in the program, if they are not there yet.
  std::string name_of(const Value& v);
  Value reshape(const Value& v, const Sizes& shape);
  Value transpose(const Value& v, const Perm& perm);  // axis i of the result is axis perm[i] of v
  // The same number of axes in the same order of axes, ready for an operator that broadcasts.
  struct Aligned {
    std::vector<Value> values;
    Perm perm;
    Sizes shape;  // of the result, in the program's order
  };
  Aligned align(const std::vector<Value>& values);
  Value expand(const Value& v, const Sizes& shape);

  // An operator over values whose axes stand in order. A result of numbers that are all known is known.
  Value emit(const std::string& op, const std::vector<Value>& in, const Sizes& shape, Elem elem = Elem::kFloat) {
    return emit_all(op, in, {{elem, shape}})[0];
  }
  template <class AttrsT>
  Value emit(const std::string& op, const std::vector<Value>& in, const Sizes& shape, AttrsT attrs,
             Elem elem = Elem::kFloat) {
    return emit_all(op, in, {{elem, shape}}, std::move(attrs))[0];
  }
  std::vector<Value> emit_all(const std::string& op, const std::vector<Value>& in, const std::vector<Result>& results) {
    return finish(new_op(op, {}, {}), in, results);
  }
  template <class AttrsT>
  std::vector<Value> emit_all(const std::string& op, const std::vector<Value>& in, const std::vector<Result>& results,
                              AttrsT attrs) {
    auto o = new_op(op, {}, {});
    set_attrs(*o, std::move(attrs));
    return finish(std::move(o), in, results);
  }
  Value unary(format::UnaryKind kind, const Value& v, float alpha = 1);
  Value math(format::MathKind kind, const Value& v, double alpha = 0, double beta = 0);
  Value binary(format::BinaryKind kind, const Value& a, const Value& b);
  Value arithmetic(format::ArithmeticKind kind, const Value& a, const Value& b, Elem result);
  Value where(const Value& condition, const Value& x, const Value& y);
  Value cast(const Value& v, Elem to);

  // A matrix of the file for products: `rows` rows of `columns`, value (r, c) at r * row_step + c * column_step of a
  // known value. Stored once for each use of that kind.
  std::string matrix(const Value& v, int64_t rows, int64_t columns, int64_t row_step, int64_t column_step,
                     bool is_delicate = false);
  std::string matrix(std::vector<float> values, int64_t rows, int64_t columns, bool is_delicate = false);
  // The operator that made a value that nothing else reads so far; null: none.
  format::OpT* maker(const Value& v);

 private:
  std::vector<Value> finish(std::unique_ptr<format::OpT> op, const std::vector<Value>& in,
                            const std::vector<Result>& results);
  std::vector<Value> append(std::unique_ptr<format::OpT> op, const std::vector<Result>& results);
  bool fold(const format::OpT& op, const std::vector<Value>& in, const std::vector<Result>& results,
            std::vector<Value>* out);
  void add_inputs();
  void add_outputs();
  void add_output(const Value& v, const std::string& name, std::set<std::string>* given);
  void enter(const OnnxGraph& g);
  void lower_nodes(const OnnxGraph& g);
  void lower(const OnnxNode& node);
  void drop_unread();
  std::string unique(const std::string& name);
  std::string symbol(const OnnxDim& dim, const OnnxValueInfo& input, size_t axis, bool is_batch);
  std::string integers_of_call(const Value& v);
  std::string tensor_of(const Value& v);

  const OnnxModel& model_;
  std::string where_;
  LowerOptions options_;
  ModelBuilder& builder_;
  GraphBuilder graph_;
  format::ProgramT* program_;
  // A graph's values: of the model's, then of those within nodes, which see all of those around them.
  struct Scope {
    std::map<std::string, Value> values;
    std::map<std::string, std::vector<const OnnxNode*>> readers;
    std::map<std::string, const OnnxNode*> makers;
    std::set<std::string> outputs, poisoned;
    std::set<const OnnxNode*> done;
  };
  const Scope* scope_of(const std::string& value) const;
  bool is_poisoned(const std::string& value) const;
  std::deque<Scope> scopes_;
  // Programs around this one, the model's first, and what this and they see of those around them.
  struct Level {
    format::ProgramT* program;
    Names seen;
  };
  std::vector<Level> levels_;
  std::map<std::string, size_t> level_of_;  // of values, behind those of the model's program
  std::set<std::string> names_;
  std::vector<std::string> problems_;
  std::map<std::pair<std::string, Perm>, std::string> turned_;  // values whose axes stand in another order
  std::map<std::string, std::string> symbols_;
  std::map<std::string, std::string> matrices_;
  std::map<std::string, std::string> tensors_;  // of the file, by place of their numbers and shape
  std::map<const SourceTensor*, std::shared_ptr<const std::vector<float>>> read_;
  std::vector<Value> kept_;  // whose numbers tensors of the file hold
  std::deque<SourceTensor> sources_;
  std::deque<std::vector<uint8_t>> bytes_;
  std::map<std::string, Lowered> lowered_;
  std::map<const format::OpT*, std::string> kind_of_;  // of the node that an operator was made for
  const OnnxNode* now_ = nullptr;
};

BatchNorm batch_norm_of(const Node& norm);
// The convolution that made the value, if so many nodes read it and it may still do something to its results.
format::WindowAttrsT* open_convolution(Lowering& l, const std::string& value, size_t readers);
// An activation of a value that so many nodes read, by the convolution that made it where there is one.
Value activated(Lowering& l, format::UnaryKind kind, const std::string& value, size_t readers);
// Values that several operators are made of. a times b by numpy's rules, rows by a matrix of the file where b is one.
Value multiplied(Lowering& l, const Value& a, const Value& b);
Value reduced(Lowering& l, format::ReduceKind kind, const Value& v, const std::vector<bool>& gone);
// Along the last axis.
Value softmax_of(Lowering& l, const Value& v);
Value layer_norm_of(Lowering& l, const Value& x, const Value& scale, const Value& bias, double eps, bool is_rms);
// Values and places of the k best along an axis; is_last: of equal ones the last counts.
std::vector<Value> best_along(Lowering& l, const Value& v, size_t axis, const Size& k, bool is_smallest, bool is_last);
// `count` of an axis from `begin` on; rows of an axis by ids; values one behind the other; begin, begin + step, ...
Value piece(Lowering& l, const Value& v, int axis, const Size& begin, const Size& count);
Value looked_up(Lowering& l, const Value& v, int axis, const Value& ids);
Value joined(Lowering& l, std::vector<Value> parts, int axis);
Value counted(Lowering& l, const Size& begin, const Size& count, int64_t step = 1, Elem elem = Elem::kInt);
// Places in a flat value that are not 0, in rising order: as many as there are.
Value places_of(Lowering& l, const Value& flags);
// Integers and a size: a times b, a divided by b and so on.
Value with_size(Lowering& l, format::ArithmeticKind kind, const Value& a, const Size& b);
// The shape of what an operator makes of both, by numpy's rules.
Sizes broadcast(const Sizes& a, const Sizes& b);
Perm identity(int rank);
// An axis of a value of so many axes, counted from behind where it is negative; fails when there is none.
int axis_of(int64_t axis, int rank);

// Functions of the operators; they throw Error for what they cannot do.
using LowerFn = void (*)(Lowering&, const Node&);
// What an operator of ONNX's own makes of these values, as that opset has it, with the attributes of the node but those
// `without`, and with these integers.
using Integers = std::map<std::string, std::vector<int64_t>>;
Value applied(Lowering& l, const Node& n, LowerFn function, const char* op, const std::vector<Value>& in,
              const std::set<std::string>& without = {}, int64_t opset = 13, const Integers& integers = {},
              const std::map<std::string, int64_t>& numbers = {});
// Of windows over [batch, channels, depth, height, width].
void lower_conv_of_volume(Lowering& l, const Node& n);
void lower_pool_of_volume(Lowering& l, const Node& n);
#define RNL_ONNX(op, function) void function(Lowering&, const Node&);
#include "converter/onnx/operators.inc"
#undef RNL_ONNX

}  // namespace runnel::convert
