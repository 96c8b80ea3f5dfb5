// A source model in memory, whatever file it came from: tensors over mapped bytes, and metadata as one JSON tree.
//
// Metadata of a GGUF: its keys as they stand ("gemma3.block_count"). Of a directory: {"config": config.json,
// "generation_config": ..., "modules": ...} of those that exist; tokenizer files are read by converter/text from
// `path`.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "converter/read/json_text.h"
#include "converter/weights/source_tensor.h"

namespace runnel::convert {

// Keys of a configuration that a recipe asked for, by path ("rope_parameters/factor"), and those of objects whose own
// keys it asks for.
struct AskedKeys {
  std::set<std::string> keys, opened;
};

class Checkpoint {
 public:
  enum class Kind { kGguf, kDirectory, kGraph, kFile };  // kFile: a lone safetensors file
  Kind kind = Kind::kGguf;
  bool is_gguf() const { return kind == Kind::kGguf; }
  std::filesystem::path path;                       // of the file or directory
  std::vector<std::filesystem::path> weight_files;  // in the order in which they are hashed
  Json meta;
  std::shared_ptr<AskedKeys> asked = std::make_shared<AskedKeys>();
  std::string licence;  // empty: not stated
  std::string name;     // the model's own name, or that of the file

  // bytes must lie in a file that this checkpoint keeps mapped. Duplicate names are an error.
  void add(SourceTensor tensor, const std::string& where);
  const std::deque<SourceTensor>& tensors() const { return tensors_; }
  // Null when absent. Both mark the tensor as used.
  const SourceTensor* find(const std::string& tensor_name);
  // The same without marking it.
  const SourceTensor* peek(const std::string& tensor_name) const;
  // Other values for one of tensors(); as many bytes.
  void replace(const SourceTensor& tensor, std::vector<uint8_t> bytes);
  // A further factor for all values of one of tensors().
  void multiply(const std::string& tensor_name, float factor) { tensors_[index_.at(tensor_name)].multiplier *= factor; }
  // A tensor of another file under this name, in the place of one of the same shape or as a further one.
  void put(const std::string& tensor_name, const SourceTensor& from, const std::string& where);
  // Fails when absent or of another shape, with both shapes.
  const SourceTensor& take(const std::string& tensor_name, const std::vector<uint64_t>& shape);
  bool has(const std::string& tensor_name) const { return index_.count(tensor_name) != 0; }
  // Tensors that the architecture does not need: every one whose name contains `part`.
  void ignore_containing(const std::string& part);
  // The same for parts of the model that are not converted, by how their names begin at the start or behind a dot, with
  // a notice when there are any. what: "the vision tower".
  void leave_out(const std::vector<std::string>& parts, const std::string& what);
  std::vector<std::string> notices;
  // Fails with the names of tensors that nobody asked for.
  void refuse_unused() const;

  // Tensors made of others: rows [first, first + count) of a matrix without a copy, or bytes of their own. Kept as long
  // as this.
  const SourceTensor& rows_of(const SourceTensor& source, uint64_t first, uint64_t count);
  const SourceTensor& derive(SourceTensor description, std::vector<uint8_t> bytes);

  // Maps a file and keeps it mapped.
  std::span<const uint8_t> map(const std::filesystem::path& file);

 private:
  std::deque<SourceTensor> tensors_;
  std::vector<bool> used_;
  std::unordered_map<std::string, size_t> index_;
  std::deque<FileView> files_;
  std::deque<SourceTensor> derived_;
  std::deque<std::vector<uint8_t>> derived_bytes_;
};

}  // namespace runnel::convert
