// Rotary frequencies: computed here once and stored in the file as numbers.
#pragma once

#include "converter/recipes/facts.h"

namespace runnel::convert {

// 1 / base^(2i / dims) for 2i < dims, in float32 as the models' own code computes them.
std::vector<float> rope_frequencies(double base, int64_t dims);

// Applies a scaling description of config.json (keys rope_type or type, factor, ...): default, linear and llama3; others are refused by
// name. `scaling` may be null.
void apply_rope_scaling(const Json* scaling, const std::string& where, std::vector<float>& frequencies);
// The same from the keys of a GGUF: rope.scaling.type none or linear.
void apply_gguf_rope_scaling(const Facts& facts, std::vector<float>& frequencies);

}  // namespace runnel::convert
