// Low-rank adapters added to the matrices that they adapt.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/lora.h"

namespace runnel::convert {

// Puts modules that were saved whole in the place of the base's, an output matrix or embedding also beside the other of
// a tied model, and adds every pair to its matrix, rounded to that one's own type. Throws Error when a pair has no
// matrix of f32, f16 or bf16.
void merge_lora(const Lora& lora, Checkpoint& checkpoint);
// Fails when the adapter brings an output matrix and the graph takes the embedding for one all the same.
void check_head(const Lora& lora, const ModelBuilder& builder);

}  // namespace runnel::convert
