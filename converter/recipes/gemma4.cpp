// Gemma 4, text part: Gemma 3's layers with heads of their own size in layers that see everything, inputs for each
// layer, shared keys and values, and in some sizes a mixture of experts beside the feed-forward. The towers for
// pictures and sound are left out.
#include <cmath>

#include "converter/recipes/layer_types.h"
#include "converter/recipes/per_layer.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

constexpr int64_t kPattern = 6;
constexpr double kLocalBase = 10000, kGlobalBase = 1000000;

const Json kDefaults = {
    {"vocab_size", 262144},
    {"hidden_size", 2304},
    {"intermediate_size", 9216},
    {"num_hidden_layers", 30},
    {"num_attention_heads", 8},
    {"num_key_value_heads", 4},
    {"head_dim", 256},
    {"max_position_embeddings", 131072},
    {"sliding_window", 512},
    {"vocab_size_per_layer_input", 262144},
    {"hidden_size_per_layer_input", 256},
    {"rope_parameters",
     {{"sliding_attention", {{"rope_type", "default"}, {"rope_theta", kLocalBase}}},
      {"full_attention",
       {{"rope_type", "proportional"}, {"partial_rotary_factor", 0.25}, {"rope_theta", kGlobalBase}}}}}};

// Newer files list what differs layer by layer, older ones have keys for the layers that see everything.
void read_head_sizes(const Checkpoint& c, const Facts& f, PerLayerDecoder& p) {
  const auto layers = f.inside("per_layer_config");
  bool has_no_values = false;  // as a GGUF says that they are the keys
  for (size_t i = 0; i < p.owners; ++i) {
    const std::string name = "blk." + std::to_string(i) + ".attn_";
    if (p.d.layers[i].window == 0) has_no_values = c.has(name + "k.weight") && !c.has(name + "v.weight");
  }
  p.k_is_v = f.boolean("attention_k_eq_v", has_no_values);
  f.pass_over({"global_head_dim", "num_global_key_value_heads"});
  for (size_t i = 0; i < p.sizes.size(); ++i) {
    PerLayerDecoder::Sizes& s = p.sizes[i];
    if (!layers) {
      if (p.d.layers[i].window) continue;
      s.head_dim = f.integer("global_head_dim", 2, 65536, 512);
      if (p.k_is_v) s.kv_heads = f.integer("num_global_key_value_heads", 1, 65536, s.kv_heads);
      continue;
    }
    for (const std::string& number : {std::to_string(i), "0" + std::to_string(i)})  // with as many digits as the
                                                                                    // largest
      if (const auto own = layers->inside(number)) {
        s.head_dim = own->integer("head_dim", 2, 65536, s.head_dim);
        s.kv_heads = own->integer("num_key_value_heads", 1, 65536, s.kv_heads);
      }
  }
}

int64_t head_dim_of(const PerLayerDecoder& p, bool has_window) {
  for (size_t i = 0; i < p.sizes.size(); ++i)
    if ((p.d.layers[i].window > 0) == has_window) return p.sizes[i].head_dim;
  return 2;  // no such layer
}

const GgufForm kGguf = {{{"global_head_dim", "attention.key_length"}, {"top_k_experts", "expert_used_count"}},
                        {{"rope_theta", kGlobalBase},
                         {"hidden_size_per_layer_input", 0},
                         {"vocab_size_per_layer_input", 1},
                         {"enable_moe_block", true},
                         {"num_experts", 0}}};

void read_facts(Checkpoint& c, PerLayerDecoder& p) {
  Decoder& d = p.d;
  const Facts f = text_facts(c, d.naming, kDefaults, kGguf);
  read_per_layer(f, kPattern, p);
  read_biases(f, d.naming);
  d.layers.back().window = 0;  // whatever the list says
  read_head_sizes(c, f, p);
  if (f.boolean("use_double_wide_mlp", false))
    for (size_t i = p.owners; i < p.sizes.size(); ++i) p.sizes[i].width *= 2;
  d.ropes = {read_rope(c, f, "full_attention", kGlobalBase, head_dim_of(p, false)),
             read_rope(c, f, "sliding_attention", kLocalBase, head_dim_of(p, true))};
  f.pass_over({"num_experts", "top_k_experts", "moe_intermediate_size"});
  if (!f.boolean("enable_moe_block", false)) return;
  d.experts.count = f.integer("num_experts", 0, 65536);
  if (d.experts.count == 0) return;
  d.experts.chosen = f.integer("top_k_experts", 1, d.experts.count);
  d.experts.width = f.integers("moe_intermediate_size", p.sizes.size())[0];
}

void name_tensors(Decoder& d) {
  add_per_layer_names(d);
  d.naming.gguf.insert({{"layer_scalar", "layer_output_scale.weight"},
                        {"router.proj", "ffn_gate_inp"},
                        {"router.scale", "ffn_gate_inp.scale"},
                        {"router.per_expert_scale", "ffn_down_exps.scale"},
                        {"experts.gate_up_proj", "ffn_gate_up_exps"},
                        {"experts.gate_proj", "ffn_gate_exps"},
                        {"experts.up_proj", "ffn_up_exps"},
                        {"experts.down_proj", "ffn_down_exps"},
                        {"post_feedforward_layernorm_1", "post_ffw_norm_1"},
                        {"post_feedforward_layernorm_2", "post_ffw_norm_2"},
                        {"pre_feedforward_layernorm_2", "pre_ffw_norm_2"}});
  Experts& e = d.experts;
  e.prefix.clear();
  e.router = "router.proj", e.factors = "router.per_expert_scale";
  e.gate_up = "experts.gate_up_proj", e.gate = "experts.gate_proj", e.up = "experts.up_proj",
  e.down = "experts.down_proj";
  e.route.renormalise = true;
}

// The mixture, which sees y itself, beside what the feed-forward gave.
Var with_mixture(Net& net, PerLayerNet& parts, const Decoder& d, const Var& y, const Var& dense) {
  std::vector<float> scale = net.values("router.scale", {d.hidden});
  for (float& v : scale) v = float(v / std::sqrt(double(d.hidden)));
  const Var scored = net.rms_norm(y, net.constant("router.scale", scale, {d.hidden}), d.eps);
  Experts e = d.experts;
  e.activation = d.ffn.activation;
  if (!net.has(e.gate_up) && !net.has(e.gate_up + ".weight")) e.gate_up.clear();
  const Var mixed = experts(net, e, parts.norm(y, "pre_feedforward_layernorm_2"), &scored);
  const Var beside = parts.norm(dense, "post_feedforward_layernorm_1");
  return parts.norm(mixed, "post_feedforward_layernorm_2", &beside);
}

void build(Checkpoint& c, ModelBuilder& b) {
  PerLayerDecoder p;
  Decoder& d = p.d;
  name_tensors(d);
  read_facts(c, p);
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, float(std::sqrt(double(d.hidden))));
  PerLayerNet parts(net, p);
  parts.make_inputs(x);
  for (size_t i = 0; i < d.layers.size(); ++i) {
    parts.layer(i);
    const Var mixed = parts.attention_of(parts.norm(x, "input_layernorm"));
    const Var before = net.wanted(x), y = parts.norm(mixed, "post_attention_layernorm", &before);
    FeedForward ffn = d.ffn;
    ffn.width = p.sizes[i].width;
    Var h = feed_forward(net, ffn, parts.norm(y, "pre_feedforward_layernorm"));
    if (d.experts.count) h = with_mixture(net, parts, d, y, h);
    x = parts.norm(h, "post_feedforward_layernorm", &y);
    if (p.input_width) x = parts.gated_input(x, &x);
    if (net.has("layer_scalar")) x = net.scale(x, net.values("layer_scalar", {1})[0]);
  }
  net.leave_layers();
  net.graph().move_to_end("R");
  x = parts.norm(x, "norm");
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab, d.output_softcap);
}

}  // namespace

extern const Recipe gemma4_recipe;
const Recipe gemma4_recipe = {"gemma4", {"gemma4"}, {"gemma4_text", "gemma4"}, build};

}  // namespace runnel::convert
