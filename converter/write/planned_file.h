// The file that a builder would give, as far as the runtime's loader and planner look at it: the header and the seal in
// their places, and zeros that take no memory in place of the weights.
#pragma once

#include "converter/program/builder.h"
#include "format/model_file.h"

namespace runnel::convert {

class PlannedFile {
 public:
  // Lays the tensors out.
  explicit PlannedFile(ModelBuilder& builder);
  ~PlannedFile();
  PlannedFile(const PlannedFile&) = delete;
  PlannedFile& operator=(const PlannedFile&) = delete;
  uint64_t bytes() const { return bytes_; }
  // Throws Error. Valid as long as this. sha256: what the provenance says of the source.
  std::unique_ptr<Model> open(const std::string& sha256 = "");

 private:
  format::ModelT model_;
  uint64_t bytes_ = 0;
  void* memory_ = nullptr;
};

}  // namespace runnel::convert
