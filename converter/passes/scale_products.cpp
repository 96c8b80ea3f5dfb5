#include "converter/passes/scale_products.h"

#include <algorithm>
#include <map>
#include <set>

#include "converter/program/graph.h"

namespace runnel::convert {
namespace {

class Scaler {
 public:
  explicit Scaler(ModelBuilder& builder) : b_(builder) {
    for (const Blob& blob : b_.blobs())
      if (blob.unit != 1) units_[b_.model.tensors[blob.tensor]->name] = blob.unit;
  }
  bool is_needed() const { return !units_.empty(); }

  void rewrite(format::ProgramT& program) {
    program_ = &program;
    std::vector<std::unique_ptr<format::OpT>> old;
    old.swap(program.ops);
    for (auto& op : old) {
      format::OpT& o = *op;
      program.ops.push_back(std::move(op));
      if (o.name == "embedding") scale_look_up(o);
      else scale_outputs(o, o.name == "matmul" ? 1 : o.name == "routed_matmul" ? 2 : o.inputs.size());
    }
  }

 private:
  float unit_of_input(const format::OpT& op, size_t i) const {
    const auto it = i < op.inputs.size() ? units_.find(op.inputs[i]) : units_.end();
    return it == units_.end() ? 1 : it->second;
  }
  void scale_look_up(format::OpT& op) {
    const float unit = unit_of_input(op, 1);
    if (unit == 1) return;
    format::EmbeddingAttrsT attrs =
        op.attrs.AsEmbeddingAttrs() ? *op.attrs.AsEmbeddingAttrs() : format::EmbeddingAttrsT();
    attrs.scale *= unit;
    op.attrs.Set(attrs);
  }
  // first: the input with the matrix of the first output; the last inputs are biases, of which each may be absent.
  void scale_outputs(format::OpT& op, size_t first) {
    const size_t count = op.outputs.size();
    for (size_t i = 0; i < op.inputs.size(); ++i)
      if (unit_of_input(op, i) != 1 && (i < first || i >= first + count))
        fail("operator \"%s\" cannot use tensor \"%s\" of this type; --weights q8 or f16 stores it in another",
             op.name.c_str(), printable(op.inputs[i]).c_str());
    for (size_t i = 0; i < count && first < op.inputs.size(); ++i) {
      const float unit = unit_of_input(op, first + i);
      if (unit == 1) continue;
      const std::string y = op.outputs[i];
      op.outputs[i] = y + ".unscaled";
      add_value(*program_, op.outputs[i], value_of(*program_, y).shape);
      if (first + count + i < op.inputs.size() && !op.inputs[first + count + i].empty())
        divide_bias(op.inputs[first + count + i], unit);
      add_scale(op.outputs[i], y, unit);
    }
  }
  // The bias is part of the product, which is multiplied as a whole.
  void divide_bias(const std::string& name, float unit) {
    if (!divided_.insert(name).second)
      fail("tensor \"%s\" is the bias of several products with matrices of different types", printable(name).c_str());
    b_.multiply_floats(name, 1 / unit);
  }
  void add_scale(const std::string& from, const std::string& to, float unit) {
    format::UnaryAttrsT attrs;
    attrs.kind = format::UnaryKind::scale;
    attrs.alpha = unit;
    program_->ops.push_back(new_op("unary", {from}, {to}));
    set_attrs(*program_->ops.back(), attrs);
  }

  ModelBuilder& b_;
  std::map<std::string, float> units_;  // of the tensors that have one
  std::set<std::string> divided_;
  format::ProgramT* program_ = nullptr;
};

}  // namespace

void scale_products(ModelBuilder& b) {
  Scaler scaler(b);
  if (!scaler.is_needed()) return;
  for (auto& program : b.model.programs) scaler.rewrite(*program);
}

}  // namespace runnel::convert
