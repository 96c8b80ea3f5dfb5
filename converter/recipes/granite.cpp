// Granite's decoders: Llama with constant factors. Granite-MoE has experts, with or without a feed-forward beside them;
// the SWA ("swash") models a window in most layers, a learned sink for each head, and a rotary base of each layer's
// own. HyperCLOVA X has norms behind both halves too.
#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// Rows of q and k are reordered for neighbouring pairs.
const GgufForm kGguf = {{{"layer_rope_theta", "attention.rope_pattern"}}, {{"gguf.has_neighbours", true}}};

// A base for each layer, 0 for none; a GGUF says of each whether it has one.
void read_layer_bases(Checkpoint& c, const Facts& f, Decoder& d) {
  const char* key = "layer_rope_theta";
  const Json* bases = f.find(key);
  if (!bases) return;
  if (!bases->is_array() || bases->size() != d.layers.size()) f.refuse(key, "does not have a value for each layer");
  d.ropes.clear();
  std::vector<double> known;
  for (size_t i = 0; i < d.layers.size(); ++i) {
    const Json& given = (*bases)[i];
    if (!given.is_number() && !given.is_boolean()) f.refuse(key, "holds something that is not a number");
    const double base = given == true || given == 1 ? f.number("rope_theta")
                        : given.is_number()         ? given.get<double>()
                                                    : 0;
    if (base == 0) {
      d.layers[i].rope = -1;
      continue;
    }
    const size_t at = size_t(std::find(known.begin(), known.end(), base) - known.begin());
    if (at == known.size()) {
      Json own = f.tree();
      own["rope_theta"] = base;
      if (f.has("rope_parameters")) own["rope_parameters"]["rope_theta"] = base;
      known.push_back(base);
      d.ropes.push_back(read_rope(c, f.with(own), "", 10000, d.attention.head_dim));
    }
    d.layers[i].rope = int(at);
  }
}

// Tensors of the experts and of the feed-forward beside them. In the SWA model gate and up are one tensor everywhere,
// in others of a GGUF they are two.
void name_experts(bool has_windows, Decoder& d) {
  Experts& e = d.experts;
  e.prefix = "block_sparse_moe.";
  e.router = has_windows ? "router" : "router.layer";
  e.gate_up = has_windows ? "experts.gate_up_proj" : "input_linear";
  e.gate = "gate_linear", e.up = "up_linear", e.down = has_windows ? "experts.down_proj" : "output_linear";
  e.route.select_first = true;
  d.shared.prefix = "shared_mlp.";
  d.shared.gate_up = "input_linear", d.shared.down = "output_linear";
  d.naming.gguf.insert({{e.prefix + e.router, "ffn_gate_inp"},
                        {e.prefix + e.gate_up, "ffn_gate_up_exps"},
                        {e.prefix + e.gate, "ffn_gate_exps"},
                        {e.prefix + e.up, "ffn_up_exps"},
                        {e.prefix + e.down, "ffn_down_exps"},
                        {"shared_mlp.gate_proj", "ffn_gate_shexp"},
                        {has_windows ? "shared_mlp.input_linear" : "shared_mlp.up_proj", "ffn_up_shexp"},
                        {"shared_mlp.output_linear", "ffn_down_shexp"},
                        {"self_attn.sinks", "attn_sinks.weight"}});
}

void build_granite(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kGguf);
  const std::string type = f.text("model_type", "");
  const bool has_windows = type.ends_with("_swa");
  read_basics(f, d);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  read_granite_factors(f, type == "hyperclovax" ? d.attention.scale : 1, d);
  if (type == "hyperclovax") {
    d.logit_factor = float(f.number("logits_scaling", 1));
    if (f.boolean("use_post_norm", true)) d.attn_post_norm = "post_norm1", d.ffn_post_norm = "post_norm2";
  }
  name_experts(has_windows, d);
  read_experts(f, d);
  d.shared.activation = d.ffn.activation;
  if (d.experts.count) d.shared.width = f.integer("shared_intermediate_size", 0, 1 << 30, 0);
  if (has_windows) {
    d.attention.sinks = "sinks";
    set_window_layers_after_first(f, 4, d.layers);
    read_layer_bases(c, f, d);
  }
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
