// SambaY (arXiv 2507.06607), Phi-4-mini-flash: Mamba and differential attention (arXiv 2410.05258) with a window, in
// turns, then one Mamba whose read-out and one full attention whose keys and values all later layers use: gates on that
// read-out, and attention with queries alone. No positions.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;

double exp_of_dot(Net& net, const std::string& a, const std::string& b, int64_t n) {
  const std::vector<float> x = net.values(a, {n}), y = net.values(b, {n});
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += double(x[i]) * y[i];
  return std::exp(sum);
}

// Neighbouring heads make a pair: each has its own scores over the values of both, and what the second gives is taken
// from the first. A pair of keys stands in the states as one key of twice the size, and a query is filled up with zeros
// where the other one's key is, so keys and values are stored once.
struct Differential {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::string shared;  // states of keys and values of another layer; empty: own ones
  int64_t window = 0;

  int64_t width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }

  Var paired_query(Net& net, const Var& q) const {
    std::vector<float> mask;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < 2 * head_dim; ++i) mask.push_back((i < head_dim) == (h % 2 == 0) ? 1.0f : 0.0f);
    const Var twice = net.concat({q, q}, 2);
    return net.binary(BinaryKind::mul, twice, net.constant("/pairs", mask, twice.dims));
  }

  Var operator()(Net& net, size_t layer, const Var& x) const {
    const std::string p = "attn.", inner = p + "inner_cross_attn.";
    const int64_t all = width() + 2 * kv_width(), pairs = kv_heads / 2, wide = 2 * head_dim;
    const Softmax softmax = {1 / std::sqrt(double(head_dim)), 0, window};
    Var y;
    if (shared.empty()) {
      const std::vector<Var> qkv = net.linears(x, {{p + "Wqkv", {heads, head_dim}, 0, all},
                                                   {p + "Wqkv", {pairs, wide}, width(), all},
                                                   {p + "Wqkv", {pairs, wide}, width() + kv_width(), all}});
      y = attend(net, softmax, paired_query(net, qkv[0]), qkv[1], qkv[2]);
    } else {
      y = attend_shared(net, softmax, paired_query(net, net.linear(x, {p + "Wqkv", {heads, head_dim}})), shared, wide);
    }
    y = net.reshape(net.wanted(y), {heads / 2, 2, wide});
    const double first = 0.8 - 0.6 * std::exp(-0.3 * double(layer)),
                 lambda = exp_of_dot(net, inner + "lambda_q1", inner + "lambda_k1", head_dim) -
                          exp_of_dot(net, inner + "lambda_q2", inner + "lambda_k2", head_dim) + first;
    const Var rest = net.add(net.slice(y, 2, 0, 1), net.scale(net.slice(y, 2, 1, 1), -lambda));
    const Var normed =
        net.rms_norm(net.reshape(rest, {heads / 2, wide}), net.plain(inner + "subln.weight", {wide}), 1e-5);
    return net.linear(net.reshape(net.scale(normed, 1 - first), {width()}), {p + "out_proj", {x.dims.back()}});
  }
};

// One number for all layers that have a window, or a list with one for each layer or null.
int64_t window_of(const Facts& f, size_t layer, size_t layers) {
  const Json* all = f.find("sliding_window");
  if (!all) return 0;
  if (!all->is_array()) return layer < layers / 2 ? f.integer("sliding_window", 1) : 0;
  if (all->size() != layers) f.refuse("sliding_window", "does not have an entry for each layer");
  const Json& own = (*all)[layer];
  if (own.is_null()) return 0;
  if (!own.is_number_unsigned() || own.get<int64_t>() < 1 || own.get<int64_t>() > 1 << 30)
    f.refuse("sliding_window", "holds no number of positions for layer " + std::to_string(layer));
  if (layer >= layers / 2) f.refuse("sliding_window", "has a window in a layer whose keys others read");
  return own.get<int64_t>();
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer("hidden_size"), vocab = f.integer("vocab_size");
  const double eps = f.number("layer_norm_eps", 1e-5);
  const size_t layers = size_t(f.integer("num_hidden_layers", 4, 4096)), middle = layers / 2, full = middle + 1;
  if (layers % 4) f.refuse("num_hidden_layers", "is no multiple of 4");
  f.expect("mb_per_layer", 2);
  f.pass_over({"rope_theta"});  // nothing is turned
  Naming naming = {"model.", "layers.", {}};
  expect_biases(f, "mamba_proj_bias", {"in_proj"}, naming);
  expect_biases(f, "mamba_conv_bias", {"conv1d"}, naming);
  expect_biases(f, "mlp_bias", {"fc1", "fc2"}, naming);
  expect_biases(f, "lm_head_bias", {"lm_head"}, naming);
  Differential attention;
  attention.heads = f.integer("num_attention_heads", 2, 65536);
  attention.kv_heads = f.integer("num_key_value_heads", 2, 65536, attention.heads);
  if (attention.heads % 2 || attention.kv_heads % 2 || attention.heads % attention.kv_heads)
    f.refuse("num_key_value_heads", "and num_attention_heads do not make pairs");
  if (hidden % attention.heads) f.refuse("num_attention_heads", "does not divide hidden_size");
  attention.head_dim = hidden / attention.heads;
  Mamba m;
  m.prefix = "attn.";
  m.inner = hidden * f.integer("mamba_expand", 1, 64, 2);
  m.state = f.integer("mamba_d_state", 1, 65536, 16);
  m.taps = f.integer("mamba_d_conv", 1, 64, 4);
  const Json* rank = f.find("mamba_dt_rank");
  m.rank = rank && rank->is_number() ? f.integer("mamba_dt_rank", 1, 65536) : (hidden + 15) / 16;
  FeedForward ffn;
  ffn.gate_up = "fc1", ffn.down = "fc2";
  ffn.width = f.integer("intermediate_size");
  ffn.activation = activation_named(f, "hidden_act", "silu");

  Net net(c, b, std::move(naming), f.integer("max_position_embeddings", 1, 1 << 30, 4096));
  const auto norm = [&](const Var& v, const std::string& name) {
    return net.layer_norm(v, net.plain(name + ".weight", {hidden}), net.plain(name + ".bias", {hidden}), eps);
  };
  Var x = net.embed("embed_tokens", vocab, hidden), memory;
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, full + 1);  // behind the layer whose keys and values are read, only the wanted rows go on
    const Var h = norm(x, "input_layernorm");
    Var y;
    if (i % 2) {
      attention.window = window_of(f, i, layers);
      y = attention(net, i, h);
    } else if (i <= middle) {
      const MambaReading r = mamba_reading(net, m, h);
      y = mamba_output(net, m, r, hidden);
      memory = r.y;
    } else {
      y = mamba_output(net, m, {memory, net.linear(h, {m.prefix + "in_proj", {m.inner}})}, hidden);
    }
    if (i == full) {
      attention.shared = net.state_name("kv");
      memory = net.wanted(memory);
    }
    x = net.add(net.wanted(x), y);
    x = net.add(x, feed_forward(net, ffn, norm(x, "post_attention_layernorm")));
  }
  net.leave_layers();
  x = norm(x, "final_layernorm");
  const bool is_tied = f.boolean("tie_word_embeddings", true);
  net.head(x, output_matrix(net, "embed_tokens", is_tied, vocab, hidden), vocab);
}

}  // namespace

extern const Recipe samba_y_recipe;
const Recipe samba_y_recipe = {"samba_y", {}, {"phi4flash"}, build};

}  // namespace runnel::convert
