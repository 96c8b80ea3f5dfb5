#include "converter/onnx/onnx.h"

namespace runnel::convert {

OnnxReport OnnxImport::build(const LowerOptions& options, ModelBuilder& builder) {
  lowering_ = std::make_unique<Lowering>(model_, where_, options, builder);
  lowering_->run();
  return {lowering_->report(), lowering_->notices};
}

}  // namespace runnel::convert
