// Hybrids of Mamba-2 and attention: Bamba, Granite 4 (also with experts beside a shared feed-forward), Falcon-H1 (both
// in every layer).
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

void read_common(const Facts& f, bool tied, Decoder& d) {
  read_sizes(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.is_tied = f.boolean("tie_word_embeddings", tied);
  read_biases(f, d.naming);
  expect_biases(f, "mamba_proj_bias", {"mamba.in_proj", "mamba.out_proj"}, d.naming);
  expect_biases(f, "projectors_bias", {"mamba.out_proj"}, d.naming);
  expect_biases(f, "mamba_conv_bias", {"conv1d"}, d.naming);
}

void finish(Net& net, const Decoder& d, const Var& x, const char* norm, double factor = 1) {
  net.leave_layers();
  const Var y = net.rms_norm(x, net.plain(norm + std::string(".weight"), {d.hidden}), d.eps);
  net.head(y, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab, 0, factor);
}

void build_bamba(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Decoder d;
  read_common(f, false, d);
  d.ffn.prefix = "feed_forward.";
  Mamba2 m;
  read_hybrid_mamba2(f, d.hidden * f.integer("mamba_expand", 1, 64, 2), m);
  std::vector<bool> is_attention(d.layers.size());
  if (const Json* indices = f.find("attn_layer_indices"))
    for (const Json& i : *indices) {
      if (!i.is_number_unsigned() || i.get<size_t>() >= is_attention.size())
        f.refuse("attn_layer_indices", "holds " + printable(i.dump()) + ", which is no layer");
      is_attention[i.get<size_t>()] = true;
    }
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  // Half of each head turns where the configuration does not say.
  set_rope(net, d.attention,
           config_rope(f, "", 10000,
                       f.has("rope_parameters") || f.has("partial_rotary_factor") ? d.attention.head_dim
                                                                                  : d.attention.head_dim / 2));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    x = with_residual(net, x, "input_layernorm", d.eps, [&](const Var& h) {
      return is_attention[i] ? attention(net, d.attention, h) : mamba2(net, m, h);
    });
    x = with_residual(net, x, "pre_ff_layernorm", d.eps, [&](const Var& h) { return feed_forward(net, d.ffn, h); });
  }
  finish(net, d, x, "final_layernorm");
}

// A GGUF has gate and up of the experts, and of the feed-forward beside them, as two tensors.
Naming granite_names(bool has_experts, Naming naming) {
  for (const auto& [name, gguf] : kGgufMamba2) naming.gguf["mamba." + name] = gguf;
  const std::string beside = has_experts ? "_shexp" : "";
  naming.gguf.insert({{"block_sparse_moe.router.layer", "ffn_gate_inp"},
                      {"block_sparse_moe.gate_linear", "ffn_gate_exps"},
                      {"block_sparse_moe.up_linear", "ffn_up_exps"},
                      {"block_sparse_moe.output_linear", "ffn_down_exps"},
                      {"shared_mlp.gate_proj", "ffn_gate" + beside},
                      {"shared_mlp.up_proj", "ffn_up" + beside},
                      {"shared_mlp.output_linear", "ffn_down" + beside}});
  return naming;
}

void build_granite(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c, {kGgufHybridKeys,
                                   {{"gguf.layers_without_heads", "mamba"},
                                    {"gguf.has_neighbours", true},
                                    {"num_local_experts", 0},
                                    {"position_embedding_type", "rope"}}});
  Decoder d;
  read_common(f, false, d);
  read_granite_factors(f, 1, d);
  Mamba2 m;
  read_hybrid_mamba2(f, f.integer("mamba_d_inner", 1, 1 << 30, d.hidden * f.integer("mamba_expand", 1, 64, 2)), m);
  const std::vector<std::string> types = layer_types(f, d.layers.size(), "mamba");
  Experts& e = d.experts;
  e.prefix = "block_sparse_moe.";
  e.router = "router.layer", e.gate_up = "input_linear";
  e.gate = "gate_linear", e.up = "up_linear", e.down = "output_linear";
  e.count = f.integer("num_local_experts", 0, 65536, 8);
  e.chosen = f.integer("num_experts_per_tok", 0, 65536, 2);
  e.width = f.integer("moe_intermediate_size", 1, 1 << 30, d.ffn.width);
  e.activation = d.ffn.activation;
  e.route.select_first = true;
  d.ffn.prefix = "shared_mlp.", d.ffn.gate_up = "input_linear", d.ffn.down = "output_linear";
  // A GGUF without experts has the only feed-forward there, and says its width as all do.
  const int64_t usual = !f.is_gguf() ? 1024 : e.count ? 0 : d.ffn.width;
  d.ffn.width = f.integer("shared_intermediate_size", 0, 1 << 30, usual);

  Net net(c, b, granite_names(e.count > 0, d.naming), d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, d.embedding_scale);
  f.pass_over({"rope_parameters", "rope_theta", "rope_scaling", "rope.dimension_count"});
  if (f.boolean("rope.scaling.finetuned", true) && f.text("position_embedding_type", "") == "rope")
    set_rope(net, d.attention, read_rope(c, f, "", 10000, d.attention.head_dim));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    const bool is_mamba = types[i] == "mamba" || types[i] == "linear_attention";
    x = with_residual(
        net, x, "input_layernorm", d.eps,
        [&](const Var& h) { return is_mamba ? mamba2(net, m, h) : attention(net, d.attention, h); }, d.residual_factor);
    x = with_residual(
        net, x, "post_attention_layernorm", d.eps,
        [&](const Var& h) {
          if (e.count == 0) return feed_forward(net, d.ffn, h);
          const Var routed = experts(net, e, h);
          return d.ffn.width ? net.add(routed, feed_forward(net, d.ffn, h)) : routed;
        },
        d.residual_factor);
  }
  finish(net, d, x, "norm", d.logit_factor);
}

void build_falcon_h1(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Decoder d;
  read_common(f, false, d);
  f.expect("mamba_use_mlp", true);
  f.pass_over({"mamba_expand", "mlp_expansion_factor", "time_step_min"});
  const auto factors = [&](const char* key, size_t count) {
    std::vector<double> v(count, 1.0);
    if (const Json* list = f.find(key)) {
      if (!list->is_array() || list->size() != count)
        f.refuse(key, "is not a list of " + std::to_string(count) + " numbers");
      for (size_t i = 0; i < count; ++i) v[i] = (*list)[i].get<double>();
    }
    return v;
  };
  const std::vector<double> ssm = factors("ssm_multipliers", 5), mlp = factors("mlp_multipliers", 2);
  Mamba2 m;
  read_hybrid_mamba2(
      f, f.has("mamba_d_ssm") ? f.integer("mamba_d_ssm") : d.hidden * f.integer("mamba_expand", 1, 64, 2), m);
  std::copy(ssm.begin(), ssm.end(), m.factors);
  m.has_norm = f.boolean("mamba_rms_norm", false);
  m.norm_before_gate = f.boolean("mamba_norm_before_gate", true);
  // key_multiplier scales every key, so it joins the scores' scale.
  d.attention.scale *= f.number("key_multiplier", 1);

  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, float(f.number("embedding_multiplier", 1)));
  set_rope(net, d.attention, config_rope(f, "", 10000, d.attention.head_dim));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    x = with_residual(net, x, "input_layernorm", d.eps, [&](const Var& h) {
      const Var s =
          net.scale(mamba2(net, m, net.scale(h, f.number("ssm_in_multiplier", 1))), f.number("ssm_out_multiplier", 1));
      const Var a = attention(net, d.attention, net.scale(h, f.number("attention_in_multiplier", 1)));
      return net.add(s, net.scale(a, f.number("attention_out_multiplier", 1)));
    });
    x = with_residual(net, x, "pre_ff_layernorm", d.eps, [&](const Var& h) {
      const std::vector<Var> y =
          net.linears(h, {{"feed_forward.gate_proj", {d.ffn.width}}, {"feed_forward.up_proj", {d.ffn.width}}});
      const Var g = net.glu(d.ffn.activation, net.scale(y[0], mlp[0]), y[1]);
      return net.scale(net.linear(g, {"feed_forward.down_proj", {d.hidden}}), mlp[1]);
    });
  }
  finish(net, d, x, "final_layernorm", f.number("lm_head_multiplier", 1));
}

}  // namespace

extern const Recipe bamba_recipe, granite_hybrid_recipe, falcon_h1_recipe;
const Recipe bamba_recipe = {"bamba", {}, {"bamba"}, build_bamba};
const Recipe granite_hybrid_recipe = {"granite_hybrid", {"granitehybrid"}, {"granitemoehybrid"}, build_granite};
const Recipe falcon_h1_recipe = {"falcon_h1", {}, {"falcon_h1"}, build_falcon_h1};

}  // namespace runnel::convert
