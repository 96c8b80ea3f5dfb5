// OLMo 2 and 3, FlexOlmo with experts, and EXAONE 4: no norm before the halves of a layer but one behind each, and
// norms on queries and keys: over all heads at once in OLMo, head by head in EXAONE. OLMo 3 and EXAONE 4 alternate
// layers with and without a window.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void set_norms(Decoder& d) {
  add_post_norms(d);
  d.attn_norm = d.ffn_norm = nullptr;
  d.attention.q_norm = "q_norm";
  d.attention.k_norm = "k_norm";
}

void build_olmo(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  set_norms(d);
  d.attention.norm_is_whole = true;
  const Facts f = source_facts(c, {{}, {{"gguf.may_be_olmo3", true}}});
  read_basics(f, d);
  if (f.text("model_type", "") == "flex_olmo") {
    read_experts(f, d);
    d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  }
  // Layers with a window are not scaled. A GGUF calls OLMo 3 olmo2 too, and describes windows where there are none.
  const bool is_3 =
      f.text("model_type", "") == "olmo3" || (f.boolean("gguf.may_be_olmo3", false) && f.has("sliding_window"));
  f.pass_over({"sliding_window_pattern", "rope.freq_base_swa"});
  const double base = is_3 || d.experts.count ? 500000 : 10000;
  d.ropes.push_back(read_rope(c, f, is_3 ? "full_attention" : "", base, d.attention.head_dim));
  if (is_3) {
    d.ropes.push_back(read_rope(c, f, "sliding_attention", f.number("rope_theta", base), d.attention.head_dim));
    set_window_layers(f, 4, d.layers);
  }
  for (Layer& layer : d.layers) layer.rope = layer.window ? 1 : 0;
  build_decoder(c, d, b);
}

// L is a layer with a window, G one without; the last layer sees everything.
void set_lettered_layers(const Facts& f, const std::string& pattern, std::vector<Layer>& layers) {
  if (pattern.empty() || pattern.find_first_not_of("LG") != std::string::npos)
    f.refuse("sliding_window_pattern", "is \"" + printable(pattern) + "\", not a row of L and G");
  const int64_t window = f.integer("sliding_window", 1, int64_t(1) << 30);
  for (size_t i = 0; i + 1 < layers.size(); ++i)
    if (pattern[i % pattern.size()] == 'L') layers[i].window = window;
}

void build_exaone4(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  set_norms(d);
  const Facts f = source_facts(c, {{}, {{"rope_theta", 1000000}}});
  read_basics(f, d);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  const int64_t window = f.integer("sliding_window", 1, int64_t(1) << 30, 0);
  const Json* pattern = f.find("sliding_window_pattern");
  if (window && !f.has("layer_types") && pattern && pattern->is_string())
    set_lettered_layers(f, pattern->get<std::string>(), d.layers);
  else if (window) set_window_layers(f, 4, d.layers);
  // Where some layers have a window, the others have no positions.
  for (Layer& layer : d.layers) layer.rope = window && !layer.window ? -1 : 0;
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe olmo_recipe, exaone4_recipe;
const Recipe olmo_recipe = {"olmo", {"olmo2"}, {"olmo2", "olmo3", "flex_olmo"}, build_olmo};
const Recipe exaone4_recipe = {"exaone4", {"exaone4"}, {"exaone4"}, build_exaone4};

}  // namespace runnel::convert
