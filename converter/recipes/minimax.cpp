// MiniMax-01 (arXiv 2501.08313): lightning attention with a constant decay a head, now and then softmax attention;
// experts in every layer.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

// Decays fall with the head and, in later layers, with the layer.
std::vector<float> decays(int64_t heads, size_t layer, size_t layers) {
  std::vector<float> out;
  const double factor = 1 - double(layer) / (double(layers) - 1 + 1e-5) + 1e-5;
  for (int64_t h = 1; h <= heads; ++h) out.push_back(float(-std::pow(2.0, -8.0 * double(h) / double(heads)) * factor));
  return out;
}

Var lightning(Net& net, int64_t heads, int64_t dim, UnaryKind activation, double eps, const std::vector<float>& decay,
              const Var& x) {
  const std::string p = "self_attn.";
  const int64_t n = heads * dim;
  // Rows of q, k and v alternate by head.
  const SourceTensor& all = net.take(p + "qkv_proj.weight", {3 * n, x.dims[0]});
  const auto part = [&](const char* name, int64_t which) {
    std::vector<int64_t> rows;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < dim; ++i) rows.push_back((3 * h + which) * dim + i);
    return net.matrix(p + name, net.reordered(all, rows));
  };
  const std::string gate = net.matrix(p + "output_gate", net.take(p + "output_gate.weight", {n, x.dims[0]}));
  const std::vector<Var> in = net.products(
      x, {{part("q", 0), {heads, dim}}, {part("k", 1), {heads, dim}}, {part("v", 2), {heads, dim}}, {gate, {n}}});
  const Var q = net.unary(activation, in[0]), k = net.unary(activation, in[1]), v = net.unary(activation, in[2]);
  const std::string state = net.state(p + "state", {heads, dim, dim});
  const std::string rate = net.constant(p + "decay", decay, {heads});
  const Var y = net.op("matrix_recurrence", {q.name, k.name, v.name, rate, "", "", "", "", "", state}, "T",
                       {heads, dim}, {state}, format::MatrixRecurrenceAttrsT{});
  const Var normed = net.rms_norm(net.reshape(net.wanted(y), {n}), net.plain(p + "norm.weight", {n}), eps);
  return net.linear(net.glu(UnaryKind::sigmoid, net.wanted(in[3]), normed), {p + "out_proj", {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  for (const char* part : {"slope_rate", "query_decay", "key_decay", "diagonal_decay"}) c.ignore_containing(part);
  Decoder d;
  read_sizes(f, d);
  d.attention.scale = 1 / std::sqrt(double(d.attention.head_dim));
  d.is_tied = f.boolean("tie_word_embeddings", false);
  const UnaryKind activation = activation_named(f, "hidden_act", "silu");
  const size_t layers = d.layers.size();
  std::vector<std::string> types = layer_types(f, layers, "linear_attention");
  if (const Json* list = f.find("attn_type_list"); list && !f.has("layer_types"))
    for (size_t i = 0; i < layers && i < list->size(); ++i)
      if ((*list)[i] == 1) types[i] = "full_attention";
  f.expect("postnorm", true);
  f.expect("shared_intermediate_size", 0);
  f.pass_over({"shared_moe_mode", "attn_type_list", "max_model_len"});
  Experts e;
  e.prefix = "block_sparse_moe.";
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  e.count = f.integer("num_local_experts", 1, 65536);
  e.chosen = f.integer("num_experts_per_tok", 1, 65536);
  e.width = d.ffn.width;
  e.activation = activation;
  e.route.renormalise = true;
  // Published files say layernorm_..., the modelling code ..._factor.
  const auto factor = [&](const std::string& name) {
    std::string older = "layernorm_" + name;
    if (const size_t at = older.find("_attn_"); at != std::string::npos) older.replace(at, 6, "_attention_");
    return f.number(name + "_factor", f.number(older, 1));
  };
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  const int64_t rotary = f.integer("rotary_dim", 2, d.attention.head_dim, d.attention.head_dim);
  set_rope(net, d.attention, config_rope(f, "", 1000000, rotary));
  // Residuals start from the normed input.
  const auto half = [&](const Var& v, const char* norm, double alpha, double beta, auto part) {
    const Var h = net.rms_norm(v, net.plain(norm + std::string(".weight"), {d.hidden}), d.eps);
    const Var y = part(h);
    return net.add(net.scale(net.wanted(h), alpha), net.scale(y, beta));
  };
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    const bool is_linear = types[i] == "linear_attention";
    const std::string kind = is_linear ? "linear_attn" : "full_attn";
    x = half(x, "input_layernorm", factor(kind + "_alpha"), factor(kind + "_beta"), [&](const Var& h) {
      return is_linear ? lightning(net, d.attention.heads, d.attention.head_dim, activation, 1e-6,
                                   decays(d.attention.heads, i, layers), h)
                       : attention(net, d.attention, h);
    });
    x = half(x, "post_attention_layernorm", factor("mlp_alpha"), factor("mlp_beta"),
             [&](const Var& h) { return experts(net, e, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe minimax_recipe;
const Recipe minimax_recipe = {"minimax", {}, {"minimax", "minimax_text_01"}, build};

}  // namespace runnel::convert
