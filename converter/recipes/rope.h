// Rotary frequencies: computed here once and stored in the file as numbers.
#pragma once

#include "converter/read/facts.h"

namespace runnel::convert {

struct Rope {
  std::vector<float> frequencies;
  float scale = 1;  // of what is rotated
  // What depends on the length of the text, for which a stream's session has its context. Beyond `original` tokens:
  int64_t original = 0;
  std::vector<float> long_frequencies = {};  // longrope: these
  double ntk_factor = 0;                     // dynamic NTK: a base that grows with the context; 0: none
  // Of tokens that stand on several axes (time, height, width): for each frequency the axis that it turns by. Empty:
  // tokens have one position.
  std::vector<uint8_t> sections = {};
};

// 1 / base^(2i / dims) for 2i < dims, in float32 as the models' own code computes them.
std::vector<float> rope_frequencies(double base, int64_t dims);

// What yarn makes of the scores' size: 1 + by * ln(factor) / 10.
double yarn_magnitude(double factor, double by = 1);
// Applies a scaling description of config.json (keys rope_type or type, factor, ...): default, linear, dynamic, llama3,
// yarn and longrope; others are refused by name. `config` has the lengths that the description leaves out; base: that
// of the frequencies.
void apply_rope_scaling(const Facts& scaling, const Facts& config, double base, Rope& rope);
// Axes of `count` frequencies by a list of how many each axis has (mrope_section, rope.dimension_sections): one axis
// behind the other as Qwen2-VL has them, or the axes in turn as Qwen3-VL has them, where the first one has what is left
// over.
std::vector<uint8_t> rope_sections(const Facts& facts, const char* key, bool are_in_turn, size_t count);
// Of a GGUF: rope.freq_base, rope.dimension_count (else partial_rotary_factor of the head), rope.scaling.type none,
// linear, yarn or longrope, and divisors of frequencies as tensors, rope_freqs (Llama 3.1) or rope_factors_short and
// rope_factors_long (longrope). gguf.yarn_truncate: whether yarn's bounds are whole channels, which its keys do not
// say.
Rope gguf_rope(Checkpoint& checkpoint, const Facts& facts, int64_t head_dim);

}  // namespace runnel::convert
