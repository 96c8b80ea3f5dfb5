// The model under construction: the flatbuffer's object form, and for each tensor how its bytes are made when the file
// is written.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "converter/weights/encode.h"
#include "format/model_generated.h"

namespace runnel::convert {

// The bytes of one tensor of the file, made in pieces that any thread may ask for: piece i is bytes [i * piece_bytes,
// ...) and the last piece may be shorter.
struct Blob {
  size_t tensor;  // index into ModelT::tensors
  format::SegmentKind segment;
  uint64_t bytes;
  uint64_t piece_bytes;
  std::function<void(uint64_t first_piece, uint64_t pieces, uint8_t* out)> make;  // out is zeroed
  const SourceTensor* matrix = nullptr;                                           // of packed tensors
  float unit = 1;  // by which the graph has to multiply their values
};

class ModelBuilder {
 public:
  explicit ModelBuilder(Weights weights) : weights_(weights) {}
  ModelBuilder(const ModelBuilder&) = delete;
  ModelBuilder& operator=(const ModelBuilder&) = delete;

  format::ModelT model;
  // What --prune asks for. A recipe that prunes by itself, as there it knows more, says in `pruned` what it did, in
  // words for a person, and the pass then has nothing left to do.
  std::string prune, pruned;
  Weights weights() const { return weights_; }
  // States are f32 in models converted with f32 weights, else f16.
  format::DType state_dtype() const { return weights_ == Weights::kF32 ? format::DType::f32 : format::DType::f16; }

  // All add a tensor under `name`, in file order. The source tensor must stay mapped.
  // A matrix for products or look-ups: all axes but the last are rows.
  // is_delicate: where matrices are quantised to q8 or q4, this one becomes f16.
  void add_matrix(const std::string& name, const SourceTensor& source, bool is_delicate = false);
  // Real numbers as f32, `offset` added to each (Gemma's norms store w of 1 + w).
  void add_floats(const std::string& name, const SourceTensor& source, float offset = 0);
  void add_floats(const std::string& name, const std::vector<float>& values, const std::vector<uint64_t>& shape);
  // Bytes as they are.
  void add_bytes(format::SegmentKind segment, const std::string& name, format::DType dtype,
                 const std::vector<uint64_t>& shape, std::vector<uint8_t> bytes);
  bool has_tensor(const std::string& name) const;
  // The format of a matrix; null when no matrix has this name.
  const format::PackedT* format_of_matrix(const std::string& name) const;
  // Another factor for all values of a tensor that add_floats added.
  void multiply_floats(const std::string& name, float factor);
  // Stores a matrix of 8 bits split (format/packed.h) and requires the feature.
  void split_matrix(const std::string& name);

  const std::vector<Blob>& blobs() const { return blobs_; }

 private:
  format::TensorT& add_tensor(format::SegmentKind segment, const std::string& name, format::DType dtype,
                              const std::vector<uint64_t>& shape, uint64_t bytes);
  void pack_matrix(size_t tensor, const PackedFormat& format);
  Weights weights_;
  std::vector<Blob> blobs_;  // as model.tensors
  std::unordered_map<std::string, size_t> names_;
};

}  // namespace runnel::convert
