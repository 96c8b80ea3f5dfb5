// DiffLlama: Llama with differential attention (arXiv 2410.05258). Two heads, one of each half, see the same pair of
// values; what the second gives is taken from the first.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * b[i];
  return sum;
}

// How much of the second heads is taken away: at the beginning of training, and as it was learned.
double first_lambda(size_t layer) { return 0.8 - 0.6 * std::exp(-0.3 * double(layer)); }
double learned_lambda(Net& net, const Attention& a, double first) {
  const auto values = [&](const char* name) { return net.values(a.prefix + name, {a.head_dim}); };
  return std::exp(dot(values("lambda_q1"), values("lambda_k1"))) -
         std::exp(dot(values("lambda_q2"), values("lambda_k2"))) + first;
}

Var differential_attention(Net& net, const Attention& a, size_t layer, const Var& x) {
  const std::vector<Var> qkv = net.linears(x, {{a.prefix + a.q, {a.heads, a.head_dim}},
                                               {a.prefix + a.k, {a.kv_heads, a.head_dim}},
                                               {a.prefix + a.v, {a.kv_heads, a.head_dim}}});
  const int64_t half = a.kv_heads / 2, wide = 2 * a.head_dim;
  const Var pairs = net.concat({net.slice(qkv[2], 1, 0, half), net.slice(qkv[2], 1, half, half)}, 2);
  const Var y = attend(net, {a.scale, 0, 0, 0}, net.rope(qkv[0], a.rope, false, a.rope_scale),
                       net.rope(qkv[1], a.rope, false, a.rope_scale), net.concat({pairs, pairs}, 1));
  const Var heads = net.reshape(net.wanted(y), {a.heads, wide});
  const double first = first_lambda(layer);
  const Var rest = net.add(net.slice(heads, 1, 0, a.heads / 2),
                           net.scale(net.slice(heads, 1, a.heads / 2, a.heads / 2), -learned_lambda(net, a, first)));
  const Var normed = net.scale(net.rms_norm(rest, "", a.eps), 1 - first);
  return net.linear(net.reshape(normed, {a.heads * a.head_dim}), {a.prefix + a.o, {x.dims.back()}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = config_facts(c);
  read_basics(f, d);
  f.pass_over({"lambda_std_dev"});  // how weights began
  Attention& a = d.attention;
  if (a.kv_heads % 2 || a.heads % a.kv_heads) f.refuse("num_key_value_heads", "is odd or does not divide the heads");
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  set_rope(net, a, config_rope(f, "", 10000, a.head_dim));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    x = with_residual(net, x, d.attn_norm, d.eps, [&](const Var& h) { return differential_attention(net, a, i, h); });
    x = with_residual(net, x, d.ffn_norm, d.eps, [&](const Var& h) { return feed_forward(net, d.ffn, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe diffllama_recipe;
const Recipe diffllama_recipe = {"diffllama", {}, {"diffllama"}, build};

}  // namespace runnel::convert
