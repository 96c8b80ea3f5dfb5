// What --prune takes.
#pragma once

#include "converter/program/method_options.h"

namespace runnel::convert {

// The methods, for --help.
std::string prune_methods();

// METHOD[:name=value,...], read. Throws Error for an unknown method or option.
MethodOptions prune_options(const std::string& method);

// The bound of "batch" by which a recipe says that its program computes for one image.
inline constexpr const char* kOneImage = "min(context,1)";
// Whether a method leaves fewer tokens, not fewer layers.
bool thins_tokens(const std::string& method);

}  // namespace runnel::convert
