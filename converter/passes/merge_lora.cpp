#include "converter/passes/merge_lora.h"

#include "converter/passes/encode.h"

namespace runnel::convert {

void merge_lora(const Lora& lora, Checkpoint& checkpoint) {
  const char* file = lora.file.c_str();
  for (const LoraPair& pair : lora.pairs) {
    if (!pair.target) fail("%s: the model has no matrix \"%s.weight\" to adapt", file, printable(pair.module).c_str());
    const SourceTensor& target = *pair.target;
    if (target.type != SourceType::kF32 && target.type != SourceType::kF16 && target.type != SourceType::kBF16)
      fail("%s: tensor \"%s\" is neither f32, f16 nor bf16, so nothing can be merged into it", checkpoint.path.c_str(), target.describe().c_str());
    if (pair.is_embedding && !checkpoint.peek("lm_head.weight"))
      fail("%s: the pair for \"%s\" would change the output matrix too, which is the same tensor; --adapter keeps them apart", file, printable(pair.module).c_str());
    std::vector<float> w = values_of(pair.base ? *pair.base : target);
    const std::vector<float> a = values_of(*pair.a), b = values_of(*pair.b);
    for (uint64_t r = 0; r < pair.out; ++r)
      for (uint64_t k = 0; k < pair.rank; ++k) {
        const float left = pair.scale * (pair.is_embedding ? a[size_t(k * pair.out + r)] : b[size_t(r * pair.rank + k)]);
        float* out = &w[size_t(r * pair.in)];
        for (uint64_t i = 0; i < pair.in; ++i) out[i] += left * (pair.is_embedding ? b[size_t(i * pair.rank + k)] : a[size_t(k * pair.in + i)]);
      }
    checkpoint.replace(target, encoded(w, target.type));
  }
  checkpoint.weight_files.push_back(lora.file);
}

}  // namespace runnel::convert
