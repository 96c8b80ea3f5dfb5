// Granite's decoders: Llama with constant factors. Granite-MoE has experts, with or without a feed-forward beside them;
// the SWA ("swash") models a window in most layers, a learned sink for each head, and a rotary base of each layer's
// own. HyperCLOVA X has norms behind both halves too.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void read_gguf(Checkpoint& c, Decoder& d) {
  const Facts f = read_gguf_basics(c, d);
  read_gguf_factors(f, d);
  d.attention.is_interleaved = true;  // rows of q and k are reordered for neighbouring pairs
  if (d.experts.count) d.shared.width = f.integer("expert_shared_feed_forward_length", 0, int64_t(1) << 30, 0);
  d.naming.gguf.insert({{"shared_mlp.gate_proj", "ffn_gate_shexp"},
                        {"shared_mlp.up_proj", "ffn_up_shexp"},
                        {"shared_mlp.down_proj", "ffn_down_shexp"}});
  if (architecture_of(c) != "granite_swa") return;
  // Gate and up are one tensor here.
  if (d.experts.count) d.experts.gate_up = "experts.gate_up", d.shared.gate_up = "up_proj";
  d.naming.gguf.insert({{"self_attn.sinks", "attn_sinks.weight"}, {"mlp.experts.gate_up", "ffn_gate_up_exps"}});
  d.attention.sinks = "sinks";
  set_gguf_window_layers(f, 0, d.layers);
  if (const Json* turns = f.find("attention.rope_pattern")) {
    if (!turns->is_array() || turns->size() != d.layers.size())
      f.refuse("attention.rope_pattern", "does not have a value for each layer");
    for (size_t i = 0; i < d.layers.size(); ++i)
      if ((*turns)[i] == false || (*turns)[i] == 0) d.layers[i].rope = -1;
  }
}

// A base for each layer, 0 for none.
void read_layer_bases(Checkpoint& c, const Facts& f, Decoder& d) {
  const Json* bases = f.find("layer_rope_theta");
  if (!bases) return;
  if (!bases->is_array() || bases->size() != d.layers.size())
    f.refuse("layer_rope_theta", "does not have a value for each layer");
  d.ropes.clear();
  std::vector<double> known;
  for (size_t i = 0; i < d.layers.size(); ++i) {
    const Json& base = (*bases)[i];
    if (!base.is_number()) f.refuse("layer_rope_theta", "holds something that is not a number");
    if (base == 0) {
      d.layers[i].rope = -1;
      continue;
    }
    size_t at = 0;
    while (at < known.size() && known[at] != base.get<double>()) ++at;
    if (at == known.size()) {
      Json own = c.meta["config"];
      own["rope_theta"] = base;
      if (f.has("rope_parameters")) own["rope_parameters"]["rope_theta"] = base;
      known.push_back(base.get<double>());
      d.ropes.push_back(config_rope(f.with(own), "", 10000, d.attention.head_dim));
    }
    d.layers[i].rope = int(at);
  }
}

void read_config_experts(const Facts& f, bool has_own_names, Decoder& d) {
  Experts& e = d.experts;
  e.count = f.integer("num_local_experts", 1, 65536);
  e.chosen = f.integer("num_experts_per_tok", 1, e.count);
  e.activation = d.ffn.activation;
  e.prefix = "block_sparse_moe.";
  e.router = has_own_names ? "router" : "router.layer";
  e.gate_up = has_own_names ? "experts.gate_up_proj" : "input_linear";
  e.down = has_own_names ? "experts.down_proj" : "output_linear";
  e.width = d.ffn.width;
  for (Layer& layer : d.layers) layer.has_experts = true;
  d.shared.width =
      f.text("model_type", "") == "granitemoe" ? 0 : f.integer("shared_intermediate_size", 0, int64_t(1) << 30, 0);
  d.shared.gate_up = "input_linear", d.shared.down = "output_linear";
}

void read_config(Checkpoint& c, Decoder& d) {
  const Facts f = config_facts(c);
  const std::string type = f.text("model_type", "");
  read_config_basics(f, d);
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim));
  const double usual_scale = d.attention.scale;
  read_granite_factors(f, d);
  if (type == "hyperclovax") {
    if (!f.has("attention_multiplier")) d.attention.scale = usual_scale;
    d.logit_factor = float(f.number("logits_scaling", 1));
    if (f.boolean("use_post_norm", true)) d.attn_post_norm = "post_norm1", d.ffn_post_norm = "post_norm2";
  }
  const bool has_windows = type.ends_with("_swa");
  if (type.starts_with("granitemoe")) read_config_experts(f, has_windows, d);
  if (!has_windows) return;
  d.attention.sinks = "sinks";
  set_window_layers_after_first(f, 4, d.layers);
  read_layer_bases(c, f, d);
}

void build_granite(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.shared.prefix = "shared_mlp.";
  if (c.is_gguf()) read_gguf(c, d);
  else read_config(c, d);
  d.shared.activation = d.ffn.activation;
  d.experts.route.select_first = true;
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe granite_recipe;
const Recipe granite_recipe = {"granite",
                               {"granite", "granitemoe", "granite_swa"},
                               {"granite", "granite_swa", "granitemoe", "granitemoeshared", "granitemoe_swa",
                                "hyperclovax"},
                               build_granite};

}  // namespace runnel::convert
