// A source of tensors by the names of the original code.
//
// A source tensor's name is root + scope + short name in files of the original authors ("model." "layers.3."
// "self_attn.q_proj.weight"); in a GGUF the short name is looked up in the recipe's table ("attn_q") and the layer's
// prefix is "blk.3.". A short name that begins with a slash ("/lm_head.weight") stands without root and scope.
#pragma once

#include <map>

#include "converter/program/filters.h"
#include "converter/read/facts.h"

namespace runnel::convert {

// What the configuration says about the bias of a product.
struct BiasRule {
  std::string option;  // where it says so, for messages
  bool is_there = false;
};

struct Naming {
  std::string root;                                 // "model."
  std::string layer = "layers.";                    // scope of layer i is layer + i + "."
  std::map<std::string, std::string> gguf;          // short name -> GGUF name; both without ".weight" and ".bias"
  std::map<std::string, std::string> renamed = {};  // short name -> name in a source that is no GGUF; one that begins
                                                    // with a slash stands without root and scope
  bool is_turned = false;                           // matrices of products are [columns, rows] there
  std::map<std::string, BiasRule> biases = {};  // by the last parts of a product's short name; others have a bias where
                                                // the source has one
};
// Reads a switch of the configuration for the biases of these products; without it the tensors decide.
void expect_biases(const Facts& facts, const std::string& option, std::initializer_list<const char*> products,
                   Naming& naming);

class Source {
 public:
  // Where no tensor stands under the naming's root, the source was saved from the class without a head, and the root is
  // left out.
  Source(Checkpoint& checkpoint, Naming naming);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  // Something that the person who converts should know.
  void note(std::string text) { checkpoint_.notices.push_back(std::move(text)); }
  // Where names are looked up from here on: in layer i, or around the layers.
  void enter_layer(size_t i) { scope_ = layer_scope(i); }
  void leave_layer() { scope_.clear(); }
  // What names in layer i begin with, in the original code.
  std::string layer_scope(size_t i) const { return naming_.layer + std::to_string(i) + "."; }

  // Tensors. `name` is short; full_name adds root and scope (or translates for a GGUF).
  std::string full_name(const std::string& name) const;
  bool has(const std::string& name) const { return checkpoint_.has(full_name(name)); }
  // Whether "{product}.bias" is there; fails when the configuration says otherwise.
  bool has_bias(const std::string& product) const;
  const SourceTensor& take(const std::string& name, const std::vector<int64_t>& shape);
  // The matrix "{product}.weight" as [rows, columns], however it lies in the source.
  const SourceTensor& take_matrix(const std::string& product, int64_t rows, int64_t columns);
  std::vector<float> values(const std::string& name, const std::vector<int64_t>& shape);
  // The same whatever the shape.
  std::vector<float> numbers(const std::string& name, int64_t count);
  // A batch norm with the statistics of the training.
  BatchNorm batch_norm_of(const std::string& name, int64_t channels, double eps);
  // Fails when absent.
  const SourceTensor& find(const std::string& name);
  // -e^x of the values, as a GGUF holds them already.
  std::vector<float> negative_exp(const std::string& name, const std::vector<int64_t>& shape);
  // What the original code adds to weights: a GGUF holds the sum.
  float missing_offset(float offset) const { return checkpoint_.is_gguf() ? 0 : offset; }
  // The same with any number of rows, each of shape `row`.
  std::vector<float> values_of_rows(const std::string& name, const std::vector<int64_t>& row);

  // Tensors made of others, kept as long as the checkpoint.
  const SourceTensor& rows_of(const SourceTensor& source, int64_t first, int64_t rows) {
    return checkpoint_.rows_of(source, uint64_t(first), uint64_t(rows));
  }
  // Matrices of the same width one below the other, each filled up to whole tiles of 16 rows with zeros: the experts of
  // routed_matmul.
  const SourceTensor& stacked(const std::vector<const SourceTensor*>& parts);
  // A tensor made by the recipe.
  const SourceTensor& derived(SourceTensor description, std::vector<uint8_t> bytes);
  // Matrix i [rows, columns] of `count`: "{name}.{i}.weight", or a part of "{name}.weight" where all are one tensor.
  const SourceTensor& matrix_of_several(const std::string& name, int64_t i, int64_t count, int64_t rows,
                                        int64_t columns);
  // Rows and columns exchanged.
  const SourceTensor& transposed(const SourceTensor& source);
  // Rows of the source in this order, as a matrix of the checkpoint: for layouts that mix what belongs to different
  // outputs.
  const SourceTensor& reordered(const SourceTensor& source, const std::vector<int64_t>& rows);

 private:
  Checkpoint& checkpoint_;
  Naming naming_;
  std::string scope_;
  std::map<std::string, const SourceTensor*> turned_;
};

}  // namespace runnel::convert
