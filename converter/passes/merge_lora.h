// Low-rank adapters (LoRA; Hu et al. 2021) as the package peft saves them, added to the matrices that they adapt.
#pragma once

#include "converter/checkpoint.h"

namespace runnel::convert {

// folder: adapter_config.json and adapter_model.safetensors. W += scale B A for every pair of the adapter, rounded to W's own type; scale is
// lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora, for each matrix its own where rank_pattern and alpha_pattern say so.
// Throws Error when the checkpoint is no directory of safetensors, when a pair fits no matrix, and for adapters that are more than pairs
// of matrices (DoRA, trained biases, modules saved whole).
void merge_lora(const std::filesystem::path& folder, Checkpoint& checkpoint);

}  // namespace runnel::convert
