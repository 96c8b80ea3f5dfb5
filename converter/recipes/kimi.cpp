// Kimi Linear (arXiv 2510.26692): three layers of Kimi Delta Attention, whose decay has one value a channel, then one
// of latent attention without positions; experts behind the first layers.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/delta.h"
#include "converter/recipes/latent.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

Var delta_attention(Net& net, const DeltaSizes& s, double eps, const Var& x) {
  const std::string p = "self_attn.";
  const int64_t n = s.key_width();
  const std::vector<Var> in = net.linears(x, {{p + "q_proj", {n}},
                                              {p + "k_proj", {n}},
                                              {p + "v_proj", {n}},
                                              {p + "f_a_proj", {s.key_dim}},
                                              {p + "g_a_proj", {s.key_dim}},
                                              {p + "b_proj", {s.key_heads}}});
  const DeltaInput qkv = delta_input(net, s, in, joined_convs(net, p, s), p);
  const Var decay =
      delta_decay(net, net.linear(in[3], {p + "f_b_proj", {s.key_heads, s.key_dim}}), p, {1, 1, s.key_heads, 1});
  const Var y = delta_rule(net, s, qkv, decay, net.unary(UnaryKind::sigmoid, in[5]), p);
  const Var gate = net.linear(net.wanted(in[4]), {p + "g_b_proj", {n}});
  return net.linear(gated_head_norm(net, y, gate, p + "o_norm.weight", UnaryKind::sigmoid, eps),
                    {p + "o_proj", {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Decoder d;
  d.hidden = f.integer("hidden_size");
  d.vocab = f.integer("vocab_size");
  d.eps = f.number("rms_norm_eps", 1e-5);
  d.context =
      f.integer(f.has("model_max_length") ? "model_max_length" : "max_position_embeddings", 1, 1 << 30, 1 << 20);
  d.is_tied = f.boolean("tie_word_embeddings", true) && !c.has("lm_head.weight");  // the modelling code never ties,
                                                                                   // whatever the configuration says
  const size_t layers = size_t(f.integer("num_hidden_layers", 1, 4096));
  std::vector<std::string> types = layer_types(f, layers, "linear_attention");
  DeltaSizes s;
  f.expect("mla_use_nope", true);
  f.expect("moe_router_activation_func", "sigmoid");
  f.expect("use_grouped_topk", true);
  f.expect("moe_layer_freq", 1);
  // Sizes that stand elsewhere too, and positions that nothing turns by.
  f.pass_over({"head_dim", "num_key_value_heads", "linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim",
               "rope_theta", "rope_parameters", "rope_scaling", "num_experts", "num_experts_per_token",
               "num_expert_group", "num_shared_experts", "max_position_embeddings", "norm_topk_prob"});
  if (const auto g = f.inside("linear_attn_config")) {
    s.key_heads = g->integer("num_heads", 1, 65536);
    s.key_dim = g->integer("head_dim", 1, 65536);
    s.taps = g->integer("short_conv_kernel_size", 1, 64, 4);
    g->pass_over({"kda_layers"});  // the others
    if (const Json* full = g->find("full_attn_layers"); full && !f.has("layer_types"))
      for (const Json& i : *full)
        if (i.is_number_unsigned() && i.get<size_t>() >= 1 && i.get<size_t>() <= layers)
          types[i.get<size_t>() - 1] = "full_attention";
  } else {
    s.key_heads = f.integer("linear_num_heads", 1, 65536);
    s.key_dim = f.integer("linear_head_dim", 1, 65536);
    s.taps = f.integer("linear_conv_kernel_dim", 1, 64, 4);
  }
  s.value_heads = s.key_heads;
  s.value_dim = s.key_dim;
  const Latent l = read_latent(f);
  d.ffn.prefix = "block_sparse_moe.";
  d.ffn.width = f.integer("intermediate_size");
  d.ffn.activation = s.activation = activation_named(f, "hidden_act", "silu");
  Experts e;
  e.count = f.integer(f.has("num_local_experts") ? "num_local_experts" : "num_experts", 0, 65536, 0);
  e.chosen = f.integer(f.has("num_experts_per_tok") ? "num_experts_per_tok" : "num_experts_per_token", 0, 65536, 0);
  e.width = f.integer("moe_intermediate_size", 0, 1 << 30, 0);
  e.prefix = "block_sparse_moe.";
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  e.choice_bias = "gate.e_score_correction_bias";
  e.activation = d.ffn.activation;
  read_sigmoid_route(f, e.route);
  e.route.groups = uint32_t(f.integer(f.has("n_group") ? "n_group" : "num_expert_group", 1, 65536, 1));
  e.route.top_groups = uint32_t(f.integer("topk_group", 1, 65536, 1));
  FeedForward shared = d.ffn;
  shared.prefix = "block_sparse_moe.shared_experts.";
  shared.width =
      e.width * f.integer(f.has("n_shared_experts") ? "n_shared_experts" : "num_shared_experts", 0, 65536, 1);
  const int64_t dense = f.integer("first_k_dense_replace", 0, 4096, 1);

  const Json* kinds = f.find("mlp_layer_types");
  expect_biases(f, "attention_bias", {"q_a_proj", "kv_a_proj_with_mqa"}, d.naming);
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    x = with_residual(net, x, "input_layernorm", d.eps, [&](const Var& h) {
      return types[i] == "linear_attention" ? delta_attention(net, s, d.eps, h) : latent_attention(net, l, h);
    });
    // Published dense layers are called mlp.
    FeedForward own = d.ffn;
    if (net.has("mlp.gate_proj.weight")) own.prefix = "mlp.";
    const bool is_sparse = e.count && net.has("block_sparse_moe.gate.weight");
    if (kinds && (!kinds->is_array() || i >= kinds->size() || ((*kinds)[i] == "sparse") != is_sparse))
      f.refuse("mlp_layer_types", "does not agree with the tensors of layer " + std::to_string(i));
    if (is_sparse != (e.count && int64_t(i) >= dense))
      f.refuse("first_k_dense_replace", "does not agree with the tensors of layer " + std::to_string(i));
    x = with_residual(net, x, "post_attention_layernorm", d.eps, [&](const Var& h) {
      return is_sparse ? net.add(experts(net, e, h), feed_forward(net, shared, h)) : feed_forward(net, own, h);
    });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe kimi_recipe;
const Recipe kimi_recipe = {"kimi", {}, {"kimi_linear"}, build};

}  // namespace runnel::convert
