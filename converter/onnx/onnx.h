// The ONNX importer: a model's graph becomes the program "main".
#pragma once

#include "converter/onnx/lowering.h"

namespace runnel::convert {

struct OnnxReport {
  std::string lowered;  // which operators became which, a line a kind
  std::vector<std::string> notices;
};
// Throws Error that names every node that cannot be lowered. The model must outlive what the builder writes.
class OnnxImport {
 public:
  OnnxImport(const std::filesystem::path& file, Checkpoint& checkpoint)
      : model_(file, checkpoint), where_(file.string()) {}
  OnnxReport build(const LowerOptions& options, ModelBuilder& builder);

 private:
  OnnxModel model_;
  std::string where_;
  std::unique_ptr<Lowering> lowering_;  // whose numbers tensors of the file hold
};

}  // namespace runnel::convert
