// Rotary frequencies: computed here once and stored in the file as numbers.
#pragma once

#include "converter/recipes/facts.h"

namespace runnel::convert {

struct Rope {
  std::vector<float> frequencies;
  float scale = 1;  // of what is rotated
};

// 1 / base^(2i / dims) for 2i < dims, in float32 as the models' own code computes them.
std::vector<float> rope_frequencies(double base, int64_t dims);

// Applies a scaling description of config.json (keys rope_type or type, factor, ...): default, linear, llama3 and yarn; others are refused
// by name. `scaling` may be null. base: that of the frequencies; context: what the model was made for, 0: unknown.
void apply_rope_scaling(const Json* scaling, const std::string& where, double base, int64_t context, Rope& rope);
// From the keys of a GGUF: rope.freq_base (`base` when absent) and rope.scaling.type none, linear or yarn.
Rope gguf_rope(const Facts& facts, double base, int64_t dims);

}  // namespace runnel::convert
