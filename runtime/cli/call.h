// A call of a program with tensors of a .safetensors file, as eval and inspect make it.
#pragma once

#include "cli/common.h"
#include "cli/safetensors.h"

namespace runnel::cli {

// Rows of logits that are held at once: enough to use the matrix kernels, few enough for a large vocabulary.
inline constexpr int64_t kRowsPerBlock = 16;

rnl_tensor to_tensor(const NamedTensor& t);
// Length of the longest axis whose size a call of the program gives: the context that it needs.
int64_t longest_axis(const rnl::Model& model, const char* program, const std::vector<NamedTensor>& tensors);

}  // namespace runnel::cli
