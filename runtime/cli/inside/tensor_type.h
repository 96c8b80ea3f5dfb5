// How a tensor of a model is stored, in words.
#pragma once

#include <string>

#include "format/model_file.h"

namespace runnel::cli {

// f32, f16, bf16 or the block format.
std::string tensor_type(const TensorInfo& t);

}  // namespace runnel::cli
