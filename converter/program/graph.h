// Small helpers to write a program down.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

using Names = std::vector<std::string>;

// The lowest version of an operator that has all it uses.
uint16_t version_needed(const format::OpT& op);
// An operator of the registry; set_attrs() stamps it with the version that it then needs.
std::unique_ptr<format::OpT> new_op(const std::string& name, const Names& inputs, const Names& outputs);
template <class AttrsT>
void set_attrs(format::OpT& op, AttrsT attrs) {
  op.attrs.Set(std::move(attrs));
  op.version = version_needed(op);
}
// A value or an input of the program; null: there is none of this name.
const format::ValueT* find_value(const format::ProgramT& program, const std::string& name);
// The same where there must be one.
const format::ValueT& value_of(const format::ProgramT& program, const std::string& name);
// The state of keys of an attention over all of a stream; null: the operator is another one.
const format::StateT* whole_stream_keys(const format::ModelT& model, const format::OpT& op);
// Declares the value `name` and returns the name.
std::string add_value(format::ProgramT& program, const std::string& name, const Names& shape,
                      format::DType dtype = format::DType::f32);

class GraphBuilder {
 public:
  GraphBuilder(ModelBuilder& builder, const std::string& program);
  // A size that a call or an option gives, at most `bound`.
  void add_symbol(const std::string& name, format::SymbolKind kind, const std::string& bound);
  // Options context, chunk, rollback and rows; axis T (tokens of a call, at most chunk) and axis R (rows of outputs, at
  // most rows). is_whole: a text is one call of at most context tokens, and there are no rows to choose.
  void add_stream_symbols(bool is_whole = false);
  void add_input(const std::string& name, format::DType dtype, const Names& shape, format::Role role);
  // Of i32; where a call leaves it out, each element is `fill`.
  void add_filled_input(const std::string& name, const Names& shape, int32_t fill);
  void add_filled_input(const std::string& name, const std::string& axis, int32_t fill);
  // Declares the value `name` and returns the name.
  std::string value(const std::string& name, const Names& shape, format::DType dtype = format::DType::f32) {
    return add_value(*program_, name, shape, dtype);
  }
  void op(const std::string& name, const Names& inputs, const Names& outputs) {
    program_->ops.push_back(new_op(name, inputs, outputs));
  }
  template <class AttrsT>
  void op(const std::string& name, const Names& inputs, const Names& outputs, AttrsT attrs) {
    op(name, inputs, outputs);
    set_attrs(*program_->ops.back(), std::move(attrs));
  }
  // Moves operators on axis `axis` behind all others, in their order: nothing else reads what they compute.
  void move_to_end(const std::string& axis);
  void add_output(const std::string& name) { program_->outputs.push_back(name); }
  void add_optional_output(const std::string& name) { program_->optional_outputs.push_back(name); }
  // Key and value state of an attention operator: `name`.k and `name`.v.
  void add_attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim,
                            int64_t value_dim);

 private:
  ModelBuilder& builder_;
  format::ProgramT* program_;
};

// Slots of a state that serves `window` positions: it keeps what a call may overwrite while it still needs it, and what
// a roll-back may ask for again. 0: the whole context.
std::string slots_of_window(int64_t window);

// Number and version of an operator of the registry; fails when the name is unknown.
struct OpRow {
  uint16_t number, version;
};
OpRow op_row(const std::string& name);

}  // namespace runnel::convert
