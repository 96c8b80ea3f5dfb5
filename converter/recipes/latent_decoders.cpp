// Decoders with latent attention in every layer: DeepSeek-V3 with experts behind the first layers, Youtu-LLM without,
// MiniCPM 3 with constant factors.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

// Yarn's magnitude counts once more for the scores.
double yarn_scale(const Facts& f) {
  const auto how = rope_facts(f);
  if (!how) return 1;
  const double all = how->number("mscale_all_dim", 0);
  if (all == 0 || how->text(how->has("rope_type") ? "rope_type" : "type", "default") == "default") return 1;
  const double magnitude = yarn_magnitude(how->number("factor", 1), all);
  return magnitude * magnitude;
}

Facts read_latent_basics(Checkpoint& c, bool is_tied, Decoder& d) {
  const Facts f = config_facts(c);
  read_basics(f, d);
  if (is_tied && !f.has("tie_word_embeddings")) d.is_tied = true;
  d.naming.biases.clear();
  expect_biases(f, "attention_bias", {"q_a_proj", "kv_a_proj_with_mqa", "o_proj"}, d.naming);
  expect_biases(f, "mlp_bias", {"gate_proj", "up_proj", "down_proj"}, d.naming);
  d.latent = read_latent(f);
  d.latent->scale *= yarn_scale(f);
  d.ropes.push_back(config_rope(f, "", 10000, d.latent->turning));
  return f;
}

// Neighbouring channels turn together, unless the configuration says otherwise.
void build_youtu(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, true, d);
  d.latent->is_interleaved = f.boolean("rope_interleave", true);
  build_decoder(c, d, b);
}

void build_deepseek(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, false, d);
  d.latent->is_interleaved = f.boolean("rope_interleave", true);
  f.expect("moe_layer_freq", 1);
  read_sigmoid_experts(f, 3, d);
  build_decoder(c, d, b);
}

void build_minicpm3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_latent_basics(c, true, d);
  d.embedding_scale = float(f.number("scale_emb", 12));
  d.residual_factor = float(f.number("scale_depth", 1.4) / std::sqrt(double(d.layers.size())));
  d.logit_factor = float(f.number("dim_model_base", 256) / double(d.hidden));
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe youtu_recipe, deepseek_recipe, minicpm3_recipe;
const Recipe youtu_recipe = {"youtu", {}, {"youtu"}, build_youtu};
const Recipe deepseek_recipe = {"deepseek", {}, {"deepseek_v3"}, build_deepseek};
const Recipe minicpm3_recipe = {"minicpm3", {}, {"minicpm3"}, build_minicpm3};

}  // namespace runnel::convert
