// What a model under construction holds, for people.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// Operators of each program by number, then each state and each tensor with its shape, type in the source and in the
// file, and bytes, a line each; the sums, and the memory of a session of `context` tokens (0: what `runnel inspect`
// takes by default), as the runtime plans it.
std::string describe_plan(ModelBuilder& builder, int64_t context);

}  // namespace runnel::convert
