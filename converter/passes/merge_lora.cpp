#include "converter/passes/merge_lora.h"

#include <algorithm>

#include "converter/read/facts.h"
#include "converter/weights/encode.h"

namespace runnel::convert {

namespace {

constexpr const char* kHead = "lm_head.weight";

// Output matrix and embedding stop being one tensor when an adapter brings either.
void untie(const Lora& lora, Checkpoint& c) {
  const SourceTensor* embedding = nullptr;
  bool is_head = false;
  for (const WholeTensor& whole : lora.wholes) {
    is_head = is_head || whole.name == kHead;
    const SourceTensor* old = c.peek(whole.name);
    for (const char* ending :
         {"embed_tokens.weight", "embedding.weight", "embeddings.weight", "embed_in.weight", "wte.weight"})
      if (old && old->shape.size() == 2 && whole.name.ends_with(ending)) embedding = old;
  }
  if ((!is_head && !embedding) || names_base_class(c)) return;
  if (!is_head && !c.has(kHead) && !c.has("embed_out.weight")) c.put(kHead, *embedding, lora.file.string());
  Json& config = c.meta["config"];
  config["tie_word_embeddings"] = false;
  for (const char* inner : {"text_config", "llm_config"})
    if (config.contains(inner) && config[inner].is_object()) config[inner]["tie_word_embeddings"] = false;
}

}  // namespace

void merge_lora(const Lora& lora, Checkpoint& checkpoint) {
  const char* file = lora.file.c_str();
  untie(lora, checkpoint);
  for (const WholeTensor& whole : lora.wholes) checkpoint.put(whole.name, *whole.tensor, lora.file.string());
  for (const LoraPair& pair : lora.pairs) {
    if (!pair.target) fail("%s: the model has no matrix \"%s.weight\" to adapt", file, printable(pair.module).c_str());
    const SourceTensor& target = *pair.target;
    if (target.type != SourceType::kF32 && target.type != SourceType::kF16 && target.type != SourceType::kBF16)
      fail("%s: tensor \"%s\" is neither f32, f16 nor bf16, so nothing can be merged into it", checkpoint.path.c_str(),
           target.describe().c_str());
    if (pair.is_embedding && !checkpoint.peek("lm_head.weight"))
      fail(
          "%s: the pair for \"%s\" would change the output matrix too, which is the same tensor; --adapter keeps them "
          "apart",
          file, printable(pair.module).c_str());
    std::vector<float> w = values_of(pair.base ? *pair.base : target);
    const std::vector<float> a = values_of(*pair.a), b = values_of(*pair.b);
    for (uint64_t r = 0; r < pair.out; ++r)
      for (uint64_t k = 0; k < pair.rank; ++k) {
        const float left =
            pair.scale * (pair.is_embedding ? a[size_t(k * pair.out + r)] : b[size_t(r * pair.rank + k)]);
        float* out = &w[size_t(r * pair.in)];
        for (uint64_t i = 0; i < pair.in; ++i)
          out[i] += left * (pair.is_embedding ? b[size_t(i * pair.rank + k)] : a[size_t(k * pair.in + i)]);
      }
    checkpoint.replace(target, encoded(w, target.type));
  }
  checkpoint.weight_files.push_back(lora.file);
}

void check_head(const Lora& lora, const ModelBuilder& b) {
  const auto is_head = [](const auto& x) { return x.name == kHead; };
  if (std::none_of(lora.wholes.begin(), lora.wholes.end(), is_head)) return;
  if (std::none_of(b.blobs().begin(), b.blobs().end(),
                   [&](const Blob& blob) { return blob.matrix && is_head(*blob.matrix); }))
    fail("%s: brings \"%s\" along, which models of this architecture do not have beside the embedding",
         lora.file.c_str(), kHead);
}

}  // namespace runnel::convert
