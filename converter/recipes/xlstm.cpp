// xLSTM 7B (arXiv 2503.13427): matrix memories with exponential gates, soft-capped gates and logits.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

struct Sizes {
  int64_t heads = 0, key = 0, value = 0;  // key and value: of all heads
  double gate_cap = 15, eps = 1e-6, norm_eps = 1e-6;
  bool is_fused = false;
};

Var mlstm(Net& net, const Sizes& s, const Var& x) {
  const std::string p = "mlstm_layer.";
  const int64_t dk = s.key / s.heads, dv = s.value / s.heads, all = 2 * s.key + 2 * s.value;
  const std::string in = p + "qkv_opreact", gates = p + "ifgate_preact";
  const std::vector<Var> v =
      s.is_fused ? net.linears(x, {{in, {s.heads, dk}, 0, all}, {in, {s.heads, dk}, s.key, all}, {in, {s.heads, dv}, 2 * s.key, all}, {in, {s.value}, 2 * s.key + s.value, all},
                                   {gates, {s.heads}, 0, 2 * s.heads}, {gates, {s.heads}, s.heads, 2 * s.heads}})
                 : net.linears(x, {{p + "q", {s.heads, dk}}, {p + "k", {s.heads, dk}}, {p + "v", {s.heads, dv}}, {p + "ogate_preact", {s.value}},
                                   {p + "igate_preact", {s.heads}}, {p + "fgate_preact", {s.heads}}});
  const auto cap = [&](const Var& y) { return s.gate_cap > 0 ? net.unary(UnaryKind::softcap, y, float(s.gate_cap)) : y; };
  // log of the forget gate's sigmoid: -softplus(-f)
  const Var decay = net.unary(UnaryKind::neg, net.unary(UnaryKind::softplus, net.unary(UnaryKind::neg, cap(v[5]))));
  const Var gate = cap(v[4]);
  format::MatrixRecurrenceAttrsT attrs;
  attrs.scale = float(1 / std::sqrt(double(dk)));
  attrs.normalise = format::RecurrenceNorm::bounded;
  attrs.eps = float(s.eps);
  const std::string c = net.state(p + "c", {s.heads, dk, dv}), n = net.state(p + "n", {s.heads, dk}), m = net.state(p + "m", {s.heads});
  const Var y = net.op("matrix_recurrence", {v[0].name, v[1].name, v[2].name, decay.name, "", "", "", "", gate.name, c, n, m}, "T", {s.heads, dv}, {c, n, m}, attrs);
  const Var normed = net.reshape(net.layer_norm(net.wanted(y), "", "", s.norm_eps), {s.value});
  const Var weighted = net.binary(format::BinaryKind::mul, normed, net.plain(p + "multihead_norm.weight", {s.value}));
  return net.linear(net.glu(UnaryKind::sigmoid, net.wanted(v[3]), weighted), {p + "out_proj", {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f(c.meta["config"], c.path.string() + "/config.json");
  const int64_t hidden = f.integer(f.has("hidden_size") ? "hidden_size" : "embedding_dim"), vocab = f.integer("vocab_size");
  if (f.boolean("use_bias", false)) f.refuse("use_bias", "is true: norms with biases are not supported");
  Sizes s;
  s.heads = f.integer("num_heads", 1, 65536);
  s.key = int64_t(double(hidden) * f.number("qk_dim_factor", 0.5));
  s.value = int64_t(double(hidden) * f.number("v_dim_factor", 1));
  s.gate_cap = f.number("gate_soft_cap", 15);
  s.eps = f.number("eps", 1e-6);
  s.norm_eps = f.number("norm_eps", 1e-6);
  s.is_fused = f.text("weight_mode", "single") == "fused";
  const size_t layers = size_t(f.integer(f.has("num_blocks") ? "num_blocks" : "num_hidden_layers", 1, 4096));
  const int64_t multiple = f.integer("ffn_round_up_to_multiple_of", 1, 65536, 64);
  FeedForward ffn;
  ffn.prefix = "ffn.";
  ffn.gate = "proj_up_gate", ffn.up = "proj_up", ffn.down = "proj_down";
  ffn.width = (int64_t(double(hidden) * f.number("ffn_proj_factor", 2.667)) + multiple - 1) / multiple * multiple;
  const bool is_tied = f.boolean("tie_word_embeddings", false);
  if (is_tied) c.ignore_containing("lm_head.weight");

  Net net(c, b, {"backbone.", "blocks.", {}}, int64_t(1) << 30);
  Var x = net.embed("embeddings", vocab, hidden);
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    x = with_residual(net, x, "norm_mlstm", s.norm_eps, [&](const Var& h) { return mlstm(net, s, h); });
    x = with_residual(net, x, "norm_ffn", s.norm_eps, [&](const Var& h) { return gated_feed_forward(net, ffn, h); });
  }
  net.leave_layers();
  if (f.boolean("add_out_norm", true)) x = net.rms_norm(x, net.plain("out_norm.weight", {hidden}), s.norm_eps);
  net.head(x, output_matrix(net, "embeddings", is_tied, vocab, hidden), vocab, f.number("output_logit_soft_cap", 0));
}

}  // namespace

extern const Recipe xlstm_recipe;
const Recipe xlstm_recipe = {"xlstm", {}, {"xlstm"}, build};

}  // namespace runnel::convert
