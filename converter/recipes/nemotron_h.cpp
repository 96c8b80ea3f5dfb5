// Nemotron-H: each layer is one block, Mamba-2, attention without positions, a squared-ReLU feed-forward or a mixture
// of such experts.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

Var plain_feed_forward(Net& net, const std::string& prefix, int64_t width, format::UnaryKind activation, const Var& x) {
  return net.linear(net.unary(activation, net.linear(x, {prefix + "up_proj", {width}})),
                    {prefix + "down_proj", {x.dims[0]}});
}

std::vector<std::string> block_types(const Facts& f, size_t layers) {
  const std::string pattern = f.text("hybrid_override_pattern", "");
  if (f.has("layers_block_type") || pattern.empty()) return layer_types(f, layers, "linear_attention");
  std::vector<std::string> out;
  for (char c : pattern) {
    if (c == 'M') out.push_back("linear_attention");
    else if (c == '*') out.push_back("full_attention");
    else if (c == '-') out.push_back("mlp");
    else if (c == 'E') out.push_back("moe");
    else f.refuse("hybrid_override_pattern", "holds '" + printable(std::string(1, c)) + "'; M, *, - and E are known");
  }
  if (out.size() != layers)
    f.refuse("hybrid_override_pattern",
             "names " + std::to_string(out.size()) + " layers, not " + std::to_string(layers));
  return out;
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer("hidden_size"), vocab = f.integer("vocab_size");
  const double eps = f.number("layer_norm_epsilon", f.number("norm_eps", 1e-5));
  const std::string pattern = f.text("hybrid_override_pattern", "");
  const Json* types_list = f.find("layers_block_type");
  const size_t layers =
      types_list && types_list->is_array()
          ? types_list->size()
          : size_t(f.integer("num_hidden_layers", 1, 4096, int64_t(std::max<size_t>(pattern.size(), 1))));
  const std::vector<std::string> types = block_types(f, layers);
  Attention a;
  a.prefix = "mixer.";
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  a.head_dim = f.integer("head_dim", 2, 65536, f.integer("attention_head_dim", 2, 65536, hidden / a.heads));
  a.scale = 1 / std::sqrt(double(a.head_dim));
  Mamba2 m;
  m.heads = f.integer("mamba_num_heads", 1, 65536);
  m.head_dim = f.integer("mamba_head_dim", 1, 65536);
  m.state = f.integer("ssm_state_size", 1, 65536);
  m.groups = m.norm_groups = f.integer("n_groups", 1, 65536, 1);
  m.taps = f.integer("conv_kernel", 1, 64, 4);
  m.activation = activation_named(f, "mamba_hidden_act", "silu");
  m.eps = eps;
  m.dt_min = f.number("time_step_min", 0.001);
  const format::UnaryKind activation = activation_named(f, "mlp_hidden_act", "relu2");
  const int64_t width = f.integer("intermediate_size", 1, 1 << 30, 1),
                shared = f.integer("moe_shared_expert_intermediate_size", 0, 1 << 30, 0);
  Experts e;
  e.prefix = "mixer.";
  e.gate = "";
  e.latent = f.integer("moe_latent_size", 0, 1 << 30, 0);
  e.latent_in = "fc1_latent_proj", e.latent_out = "fc2_latent_proj";
  e.up = "experts.{}.up_proj";
  e.down = "experts.{}.down_proj";
  e.choice_bias = "gate.e_score_correction_bias";
  e.count = f.integer("n_routed_experts", 0, 65536, 0);
  e.chosen = f.integer("num_experts_per_tok", 0, 65536, 0);
  e.width = f.integer("moe_intermediate_size", 0, 1 << 30, 0);
  e.activation = activation;
  read_sigmoid_route(f, e.route);
  e.route.groups = uint32_t(f.integer("n_group", 1, 65536, 1));
  e.route.top_groups = uint32_t(f.integer("topk_group", 1, 65536, 1));

  f.pass_over({"attention_bias", "mamba_expand", "expand", "mamba_proj_bias", "n_shared_experts", "time_step_limit",
               "time_step_rank", "rope_theta", "partial_rotary_factor", "rope_scaling", "rope_parameters", "norm_eps",
               "hybrid_override_pattern", "num_hidden_layers"});
  const bool is_tied = f.boolean("tie_word_embeddings", true) &&
                       !c.has("lm_head.weight");  // the modelling code never ties, whatever the configuration says
  Naming naming = {c.has("backbone.embeddings.weight") ? "backbone." : "model.", "layers.", {}};
  expect_biases(f, "use_bias", {"in_proj", "out_proj"}, naming);
  expect_biases(f, "use_conv_bias", {"conv1d"}, naming);
  expect_biases(f, "mlp_bias", {"up_proj", "down_proj", "fc1_latent_proj", "fc2_latent_proj"}, naming);
  Net net(c, b, std::move(naming), f.integer("max_position_embeddings"));
  Var x = net.embed("embeddings", vocab, hidden);
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    x = with_residual(net, x, "norm", eps, [&](const Var& h) {
      if (types[i] == "linear_attention" || types[i] == "mamba") return mamba2(net, m, h);
      if (types[i] == "full_attention" || types[i] == "attention") return attention(net, a, h);
      if (types[i] == "moe")
        return net.add(experts(net, e, net.wanted(h)),
                       plain_feed_forward(net, "mixer.shared_experts.", shared, activation, net.wanted(h)));
      if (types[i] != "mlp") f.refuse("layers_block_type", "holds \"" + printable(types[i]) + "\"");
      return plain_feed_forward(net, "mixer.", width, activation, net.wanted(h));
    });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm_f.weight", {hidden}), eps);
  net.head(x, output_matrix(net, "embeddings", is_tied, vocab, hidden), vocab);
}

}  // namespace

extern const Recipe nemotron_h_recipe;
const Recipe nemotron_h_recipe = {"nemotron_h", {}, {"nemotron_h"}, build};

}  // namespace runnel::convert
