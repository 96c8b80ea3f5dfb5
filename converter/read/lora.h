// Low-rank adapters (LoRA; Hu et al. 2021) as the package peft saves them.
#pragma once

#include "converter/read/checkpoint.h"

namespace runnel::convert {

// W [out, in] += scale B A, A [rank, in], B [out, rank]; of an embedding W [vocabulary, width] (out, in), A [rank,
// vocabulary], B [width, rank] and W += scale (B A) transposed.
struct LoraPair {
  std::string module;                                              // "model.layers.0.self_attn.q_proj"
  const SourceTensor* target = nullptr;                            // W; null: the checkpoint has no tensor of that name
  const SourceTensor *a = nullptr, *b = nullptr, *base = nullptr;  // base: the matrix itself, which peft saves beside
                                                                   // an embedding's pair
  bool is_embedding = false;
  uint64_t rank = 0, in = 0, out = 0;  // of W
  float scale = 1;
};

// A tensor of a module that was trained as a whole (modules_to_save).
struct WholeTensor {
  std::string name;  // of the base's tensor in whose place it comes, or of an output matrix that the base does not have
  const SourceTensor* tensor;
};

struct Lora {
  Checkpoint adapter;
  std::filesystem::path file;
  std::vector<LoraPair> pairs;
  std::vector<WholeTensor> wholes;
  // Fails when the pair does not have the shape of this target.
  void check(const LoraPair& pair, const SourceTensor& target) const;
};

// folder: adapter_config.json and adapter_model.safetensors. A pair's scale is `scale` times lora_alpha / r, or
// lora_alpha / sqrt(r) with use_rslora, for each matrix its own where rank_pattern and alpha_pattern say so. Throws
// Error when the checkpoint is no directory of safetensors, when a pair does not fit its matrix, and for adapters that
// are more than pairs of matrices and modules saved whole (DoRA, trained biases).
Lora read_lora(const std::filesystem::path& folder, const Checkpoint& checkpoint, double scale);

std::vector<float> values_of(const SourceTensor& tensor);
// As f32, f16 or bf16.
std::vector<uint8_t> encoded(const std::vector<float>& values, SourceType type);

}  // namespace runnel::convert
