// Attention over some of the keys, chosen as the stream runs.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// What --sparse takes, for --help.
std::string sparse_methods();

// METHOD[:name=value,...]. Every attention over a whole stream gets an operator before it that chooses the blocks of
// keys which its queries see. What was changed, in words for a person. Throws Error for an unknown method or option,
// and where it does not apply.
std::string choose_keys(const std::string& method, ModelBuilder& builder);

}  // namespace runnel::convert
