// Jamba: Mamba layers with norms of dt, B and C, every few layers attention without positions, every few layers a
// mixture of experts.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Decoder d;
  read_sizes(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.ffn.prefix = "feed_forward.";
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.is_tied = f.boolean("tie_word_embeddings", false);
  expect_biases(f, "mamba_proj_bias", {"in_proj", "out_proj"}, d.naming);
  expect_biases(f, "mamba_conv_bias", {"conv1d"}, d.naming);
  f.expect("mamba_inner_layernorms", true);
  Mamba m;
  m.activation = d.ffn.activation;
  m.prefix = "mamba.";
  m.inner = d.hidden * f.integer("mamba_expand", 1, 64, 2);
  m.state = f.integer("mamba_d_state", 1, 65536, 16);
  m.taps = f.integer("mamba_d_conv", 1, 64, 4);
  const Json* rank = f.find("mamba_dt_rank");
  m.rank = rank && rank->is_number() ? f.integer("mamba_dt_rank", 1, 65536) : (d.hidden + 15) / 16;
  m.norms = Mamba::Norms::kWeighted;
  m.eps = d.eps;
  Experts e;
  e.prefix = "feed_forward.";
  e.router = "router";
  e.count = f.integer("num_experts", 1, 65536, 1);
  e.chosen = f.integer("num_experts_per_tok", 1, 65536, 1);
  e.width = d.ffn.width;
  e.activation = d.ffn.activation;
  const int64_t attention_period = f.integer("attn_layer_period", 1, 4096, 8),
                attention_offset = f.integer("attn_layer_offset", 0, 4096, 4);
  const int64_t expert_period = f.integer("expert_layer_period", 1, 4096, 2),
                expert_offset = f.integer("expert_layer_offset", 0, 4096, 1);

  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    const bool is_attention = int64_t(i) % attention_period == attention_offset;
    const bool has_experts = e.count > 1 && int64_t(i) % expert_period == expert_offset;
    x = with_residual(net, x, "input_layernorm", d.eps,
                      [&](const Var& h) { return is_attention ? attention(net, d.attention, h) : mamba(net, m, h); });
    x = with_residual(net, x, "pre_ff_layernorm", d.eps,
                      [&](const Var& h) { return has_experts ? experts(net, e, h) : feed_forward(net, d.ffn, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("final_layernorm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe jamba_recipe;
const Recipe jamba_recipe = {"jamba", {}, {"jamba"}, build};

}  // namespace runnel::convert
