#include "converter/recipes/layer_types.h"

#include "converter/recipes/rope.h"

namespace runnel::convert {

void set_window_layers(int64_t window, int64_t pattern, std::vector<Layer>& layers) {
  for (size_t i = 0; i < layers.size(); ++i)
    if (pattern == 0 || (int64_t(i) + 1) % pattern != 0) layers[i].window = window;
}

void set_window_layers(const Facts& f, int64_t pattern, std::vector<Layer>& layers) {
  const bool is_off = !f.boolean("use_sliding_window", true);
  f.pass_over({"sliding_window"});
  const int64_t window = is_off ? 0 : f.integer("sliding_window", 1, 1 << 30, 0);
  const Json* types = f.find("layer_types");
  if (!types) {
    set_window_layers(window, pattern ? f.integer("sliding_window_pattern", 1, 4096, pattern) : 0, layers);
    return;
  }
  f.pass_over({"sliding_window_pattern", "_sliding_window_pattern"});
  if (!types->is_array() || types->size() != layers.size())
    f.refuse("layer_types", "does not name one type for each of the " + std::to_string(layers.size()) + " layers");
  for (size_t i = 0; i < layers.size(); ++i) {
    const Json& type = (*types)[i];
    if (type == "full_attention") continue;
    if (type != "sliding_attention")
      f.refuse("layer_types",
               "holds " + printable(type.dump()) + "; full_attention and sliding_attention are supported");
    if (window == 0) f.refuse("sliding_window", "is missing, but layer_types names sliding_attention");
    layers[i].window = window;
  }
}

void set_window_layers_after_first(const Facts& f, int64_t pattern, std::vector<Layer>& layers) {
  set_window_layers(f, 0, layers);
  for (size_t i = 0; !f.has("layer_types") && i < layers.size(); i += size_t(pattern)) layers[i].window = 0;
}

void set_late_window_layers(const Facts& f, std::vector<Layer>& layers) {
  f.pass_over({"sliding_window", "layer_types"});
  if (!f.boolean("use_sliding_window", false)) return;
  set_window_layers(f, 0, layers);
  if (f.has("layer_types")) return;
  const int64_t first = f.integer("max_window_layers", 0, 4096, 28);
  for (size_t i = 0; i < layers.size() && int64_t(i) < first; ++i) layers[i].window = 0;
}

std::vector<std::string> layer_types(const Facts& f, size_t layers, const std::string& otherwise) {
  const char* key = f.has("layer_types") ? "layer_types" : "layers_block_type";
  const Json* types = f.find(key);
  std::vector<std::string> out(layers, otherwise);
  if (!types) return out;
  if (!types->is_array() || types->size() != layers)
    f.refuse(key, "does not name one type for each of the " + std::to_string(layers) + " layers");
  for (size_t i = 0; i < layers; ++i) {
    if (!(*types)[i].is_string()) f.refuse(key, "holds something that is not a name");
    out[i] = (*types)[i].get<std::string>();
  }
  return out;
}

namespace {

// The first part of a head turns as if all of it did, the rest stands still.
std::vector<float> proportional_frequencies(const Facts& f, double theta, double partial, int64_t head_dim) {
  std::vector<float> out = rope_frequencies(theta, head_dim);
  const double factor = f.number("factor", 1);
  if (factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
  const size_t turning = size_t(partial * double(head_dim)) / 2;
  for (size_t i = 0; i < out.size(); ++i) out[i] = i < turning ? float(out[i] / factor) : 0.0f;
  return out;
}

}  // namespace

std::optional<Facts> rope_facts(const Facts& f) {
  const char *older = "rope_scaling", *key = "rope_parameters";
  const Json* given = f.find(older);
  const bool has_both = given && f.has(key);
  // An empty object says nothing; of two the older one counts.
  if (given && !(given->is_object() && given->empty())) key = older;
  if (has_both) f.pass_over({"rope_parameters"});
  return f.inside(key);
}

Rope config_rope(const Facts& f, const std::string& layer_type, double base, int64_t head_dim, double partial) {
  const bool is_local = layer_type == "sliding_attention";
  std::optional<Facts> how = rope_facts(f);
  const bool is_by_type = how && !layer_type.empty() && how->has(layer_type);
  if (is_by_type) how = how->inside(layer_type);
  else if (is_local) how.reset();  // one object describes the layers that see everything
  const char* base_key = is_local                   ? "rope_local_base_freq"
                         : f.has("rotary_emb_base") ? "rotary_emb_base"
                                                    : "rope_theta";
  const bool has_own_base = how && how->has("rope_theta");
  f.pass_over({base_key});
  const double theta = has_own_base                        ? how->number("rope_theta")
                       : how && how->is_null("rope_theta") ? how->number("rope_theta", base)
                                                           : f.number(base_key, base);
  for (const char* key : {"rotary_pct", "rope_pct", "partial_rotary_factor"})
    if (f.has(key)) partial = f.number(key);
  if (how) partial = how->number("partial_rotary_factor", partial);
  if (theta <= 0) f.refuse(base_key, "is not positive");
  if (partial <= 0 || partial > 1) f.refuse("partial_rotary_factor", "is not in 0 to 1");
  Rope out = {rope_frequencies(theta, int64_t(double(head_dim) * partial))};
  if (!how) return out;
  if (how->text("rope_type", "") == "proportional") return {proportional_frequencies(*how, theta, partial, head_dim)};
  apply_rope_scaling(*how, f, theta, out);
  const bool are_in_turn = how->boolean("mrope_interleaved", f.text("model_type", "").rfind("qwen3", 0) == 0);
  out.sections = rope_sections(*how, "mrope_section", are_in_turn, out.frequencies.size());
  return out;
}

namespace {

Rope gguf_local_rope(const Facts& f, double base, int64_t dims) {
  const double own = f.number("rope.freq_base_swa", base);
  if (own <= 0) f.refuse("rope.freq_base_swa", "is not positive");
  return {rope_frequencies(own, f.integer("rope.dimension_count_swa", 2, dims, dims))};
}

}  // namespace

Rope read_rope(Checkpoint& c, const Facts& f, const std::string& layer_type, double base, int64_t head_dim,
               double partial) {
  if (!f.is_gguf()) return config_rope(f, layer_type, base, head_dim, partial);
  return layer_type == "sliding_attention" ? gguf_local_rope(f, base, head_dim) : gguf_rope(c, f, head_dim);
}

}  // namespace runnel::convert
