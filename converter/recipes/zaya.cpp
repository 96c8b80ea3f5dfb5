// ZAYA1: compressed convolutional attention (arXiv 2510.04476), whose queries and keys go through two short
// convolutions and half of whose values are those of the token before; one expert of a mixture or none, chosen by a
// small network that remembers what the layer before made of the token.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

struct Zaya {
  Decoder d;
  int64_t taps = 2, group_taps = 2;  // of the convolutions
  int64_t router_width = 256;
};

// What x was `steps` tokens ago; before the first token it was `first` [channels].
Var delayed(Net& net, const Var& x, int64_t steps, const std::vector<float>& first, const std::string& name) {
  const int64_t n = x.dims[0];
  std::vector<float> weight(size_t(n * (steps + 1))), tail;
  for (int64_t i = 0; i < n; ++i) weight[size_t(i * (steps + 1))] = 1;
  for (int64_t i = 0; i < steps; ++i) tail.insert(tail.end(), first.begin(), first.end());
  const std::string state =
      net.state(name + ".tail", {steps, n}, format::DType::f32, net.constant(name + ".first", tail, {steps, n}));
  return net.op("causal_conv", {x.name, net.constant(name + ".taps", weight, {n, steps + 1}), "", state}, x.axis,
                x.dims, {state}, format::ConvAttrsT());
}

// A convolution of each channel, then one of the channels of each head. What the first gives before the first token is
// its bias.
Var convolved(Net& net, const Zaya& z, const Var& x, const std::string& p) {
  const int64_t n = x.dims[0], size = z.d.attention.head_dim, taps = z.group_taps;
  const Var each = short_conv(net, x, p + "conv_qk_depthwise", z.taps, UnaryKind::none);
  const std::vector<float> bias = net.values(p + "conv_qk_depthwise.bias", {n});
  std::vector<Var> steps;
  for (int64_t j = 0; j < taps; ++j) {
    const int64_t back = taps - 1 - j;
    const Var y = back ? delayed(net, each, back, bias, p + "back" + std::to_string(back)) : each;
    steps.push_back(net.reshape(y, {n / size, size}));
  }
  // [channels, in, taps] as [heads, out, taps, in].
  const std::vector<float> given = net.values(p + "conv_qk_grouped.weight", {n, size, taps});
  std::vector<float> weights(given.size());
  for (int64_t c = 0; c < n; ++c)
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < taps; ++j)
        weights[size_t((c * taps + j) * size + i)] = given[size_t((c * size + i) * taps + j)];
  const Var y = net.by_group(net.concat(steps, 2), p + "conv_qk_grouped.weight", weights, n / size, size, taps * size);
  return net.binary(BinaryKind::add, y, net.plain_as(p + "conv_qk_grouped.bias", {n}, {n / size, size}));
}

// To length sqrt(channels).
Var on_sphere(Net& net, const Var& x) { return net.rms_norm(x, "", 1e-15); }

Var convolutional_attention(Net& net, const Zaya& z, const Attention& a, const Var& x) {
  const std::string p = "self_attn.qkv_proj.";
  const int64_t size = a.head_dim, group = a.heads / a.kv_heads, half = a.kv_heads * size / 2;
  const std::vector<Var> in = net.linears(x, {{p + "q_proj", {a.heads * size}},
                                              {p + "k_proj", {a.kv_heads * size}},
                                              {p + "v_proj_current", {half}},
                                              {p + "v_proj_delayed", {half}}});
  const Var mixed =
      net.scale(net.add(net.reshape(in[0], {a.kv_heads, group, size}), net.reshape(in[1], {a.kv_heads, 1, size})), 0.5);
  format::ReduceAttrsT mean;
  mean.kind = format::ReduceKind::mean;
  mean.axis = 2;
  const Var mean_of_group = net.op("reduce", {mixed.name}, x.axis, {a.kv_heads, size}, {}, mean);
  const Var qk = convolved(net, z, net.concat({in[0], in[1]}, 1), p);
  const Var q = net.add(net.slice(qk, 1, 0, a.heads), net.reshape(mixed, {a.heads, size}));
  const Var k = net.add(net.slice(qk, 1, a.heads, a.kv_heads), mean_of_group);
  const Var warm = net.binary(BinaryKind::mul, on_sphere(net, k),
                              net.plain_as("self_attn.qk_norm.temp", {a.kv_heads}, {a.kv_heads, 1}));
  const std::string bias = p + "v_proj_delayed.bias";
  const std::vector<float> none =
      net.has(bias) ? net.values(bias, {half}) : std::vector<float>(static_cast<size_t>(half));
  const Var v = net.concat({in[2], delayed(net, in[3], 1, none, p + "v_before")}, 1);
  const Var y = attend(net, {a.scale, 0, a.window, 0}, net.rope(on_sphere(net, q), a.rope, false, a.rope_scale),
                       net.rope(warm, a.rope, false, a.rope_scale), net.reshape(v, {a.kv_heads, size}));
  return net.linear(net.wanted(y), {"self_attn.o_proj", {x.dims[0]}});
}

// (y + bias) * scale of the tensors name_bias and name_scale.
Var shifted(Net& net, const Var& y, const std::string& name) {
  const Var sum = net.binary(BinaryKind::add, y, net.plain(name + "_bias", y.dims));
  return net.binary(BinaryKind::mul, sum, net.plain(name + "_scale", y.dims));
}
Var joined(Net& net, const Var& x, const Var& y, const std::string& name) {
  return net.add(shifted(net, y, name + ".hidden_states"), shifted(net, net.wanted(x), name + ".residual"));
}

// Rows first .. (`rows` of them) of each expert's matrix [all, columns]; behind them zeros for the choice of none.
std::string expert_matrices(Net& net, const Experts& e, const std::string& name, int64_t first, int64_t rows,
                            int64_t all, int64_t columns, const std::string& part) {
  SourceTensor flat = net.take(name, {e.count, all, columns});
  flat.shape = {uint64_t(e.count * all), uint64_t(columns)};
  std::vector<const SourceTensor*> parts;
  for (int64_t i = 0; i < e.count; ++i) parts.push_back(&net.rows_of(flat, i * all + first, rows));
  parts.push_back(&net.derived(*parts[0], std::vector<uint8_t>(size_t(parts[0]->bytes))));
  return net.matrix(e.prefix + "experts." + part, net.stacked(parts));
}

// The expert that the router's h speaks for, or nothing.
Var chosen_expert(Net& net, const Experts& e, const Var& x, const Var& h) {
  const int64_t hidden = x.dims[0], w = e.width;
  const Var logits = net.linear(h, {e.prefix + e.router, {e.count + 1}});
  const Var ids = net.make(e.prefix + "ids", x.axis, {1}, true, format::DType::i32);
  const Var share = net.op("route", {logits.name, net.plain(e.prefix + e.choice_bias, {e.count + 1})}, x.axis, {1},
                           {ids.name}, e.route);
  const std::string both = e.prefix + e.gate_up;
  const Var up = net.make(e.prefix + "up", x.axis, {1, w}, true);
  const Var gate = net.op("routed_matmul",
                          {x.name, ids.name, expert_matrices(net, e, both, 0, w, 2 * w, hidden, "gate"),
                           expert_matrices(net, e, both, w, w, 2 * w, hidden, "up")},
                          x.axis, {1, w}, {up.name});
  const Var y = net.op("routed_matmul",
                       {net.glu(e.activation, gate, up).name, ids.name,
                        expert_matrices(net, e, e.prefix + e.down, 0, hidden, hidden, w, "down")},
                       x.axis, {1, hidden});
  return net.mul(net.reshape(y, {hidden}), share);
}

// before: what the layer before made of the token; replaced by this layer's.
Var routed(Net& net, const Zaya& z, const Var& x, Var& before) {
  const std::string p = "mlp.gate.";
  Var r = net.linear(x, {p + "down_proj", {z.router_width}});
  if (!before.name.empty())
    r = net.add(r, net.binary(BinaryKind::mul, net.wanted(before), net.plain(p + "router_states_scale", r.dims)));
  before = r;
  Var h = net.rms_norm(r, net.plain(p + "router_mlp.norm.weight", r.dims), z.d.eps);
  for (const char* name : {"router_mlp.fc1", "router_mlp.fc2"})
    h = net.unary(UnaryKind::gelu, net.linear(h, {p + name, {z.router_width}}));
  return chosen_expert(net, z.d.experts, x, h);
}

Zaya read(const Facts& f) {
  Zaya z;
  Decoder& d = z.d;
  read_basics(f.with_defaults({{"intermediate_size", 1}}), d);  // of layers that it does not have
  d.is_tied = f.boolean("tie_word_embeddings", true);
  z.taps = f.integer("cca_time0", 1, 64, 2);
  z.group_taps = f.integer("cca_time1", 1, 64, 2);
  z.router_width = f.integer("router_hidden_size", 1, 1 << 20, 256);
  Experts& e = d.experts;
  e.count = f.integer("num_experts", 1, 65535);
  f.expect("num_experts_per_tok", 1);
  e.width = f.integer("moe_intermediate_size");
  e.activation = d.ffn.activation;
  e.router = "gate.router_mlp.out_proj", e.choice_bias = "gate.balancing_biases";
  e.gate_up = "experts.gate_up_proj", e.down = "experts.down_proj";
  const Attention& a = d.attention;
  if (a.heads % a.kv_heads || a.kv_heads * a.head_dim % 2) f.refuse("num_key_value_heads", "does not divide the heads");
  f.pass_over({"sliding_window"});
  const std::vector<std::string> types = layer_types(f, d.layers.size(), "hybrid");
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "hybrid" && types[i] != "hybrid_sliding")
      f.refuse("layer_types", "holds \"" + printable(types[i]) + "\"; hybrid and hybrid_sliding are supported");
    if (types[i] == "hybrid_sliding") d.layers[i] = {f.integer("sliding_window", 1, 1 << 30), 1};
  }
  d.ropes = {config_rope(f, "hybrid", 5000000, a.head_dim, 0.5),
             config_rope(f, "hybrid_sliding", 10000, a.head_dim, 0.5)};
  return z;
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Zaya z = read(config_facts(c));
  const Decoder& d = z.d;
  Net net(c, b, d.naming, d.context);
  Var x = shifted(net, net.embed("embed_tokens", d.vocab, d.hidden), "input_hidden_states"), before;
  std::vector<std::string> ropes;
  for (size_t i = 0; i < d.ropes.size(); ++i) ropes.push_back(rope_table(net, d.ropes[i], "rope" + std::to_string(i)));
  const auto normed = [&](const Var& v, const char* name) {
    return net.rms_norm(v, net.plain(name + std::string(".weight"), {d.hidden}), d.eps);
  };
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    Attention a = d.attention;
    a.window = d.layers[i].window;
    a.rope = ropes[size_t(d.layers[i].rope)], a.rope_scale = d.ropes[size_t(d.layers[i].rope)].scale;
    x = joined(net, x, convolutional_attention(net, z, a, normed(x, d.attn_norm)), "post_attention_residual_scale");
    x = joined(net, x, routed(net, z, normed(x, d.ffn_norm), before), "post_mlp_residual_scale");
  }
  net.leave_layers();
  x = normed(x, "norm");
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe zaya_recipe;
const Recipe zaya_recipe = {"zaya", {}, {"zaya"}, build};

}  // namespace runnel::convert
