// A call of a program with tensors of a .safetensors file, as eval and inspect make it.
#pragma once

#include "api/handles.h"
#include "cli/common.h"
#include "cli/safetensors.h"

namespace runnel::cli {

// Rows of logits that are held at once: enough to use the matrix kernels, few enough for a large vocabulary.
inline constexpr int64_t kRowsPerBlock = 16;

rnl_tensor to_tensor(const NamedTensor& t);
// Throws Failure; name empty: the first.
const ProgramInfo& find_program(const Model& model, const std::string& name);
// Sizes of the whole call: axis symbols from the inputs, rows as many as the stream is long unless given.
CallBinding call_symbols(const Plan& plan, const PlannedProgram& program, const std::vector<rnl_tensor>& inputs);
// Length of the longest input axis: the context that the call needs.
int64_t longest_axis(const std::vector<NamedTensor>& tensors);

}  // namespace runnel::cli
