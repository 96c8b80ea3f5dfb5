// Low-rank adapters added to the matrices that they adapt.
#pragma once

#include "converter/passes/lora.h"

namespace runnel::convert {

// Adds every pair to its matrix, rounded to that one's own type. Throws Error when a pair has no matrix of f32, f16 or bf16.
void merge_lora(const Lora& lora, Checkpoint& checkpoint);

}  // namespace runnel::convert
