// RecurrentGemma (Griffin, arXiv 2402.19427): gated linear recurrences over channels, every third layer local
// attention.
#include <cmath>

#include "base/half.h"
#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

// x through one square matrix a head [heads, in, out] (this way round in the source) and a bias [heads, out].
Var by_heads(Net& net, const std::string& name, int64_t heads, int64_t size, const Var& x) {
  const std::vector<float> w = net.values(name + "_weight", {heads, size, size});
  std::vector<float> turned(w.size());
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = 0; i < size; ++i)
      for (int64_t o = 0; o < size; ++o)
        turned[size_t((h * size + o) * size + i)] = w[size_t((h * size + i) * size + o)];
  const Var y = net.by_group(x, name + "_weight", turned, heads, size, size);
  return net.reshape(net.binary(BinaryKind::add, y, net.plain(name + "_bias", {heads, size})), {heads * size});
}

// first: 1 for the stream's first token, else 0; that token enters the recurrence undamped.
Var recurrent_block(Net& net, int64_t heads, int64_t width, int64_t taps, UnaryKind activation, const Var& first,
                    const Var& x) {
  const std::string p = "temporal_block.";
  const std::vector<Var> in = net.linears(x, {{p + "linear_y", {width}}, {p + "linear_x", {width}}});
  const Var u = short_conv(net, in[1], p + "conv_1d", taps, UnaryKind::none);
  const Var input_gate = net.unary(UnaryKind::sigmoid, by_heads(net, p + "rg_lru.input_gate", heads, width / heads, u));
  const Var recurrent_gate =
      net.unary(UnaryKind::sigmoid, by_heads(net, p + "rg_lru.recurrent_gate", heads, width / heads, u));
  // log a = -8 gate softplus(parameter)
  std::vector<float> rate = net.values(p + "rg_lru.recurrent_param", {width});
  for (float& v : rate) v = float(-8 * (v > 20 ? double(v) : std::log1p(std::exp(double(v)))));
  const Var log_a = net.binary(BinaryKind::mul, recurrent_gate, net.constant(p + "rg_lru.rate", rate, {width}));
  const Var a_squared = net.unary(UnaryKind::exp, net.scale(log_a, 2));
  const Var rest = net.binary(BinaryKind::add, net.unary(UnaryKind::neg, a_squared), net.constant(p + "one", {1}, {1}));
  const Var damping = net.binary(BinaryKind::max, net.unary(UnaryKind::sqrt, rest), first);
  const Var entering = net.mul(net.mul(u, input_gate), damping);
  const std::string state = net.state(p + "state", {width});
  format::ScanAttrsT attrs;
  attrs.log_decay = true;
  const Var h = net.op("scan", {log_a.name, entering.name, state}, "T", {width}, {state}, attrs);
  return net.linear(net.glu(activation, net.wanted(in[0]), net.wanted(h)), {p + "linear_out", {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer("hidden_size"), vocab = f.integer("vocab_size"),
                width = f.integer("lru_width", 1, 1 << 30, hidden);
  const double eps = f.number("rms_norm_eps", 1e-6);
  const size_t layers = size_t(f.integer("num_hidden_layers", 1, 4096));
  Attention a;
  a.prefix = "temporal_block.";
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  a.head_dim = f.integer("head_dim", 2, 65536, hidden / a.heads);
  a.window = f.integer("attention_window_size", 1, 1 << 30, 2048);
  a.scale = 1 / std::sqrt(double(a.head_dim));
  if (width % a.heads) f.refuse("lru_width", "is no multiple of num_attention_heads");
  FeedForward ffn;
  ffn.prefix = "mlp_block.";
  ffn.width = f.integer("intermediate_size") / 2;
  ffn.activation = activation_named(f, "hidden_activation", "gelu_pytorch_tanh");
  const int64_t taps = f.integer("conv1d_width", 1, 64, 4);
  std::vector<std::string> pattern = {"recurrent", "recurrent", "attention"};
  for (const char* key : {"block_types", "_block_types"})
    if (const Json* types = f.find(key); types && types->is_array() && !types->empty())
      pattern = types->get<std::vector<std::string>>();

  f.expect("embeddings_scale_by_sqrt_dim", true);
  Naming naming = {"model.", "layers.", {}};
  expect_biases(f, "attention_bias", {"q_proj", "k_proj", "v_proj"}, naming);
  Net net(c, b, std::move(naming), f.integer("max_position_embeddings", 1, 1 << 30, 8192));
  // The original keeps this factor in bfloat16.
  Var x = net.embed("embed_tokens", vocab, hidden, bf16_to_float(float_to_bf16(float(std::sqrt(double(hidden))))));
  // The rotated part of a head where the configuration does not say: half.
  const bool is_said = f.has("rope_parameters") || f.has("partial_rotary_factor");
  set_rope(net, a, config_rope(f, "", 10000, is_said ? a.head_dim : a.head_dim / 2));
  // 1 - (1 one token ago): a convolution over ones, whose tail is 0 before the first token.
  const Var zero = net.scale(net.slice(x, 1, 0, 1), 0);
  const Var ones = net.binary(BinaryKind::add, zero, net.constant("one", {1}, {1}));
  const Var first = short_conv(net, ones, net.constant("difference", {-1, 1}, {1, 2}), "", 2, UnaryKind::none, "first");
  const auto norm = [&](const Var& v, const char* name) {
    return net.rms_norm(v, net.plain(name + std::string(".weight"), {hidden}, 1), eps);
  };
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    const bool is_attention = pattern[i % pattern.size()] == "attention";
    const Var h = norm(x, "temporal_pre_norm");
    x = net.add(net.wanted(x), is_attention ? attention(net, a, h)
                                            : recurrent_block(net, a.heads, width, taps, ffn.activation, first, h));
    x = net.add(x, feed_forward(net, ffn, norm(x, "channel_pre_norm")));
  }
  net.leave_layers();
  x = norm(x, "final_norm");
  net.head(x, output_matrix(net, "embed_tokens", f.boolean("tie_word_embeddings", true), vocab, hidden), vocab,
           f.number("logits_soft_cap", 30));
}

}  // namespace

extern const Recipe recurrent_gemma_recipe;
const Recipe recurrent_gemma_recipe = {"recurrent_gemma", {}, {"recurrent_gemma"}, build};

}  // namespace runnel::convert
