// What a model under construction holds, for people.
#pragma once

#include "converter/write/builder.h"

namespace runnel::convert {

// Operators of each program by number, then each state and each tensor with its shape, type and bytes, a line each, and the sums.
std::string describe_plan(const ModelBuilder& builder);

}  // namespace runnel::convert
