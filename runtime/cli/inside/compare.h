// inspect --dump and --compare.
#pragma once

#include "cli/common.h"

namespace runnel::cli {

// Runs the inputs of o.compare and holds the values that it holds too against them. Throws Failure with the first
// operator that differs.
int inspect_compare(const Options& o);
// Runs the inputs of o.in and writes them and every value to o.dump.
int inspect_dump(const Options& o);

}  // namespace runnel::cli
