// Where everything stands in a file.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

inline uint64_t align_up(uint64_t n, uint64_t a) { return (n + a - 1) / a * a; }

// Gives every tensor its segment and offset; kinds keep apart, tensors keep their order. Returns blob indices in file
// order.
std::vector<size_t> lay_out(ModelBuilder& builder);
// The flatbuffer.
std::vector<uint8_t> header_of(const format::ModelT& model);

}  // namespace runnel::convert
