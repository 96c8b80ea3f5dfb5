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

// x plus "{norm}.bias" where the source has one.
Var biased(Net& net, const Var& x, const std::string& norm) {
  return net.has(norm + ".bias") ? net.binary(format::BinaryKind::add, x, net.plain(norm + ".bias", {x.dims.back()}))
                                 : x;
}

Var normed(Net& net, const Sizes& s, const Var& x, const std::string& norm) {
  return biased(net, net.rms_norm(x, net.plain(norm + ".weight", {x.dims.back()}), s.norm_eps), norm);
}

Var mlstm(Net& net, const Sizes& s, const Var& x) {
  const std::string p = "mlstm_layer.";
  const int64_t dk = s.key / s.heads, dv = s.value / s.heads, all = 2 * s.key + 2 * s.value;
  const std::string in = p + "qkv_opreact", gates = p + "ifgate_preact";
  const std::vector<Var> v = s.is_fused ? net.linears(x, {{in, {s.heads, dk}, 0, all},
                                                          {in, {s.heads, dk}, s.key, all},
                                                          {in, {s.heads, dv}, 2 * s.key, all},
                                                          {in, {s.value}, 2 * s.key + s.value, all},
                                                          {gates, {s.heads}, 0, 2 * s.heads},
                                                          {gates, {s.heads}, s.heads, 2 * s.heads}})
                                        : net.linears(x, {{p + "q", {s.heads, dk}},
                                                          {p + "k", {s.heads, dk}},
                                                          {p + "v", {s.heads, dv}},
                                                          {p + "ogate_preact", {s.value}},
                                                          {p + "igate_preact", {s.heads}},
                                                          {p + "fgate_preact", {s.heads}}});
  const auto cap = [&](const Var& y) {
    return s.gate_cap > 0 ? net.unary(UnaryKind::softcap, y, float(s.gate_cap)) : y;
  };
  // log of the forget gate's sigmoid: -softplus(-f)
  const Var decay = net.unary(UnaryKind::neg, net.unary(UnaryKind::softplus, net.unary(UnaryKind::neg, cap(v[5]))));
  const Var gate = cap(v[4]);
  format::MatrixRecurrenceAttrsT attrs;
  attrs.scale = float(1 / std::sqrt(double(dk)));
  attrs.normalise = format::RecurrenceNorm::bounded;
  attrs.eps = float(s.eps);
  const std::string c = net.state(p + "c", {s.heads, dk, dv}), n = net.state(p + "n", {s.heads, dk}),
                    m = net.state(p + "m", {s.heads});
  const Var y =
      net.op("matrix_recurrence", {v[0].name, v[1].name, v[2].name, decay.name, "", "", "", "", gate.name, c, n, m},
             "T", {s.heads, dv}, {c, n, m}, attrs);
  const Var centred = net.reshape(net.layer_norm(net.wanted(y), "", "", s.norm_eps), {s.value});
  const Var weighted =
      biased(net, net.binary(format::BinaryKind::mul, centred, net.plain(p + "multihead_norm.weight", {s.value})),
             p + "multihead_norm");
  return net.linear(net.glu(UnaryKind::sigmoid, net.wanted(v[3]), weighted), {p + "out_proj", {x.dims[0]}});
}

Var feed_forward(Net& net, const FeedForward& f, bool is_fused, const Var& x) {
  if (!is_fused) return feed_forward(net, f, x);
  const std::string both = f.prefix + "proj_up_gate_z";
  const std::vector<Var> in =
      net.linears(x, {{both, {f.width}, 0, 2 * f.width}, {both, {f.width}, f.width, 2 * f.width}});
  return net.linear(net.glu(f.activation, in[0], in[1]), {f.prefix + f.down, {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer(f.has("hidden_size") ? "hidden_size" : "embedding_dim"),
                vocab = f.integer("vocab_size");
  Sizes s;
  s.heads = f.integer("num_heads", 1, 65536);
  s.key = int64_t(double(hidden) * f.number("qk_dim_factor", 0.5));
  s.value = int64_t(double(hidden) * f.number("v_dim_factor", 1));
  s.gate_cap = f.number("gate_soft_cap", f.is_null("gate_soft_cap") ? 0 : 15);
  s.eps = f.number("eps", 1e-6);
  s.norm_eps = f.number("norm_eps", 1e-6);
  s.is_fused = f.text("weight_mode", "single") == "fused";
  const size_t layers = size_t(f.integer(f.has("num_blocks") ? "num_blocks" : "num_hidden_layers", 1, 4096));
  const int64_t multiple = f.integer("ffn_round_up_to_multiple_of", 1, 65536, 64);
  FeedForward ffn;
  ffn.prefix = "ffn.";
  ffn.gate = "proj_up_gate", ffn.up = "proj_up", ffn.down = "proj_down";
  ffn.width = (int64_t(double(hidden) * f.number("ffn_proj_factor", 2.667)) + multiple - 1) / multiple * multiple;
  f.pass_over({"add_out_norm", "embedding_dim", "hidden_size", "num_hidden_layers", "num_blocks"});
  const bool is_tied = f.boolean("tie_word_embeddings", true) &&
                       !c.has("lm_head.weight");  // the modelling code never ties, whatever the configuration says

  Naming naming = {"backbone.", "blocks.", {}};
  expect_biases(f, "use_bias",
                {"q", "k", "v", "ogate_preact", "out_proj", "proj_up_gate", "proj_up", "proj_down", "qkv_opreact",
                 "proj_up_gate_z"},
                naming);
  Net net(c, b, std::move(naming), int64_t(1) << 30);
  Var x = net.embed("embeddings", vocab, hidden);
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    const Var y = mlstm(net, s, normed(net, s, x, "norm_mlstm"));
    x = net.add(net.wanted(x), y);
    x = net.add(x, feed_forward(net, ffn, s.is_fused, normed(net, s, x, "norm_ffn")));
  }
  net.leave_layers();
  if (net.has("out_norm.weight")) x = normed(net, s, x, "out_norm");
  net.head(x, output_matrix(net, "embeddings", is_tied, vocab, hidden), vocab, f.number("output_logit_soft_cap", 0));
}

}  // namespace

extern const Recipe xlstm_recipe;
const Recipe xlstm_recipe = {"xlstm", {}, {"xlstm"}, build};

}  // namespace runnel::convert
