// What --prune takes.
#pragma once

#include "converter/program/method_options.h"

namespace runnel::convert {

// The methods, for --help.
std::string prune_methods();

// METHOD[:name=value,...], read. Throws Error for an unknown method or option.
MethodOptions prune_options(const std::string& method);

}  // namespace runnel::convert
