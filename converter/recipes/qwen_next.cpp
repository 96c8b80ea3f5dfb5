// Qwen3-Next and Qwen3.5 (text): three Gated DeltaNet layers, then one of gated attention; feed-forward or experts with
// a gated shared one. OLMo-Hybrid: the same recurrence with projections of its own, attention layers with norms behind
// both halves.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/delta.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"
#include "converter/recipes/rope.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

DeltaSizes read_delta_sizes(const Facts& f) {
  DeltaSizes s;
  s.key_heads = f.integer("linear_num_key_heads", 1, 65536);
  s.value_heads = f.integer("linear_num_value_heads", 1, 65536);
  s.key_dim = f.integer("linear_key_head_dim", 1, 65536);
  s.value_dim = f.has("linear_value_width") ? f.integer("linear_value_width") / s.value_heads
                                            : f.integer("linear_value_head_dim", 1, 65536);
  s.taps = f.integer("linear_conv_kernel_dim", 1, 64, 4);
  s.activation = activation_named(f, "hidden_act", "silu");
  s.is_round_robin = f.boolean("gguf.value_heads_go_round", false);
  return s;
}

// q, k, v, z, b and a: Qwen3.5 has a matrix for each of them but q, k and v; Qwen3-Next has them interleaved by key
// head.
std::vector<Var> qwen_products(Net& net, const DeltaSizes& s, const Var& x) {
  const std::string p = "linear_attn.";
  const int64_t k = s.key_width(), v = s.value_width(), qkv = 2 * k + v;
  if (net.has(p + "in_proj_qkv.weight"))
    return net.linears(x, {{p + "in_proj_qkv", {k}, 0, qkv},
                           {p + "in_proj_qkv", {k}, k, qkv},
                           {p + "in_proj_qkv", {v}, 2 * k, qkv},
                           {p + "in_proj_z", {v}},
                           {p + "in_proj_b", {s.value_heads}},
                           {p + "in_proj_a", {s.value_heads}}});
  const int64_t hidden = x.dims[0], ratio = s.value_heads / s.key_heads,
                group = 2 * s.key_dim + 2 * ratio * s.value_dim;
  const SourceTensor& qkvz = net.take(p + "in_proj_qkvz.weight", {s.key_heads * group, hidden});
  const SourceTensor& ba = net.take(p + "in_proj_ba.weight", {2 * s.value_heads, hidden});
  const auto pick = [&](const char* name, const SourceTensor& source, int64_t each, int64_t first, int64_t count) {
    std::vector<int64_t> rows;
    for (int64_t h = 0; h < s.key_heads; ++h)
      for (int64_t i = 0; i < count; ++i) rows.push_back(h * each + first + i);
    return net.matrix(p + name, net.reordered(source, rows));
  };
  const int64_t vs = ratio * s.value_dim;
  return net.products(x, {{pick("q", qkvz, group, 0, s.key_dim), {k}},
                          {pick("k", qkvz, group, s.key_dim, s.key_dim), {k}},
                          {pick("v", qkvz, group, 2 * s.key_dim, vs), {v}},
                          {pick("z", qkvz, group, 2 * s.key_dim + vs, vs), {v}},
                          {pick("b", ba, 2 * ratio, 0, ratio), {s.value_heads}},
                          {pick("a", ba, 2 * ratio, ratio, ratio), {s.value_heads}}});
}

Var qwen_delta(Net& net, const DeltaSizes& s, double eps, const Var& x) {
  const std::string p = "linear_attn.";
  const std::vector<Var> in = qwen_products(net, s, x);
  const int64_t channels = 2 * s.key_width() + s.value_width();
  const DeltaInput qkv = delta_input(net, s, in, net.values(p + "conv1d.weight", {channels, 1, s.taps}), p);
  const Var y =
      delta_rule(net, s, qkv, delta_decay(net, in[5], p, {s.value_heads}), net.unary(UnaryKind::sigmoid, in[4]), p);
  return net.linear(gated_head_norm(net, y, in[3], p + "norm.weight", UnaryKind::silu, eps),
                    {p + "out_proj", {x.dims[0]}});
}

// Rows of q and of its gate alternate by head in one matrix.
Var gated_attention(Net& net, const Attention& a, const Var& x) {
  const std::string& p = a.prefix;
  const SourceTensor& both = net.take(p + "q_proj.weight", {2 * a.heads * a.head_dim, x.dims[0]});
  const auto part = [&](const char* name, int64_t first) {
    std::vector<int64_t> rows;
    for (int64_t h = 0; h < a.heads; ++h)
      for (int64_t i = 0; i < a.head_dim; ++i) rows.push_back(h * 2 * a.head_dim + first + i);
    return net.matrix(p + name, net.reordered(both, rows));
  };
  const auto plain = [&](const char* name) {
    return net.matrix(p + name, net.take(p + name + std::string(".weight"), {a.kv_heads * a.head_dim, x.dims[0]}));
  };
  // Biases, which published models do without, are added apart.
  const auto biased = [&](const Var& v, const char* name, int64_t first, int64_t stride) {
    if (!net.has_bias(p + name)) return v;
    const std::vector<float> all = net.values_of_rows(p + name + std::string(".bias"), {});
    std::vector<float> own;
    for (int64_t h = 0; h * stride < int64_t(all.size()); ++h)
      for (int64_t i = 0; i < a.head_dim; ++i) own.push_back(all[size_t(h * stride + first + i)]);
    return net.binary(format::BinaryKind::add, v,
                      net.constant(p + name + ".bias[" + std::to_string(first) + "]", own, v.dims));
  };
  std::vector<Var> in = net.products(x, {{part("q_proj[q]", 0), {a.heads, a.head_dim}},
                                         {plain("k_proj"), {a.kv_heads, a.head_dim}},
                                         {plain("v_proj"), {a.kv_heads, a.head_dim}},
                                         {part("q_proj[gate]", a.head_dim), {a.heads * a.head_dim}}});
  in[0] = biased(in[0], "q_proj", 0, 2 * a.head_dim);
  in[1] = biased(in[1], "k_proj", 0, a.head_dim);
  in[2] = biased(in[2], "v_proj", 0, a.head_dim);
  in[3] = biased(in[3], "q_proj", a.head_dim, 2 * a.head_dim);
  const auto turned = [&](const Var& v, const char* weight) {
    return net.rope(net.rms_norm(v, net.plain(p + weight, {a.head_dim}, a.norm_offset), a.eps), a.rope, false,
                    a.rope_scale);
  };
  const Var y = attend(net, {a.scale, 0, 0}, turned(in[0], "q_norm.weight"), turned(in[1], "k_norm.weight"), in[2]);
  return net.linear(net.glu(UnaryKind::sigmoid, net.wanted(in[3]), net.wanted(y)), {p + "o_proj", {x.dims[0]}});
}

const std::map<std::string, std::string> kGgufDelta = {
    {"linear_attn.in_proj_qkv", "attn_qkv"}, {"linear_attn.in_proj_z", "attn_gate"},
    {"linear_attn.in_proj_b", "ssm_beta"},   {"linear_attn.in_proj_a", "ssm_alpha"},
    {"linear_attn.conv1d", "ssm_conv1d"},    {"linear_attn.dt_bias", "ssm_dt.bias"},
    {"linear_attn.A_log", "ssm_a"},          {"linear_attn.norm", "ssm_norm"},
    {"linear_attn.out_proj", "ssm_out"},     {"post_attention_layernorm", "post_attention_norm"}};

// Value heads of a GGUF go round the key heads; with one each there is nothing to tell.
const GgufForm kGguf = {
    {{"sliding_window", ""},
     {"linear_num_key_heads", "ssm.group_count"},
     {"linear_num_value_heads", "ssm.time_step_rank"},
     {"linear_key_head_dim", "ssm.state_size"},
     {"linear_value_width", "ssm.inner_size"},
     {"linear_conv_kernel_dim", "ssm.conv_kernel"}},
    {{"gguf.value_heads_go_round", true}, {"rope_theta", 10000000}, {"partial_rotary_factor", 0.25}}};

void read_mixture(const Facts& f, Decoder& d) {
  Experts& e = d.experts;
  e.count = f.integer("num_experts", 0, 65536, 0);
  set_expert_layers(f, d);
  e.chosen = f.integer("num_experts_per_tok", 0, 65536, 0);
  e.width = f.integer("moe_intermediate_size", 0, 1 << 30, 0);
  e.route.renormalise = f.boolean("norm_topk_prob", true);
  e.activation = d.ffn.activation;
  add_gated_expert(f.integer("shared_expert_intermediate_size", 0, 1 << 30, 0), d);
}

void build_qwen(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c, kGguf);
  Decoder d;
  Attention& a = d.attention;
  for (const auto& [name, gguf] : kGgufDelta) d.naming.gguf[name] = gguf;
  for (const char* prefix : {"model.language_model.", "language_model.model."})
    if (c.has(prefix + std::string("embed_tokens.weight"))) d.naming.root = prefix;
  d.hidden = f.integer("hidden_size");
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, 2);
  a.head_dim = f.integer("head_dim", 2, 65536, 256);
  f.expect("attention.value_length", a.head_dim);
  a.scale = 1 / std::sqrt(double(a.head_dim));
  f.stated_in_gguf({"rms_norm_eps"});
  d.eps = a.eps = f.number("rms_norm_eps", 1e-6);
  d.norm_offset = a.norm_offset = 1;
  d.vocab = f.integer("vocab_size");
  d.context = f.integer("max_position_embeddings");
  d.is_tied = f.boolean("tie_word_embeddings", outer_facts(c).boolean("tie_word_embeddings", false));
  read_biases(f, d.naming);
  f.expect("attn_output_gate", true);
  // Published files of the mixtures leave the width of the dense layers out.
  d.ffn.width = f.integer("intermediate_size", 1, 1 << 30, 5632);
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
  const DeltaSizes s = read_delta_sizes(f);
  const int64_t interval = f.integer("full_attention_interval", 1, 4096, 4);
  const std::vector<std::string> types = layer_types(f, d.layers.size(), "");
  read_mixture(f, d);

  const Rope rope = read_rope(c, f, "", 10000, a.head_dim);
  Net net(c, b, d.naming, d.context, false, rope.sections);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  set_rope(net, a, rope);
  const auto norm = [&](const Var& v, const char* name) {
    return net.rms_norm(v, net.plain(name + std::string(".weight"), {d.hidden}, d.norm_offset), d.eps);
  };
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    const bool is_linear = types[i].empty() ? (int64_t(i) + 1) % interval != 0 : types[i] == "linear_attention";
    const Var h = norm(x, "input_layernorm");
    x = net.add(net.wanted(x), is_linear ? qwen_delta(net, s, d.eps, h) : gated_attention(net, a, h));
    const Var g = norm(x, "post_attention_layernorm");
    if (!d.layers[i].has_experts) {
      x = net.add(x, feed_forward(net, d.ffn, g));
      continue;
    }
    const Var weight = net.unary(UnaryKind::sigmoid, net.linear(g, {d.shared_gate, {1}}));
    x = net.add(x, net.add(experts(net, d.experts, g), net.mul(feed_forward(net, d.shared, g), weight)));
  }
  net.leave_layers();
  x = norm(x, "norm");
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

Var olmo_delta(Net& net, const DeltaSizes& s, bool is_doubled, const Var& x) {
  const std::string p = "linear_attn.";
  const std::vector<Var> in = net.linears(x, {{p + "q_proj", {s.key_width()}},
                                              {p + "k_proj", {s.key_width()}},
                                              {p + "v_proj", {s.value_width()}},
                                              {p + "g_proj", {s.value_width()}},
                                              {p + "b_proj", {s.value_heads}},
                                              {p + "a_proj", {s.value_heads}}});
  const DeltaInput qkv = delta_input(net, s, in, joined_convs(net, p, s), p);
  Var beta = net.unary(UnaryKind::sigmoid, in[4]);
  if (is_doubled) beta = net.scale(beta, 2);
  const Var y = delta_rule(net, s, qkv, delta_decay(net, in[5], p, {s.value_heads}), beta, p);
  return net.linear(gated_head_norm(net, y, in[3], p + "o_norm.weight", UnaryKind::silu, 1e-5),
                    {p + "o_proj", {x.dims[0]}});
}

void build_olmo(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Decoder d;
  read_sizes(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.attention.q_norm = "q_norm";
  d.attention.k_norm = "k_norm";
  d.attention.norm_is_whole = true;
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.is_tied = f.boolean("tie_word_embeddings", false);
  read_biases(f, d.naming);
  const DeltaSizes s = read_delta_sizes(f);
  const bool is_doubled = f.boolean("linear_allow_neg_eigval", true);
  const std::vector<std::string> types = layer_types(f, d.layers.size(), "linear_attention");

  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  const auto rope = rope_facts(f);
  if (f.has("rope_theta") || (rope && rope->has("rope_theta")))
    set_rope(net, d.attention, config_rope(f, "", 500000, d.attention.head_dim));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    const auto norm = [&](const Var& v, const char* name) {
      return net.rms_norm(v, net.plain(name + std::string(".weight"), {d.hidden}), d.eps);
    };
    if (types[i] == "full_attention") {
      const Var y = attention(net, d.attention, x);
      // transformers saves the first of these norms under the name that it has in the other layers.
      x = net.add(net.wanted(x), norm(y, net.has("post_attention_layernorm.weight") ? "post_attention_layernorm"
                                                                                    : "feedforward_layer_norm"));
      x = net.add(x, norm(feed_forward(net, d.ffn, x), "post_feedforward_layernorm"));
    } else {
      // Published names differ from those of the modelling code.
      const bool is_long = net.has("attention_layer_norm.weight");
      x = with_residual(net, x, is_long ? "attention_layer_norm" : "input_layernorm", d.eps,
                        [&](const Var& h) { return olmo_delta(net, s, is_doubled, h); });
      x = with_residual(net, x, is_long ? "feedforward_layer_norm" : "post_attention_layernorm", d.eps,
                        [&](const Var& h) { return feed_forward(net, d.ffn, h); });
    }
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe qwen_next_recipe, olmo_hybrid_recipe;
const Recipe qwen_next_recipe = {
    "qwen_next", {"qwen35"}, {"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"}, build_qwen};
const Recipe olmo_hybrid_recipe = {"olmo_hybrid", {}, {"olmo_hybrid"}, build_olmo};

}  // namespace runnel::convert
