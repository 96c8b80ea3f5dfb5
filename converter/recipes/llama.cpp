// Llama and Mistral: norms before both halves of a layer, rotary positions, gated SiLU; Mistral adds a window to every layer.
#include <cmath>

#include "converter/passes/encode.h"
#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"

namespace runnel::convert {
namespace {

void read_gguf_facts(Checkpoint& c, Decoder& d) {
  const Facts f(c.meta, c.path.string(), "llama.");
  read_gguf_sizes(c, f, d);
  if (f.integer("expert_count", 0, 65536, 0) != 0) f.refuse("expert_count", "is not 0: mixtures of experts are not supported");
  // GGUF files of this family hold rows of q and k reordered for neighbouring pairs.
  d.attention.is_interleaved = true;
  d.attention.scale = float(f.number("attention.scale", 1 / std::sqrt(double(d.attention.head_dim))));
  const int64_t dims = f.integer("rope.dimension_count", 2, d.attention.head_dim, d.attention.head_dim);
  d.ropes.push_back(rope_frequencies(f.number("rope.freq_base", 10000), dims));
  apply_gguf_rope_scaling(f, d.ropes[0]);
  if (c.has("rope_freqs.weight")) {  // divisors that stand for Llama 3.1's scaling
    const SourceTensor& t = c.take("rope_freqs.weight", {uint64_t(dims / 2)});
    std::vector<float> divisors(d.ropes[0].size());
    decode_values(t, 0, divisors.size(), divisors.data());
    for (size_t i = 0; i < divisors.size(); ++i) {
      if (divisors[i] <= 0) fail("%s: tensor \"rope_freqs.weight\" holds a divisor that is not positive", c.path.c_str());
      d.ropes[0][i] /= divisors[i];
    }
  }
  set_window_layers(f.integer("attention.sliding_window", 0, 1 << 30, 0), 0, d.layers);
}

void read_config_facts(Checkpoint& c, Decoder& d) {
  const Facts f(c.meta["config"], c.path.string() + "/config.json");
  read_config_sizes(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.is_tied = f.boolean("tie_word_embeddings", false);
  if (d.is_tied) c.ignore_containing("lm_head.weight");
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
}

void build(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  if (c.kind == Checkpoint::Kind::kGguf) read_gguf_facts(c, d);
  else read_config_facts(c, d);
  if (c.kind == Checkpoint::Kind::kDirectory) c.ignore_containing("rotary_emb.inv_freq");
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe llama_recipe;
const Recipe llama_recipe = {"llama", {"llama"}, {"llama", "mistral"}, build};

}  // namespace runnel::convert
