// inspect --dump and --compare.
#pragma once

#include "cli/common.h"
#include "format/model_file.h"

namespace runnel::cli {

// Runs the inputs of o.compare and holds the values that it holds too against them. Throws Failure with the first
// operator that differs.
int inspect_compare(const Options& o);
// Runs the inputs of o.in and writes them and every value to o.dump.
int inspect_dump(const Options& o);

// f32, f16 or the block format.
std::string tensor_type(const TensorInfo& t);

}  // namespace runnel::cli
