// Large recurrent states as f16: half the memory, and half of what decoding reads and writes beside the weights.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// Turns the states of selective_scan and the matrices of matrix_recurrence into f16. Tails of convolutions,
// denominators, maxima and inner models stay f32: they are small or cannot bear it. Arithmetic stays f32.
void halve_states(ModelBuilder& builder);

}  // namespace runnel::convert
