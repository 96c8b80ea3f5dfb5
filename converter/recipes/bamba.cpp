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
  read_config_sizes(f, d);
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

struct Granite {
  Decoder d;
  Mamba2 m;
  Experts experts;
  std::vector<bool> is_attention;
  Rope rope;  // no frequencies: no positions
  double residual = 1, logits = 1;
  int64_t shared = 0;  // width of the feed-forward beside the experts, or of the only one
};

void read_granite_gguf(Checkpoint& c, Granite& g) {
  const Facts f = gguf_facts(c);
  Decoder& d = g.d;
  for (const auto& [name, gguf] : kGgufMamba2) d.naming.gguf["mamba." + name] = gguf;
  const Json* kv = f.find("attention.head_count_kv");
  g.is_attention.assign(size_t(f.integer("block_count", 1, 4096)), false);
  d.layers.resize(g.is_attention.size());
  for (size_t i = 0; i < g.is_attention.size(); ++i) {
    const int64_t n =
        kv && kv->is_array() && i < kv->size() && (*kv)[i].is_number_integer() ? (*kv)[i].get<int64_t>() : 0;
    if (n > 0) g.is_attention[i] = true, d.attention.kv_heads = n;
  }
  d.hidden = f.integer("embedding_length");
  d.context = f.integer("context_length");
  d.eps = f.number("attention.layer_norm_rms_epsilon");
  d.attention.heads = f.integer("attention.head_count", 1, 65536);
  d.attention.head_dim = f.integer("attention.key_length", 2, 65536, d.hidden / d.attention.heads);
  d.attention.scale = f.number("attention.scale", 1 / std::sqrt(double(d.attention.head_dim)));
  d.embedding_scale = float(f.number("embedding_scale", 1));
  d.vocab = c.find("token_embd.weight") ? int64_t(c.find("token_embd.weight")->shape.front()) : 0;
  d.is_tied = !c.has("output.weight");
  g.residual = f.number("residual_scale", 1);
  g.logits = 1 / f.number("logit_scale", 1);
  read_gguf_mamba2(f, g.m);
  g.m.prefix = "mamba.";
  g.m.eps = d.eps;
  // Bamba turns channels, Granite 4 does not. Rows of q and k are reordered for neighbouring pairs.
  f.pass_over({"rope.dimension_count", "rope.freq_base"});
  f.expect("attention.value_length", d.attention.head_dim);
  if (f.boolean("rope.scaling.finetuned", true)) g.rope = gguf_rope(c, f, 10000, d.attention.head_dim);
  d.attention.is_interleaved = true;
  g.experts.count = f.integer("expert_count", 0, 65536, 0);
  g.experts.chosen = f.integer("expert_used_count", 0, 65536, 0);
  g.experts.width = d.ffn.width = f.integer("feed_forward_length");
  g.experts.gate = "gate_exps", g.experts.up = "up_exps", g.experts.down = "down_exps";
  g.experts.router = "gate_inp";
  g.experts.prefix = "moe.";
  for (const auto& name : {"gate_exps", "up_exps", "down_exps", "gate_inp"})
    d.naming.gguf[std::string("moe.") + name] = std::string("ffn_") + name;
  g.shared = g.experts.count ? f.integer("expert_shared_feed_forward_length", 0, 1 << 30, 0) : d.ffn.width;
  const char* ending = g.experts.count ? "_shexp" : "";
  for (const auto& name : {"gate", "up", "down"})
    d.naming.gguf[std::string("mlp.") + name + "_proj"] = std::string("ffn_") + name + ending;
}

void read_granite_config(Checkpoint& c, Granite& g) {
  const Facts f = config_facts(c);
  Decoder& d = g.d;
  read_common(f, false, d);
  d.attention.scale = f.number("attention_multiplier", 1);
  d.embedding_scale = float(f.number("embedding_multiplier", 1));
  g.residual = f.number("residual_multiplier", 1);
  g.logits = 1 / f.number("logits_scaling", 1);
  read_hybrid_mamba2(f, d.hidden * f.integer("mamba_expand", 1, 64, 2), g.m);
  for (const std::string& type : layer_types(f, d.layers.size(), "mamba"))
    g.is_attention.push_back(type != "mamba" && type != "linear_attention");
  g.shared = f.integer("shared_intermediate_size", 0, 1 << 30, 1024);
  f.pass_over({"rope_parameters", "rope_theta", "rope_scaling"});
  if (f.text("position_embedding_type", "") == "rope") g.rope = config_rope(f, "", 10000, d.attention.head_dim);
  g.experts.prefix = "block_sparse_moe.";
  g.experts.router = "router.layer";
  g.experts.gate_up = "input_linear";
  g.experts.down = "output_linear";
  g.experts.count = f.integer("num_local_experts", 0, 65536, 8);
  g.experts.chosen = f.integer("num_experts_per_tok", 0, 65536, 2);
  g.experts.width = d.ffn.width;
}

void build_granite(Checkpoint& c, ModelBuilder& b) {
  Granite g;
  if (c.is_gguf()) read_granite_gguf(c, g);
  else read_granite_config(c, g);
  Decoder& d = g.d;
  g.experts.activation = d.ffn.activation;
  g.experts.route.select_first = true;
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, d.embedding_scale);
  if (!g.rope.frequencies.empty()) set_rope(net, d.attention, g.rope);
  const auto shared_feed_forward = [&](const Var& h) {
    const std::string in = "shared_mlp.input_linear";
    FeedForward own = d.ffn;
    own.width = g.shared;
    if (net.is_gguf()) return feed_forward(net, own, h);
    const std::vector<Var> y =
        net.linears(h, {{in, {g.shared}, 0, 2 * g.shared}, {in, {g.shared}, g.shared, 2 * g.shared}});
    return net.linear(net.glu(d.ffn.activation, y[0], y[1]), {"shared_mlp.output_linear", {d.hidden}});
  };
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    x = with_residual(
        net, x, "input_layernorm", d.eps,
        [&](const Var& h) { return g.is_attention[i] ? attention(net, d.attention, h) : mamba2(net, g.m, h); },
        g.residual);
    x = with_residual(
        net, x, "post_attention_layernorm", d.eps,
        [&](const Var& h) {
          if (g.experts.count == 0) return shared_feed_forward(h);
          const Var routed = experts(net, g.experts, h);
          return g.shared ? net.add(routed, shared_feed_forward(h)) : routed;
        },
        g.residual);
  }
  finish(net, d, x, "norm", g.logits);
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
