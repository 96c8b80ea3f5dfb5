// Zamba2 (arXiv 2411.15242): Mamba-2 layers; some are preceded by one of a few shared transformer blocks, which see the
// embedding beside the hidden state and have a low-rank correction of their own at every place where they are used.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

struct Shared {
  Attention attention;
  FeedForward ffn;
  int64_t input = 0, hidden = 0, rank = 0;
  bool has_attention_adapters = false;
  double eps = 1e-5;
};

// block: absolute prefix of the shared weights; use: how many shared blocks ran before this one.
Var shared_block(Net& net, const Shared& s, const std::string& block, size_t use, const Var& x, const Var& embedded) {
  const std::string at = block + "self_attn.", list = "_adapter_list." + std::to_string(use);
  const Attention& a = s.attention;
  const Var h =
      net.rms_norm(net.concat({x, embedded}, 1), net.plain(block + "input_layernorm.weight", {s.input}), s.eps);
  const auto corrected = [&](const Var& from, const Var& y, const std::string& name) {
    const int64_t n = y.width();
    return net.reshape(net.add(net.reshape(y, {n}),
                               net.linear(net.linear(from, {name + list + ".0", {s.rank}}), {name + list + ".1", {n}})),
                       y.dims);
  };
  std::vector<Var> qkv = net.linears(h, {{at + "q_proj", {a.heads, a.head_dim}},
                                         {at + "k_proj", {a.kv_heads, a.head_dim}},
                                         {at + "v_proj", {a.kv_heads, a.head_dim}}});
  if (s.has_attention_adapters) {
    const char* names[] = {"linear_q", "linear_k", "linear_v"};
    for (size_t i = 0; i < 3; ++i) qkv[i] = corrected(h, qkv[i], at + names[i]);
  }
  if (!a.rope.empty())
    for (Var* v : {&qkv[0], &qkv[1]}) *v = net.rope(*v, a.rope, false, a.rope_scale);
  const Var y = net.linear(attend(net, {a.scale, 0, 0}, qkv[0], qkv[1], qkv[2]), {at + "o_proj", {s.hidden}});
  const Var g = net.rms_norm(y, net.plain(block + "pre_ff_layernorm.weight", {s.hidden}), s.eps);
  const std::string up = block + "feed_forward.gate_up_proj";
  Var both = corrected(g, net.linear(g, {up, {2 * s.ffn.width}}), up);
  const Var gated =
      net.glu(s.ffn.activation, net.slice(both, 1, 0, s.ffn.width), net.slice(both, 1, s.ffn.width, s.ffn.width));
  return net.linear(gated, {block + "feed_forward.down_proj", {s.hidden}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer("hidden_size"), vocab = f.integer("vocab_size");
  const size_t layers = size_t(f.integer("num_hidden_layers", 1, 4096));
  const std::vector<std::string> types = layer_types(f, layers, "mamba");
  Shared s;
  s.hidden = hidden;
  s.eps = f.number("rms_norm_eps", 1e-5);
  s.input = f.integer("attention_hidden_size", 1, 1 << 30, 2 * hidden);
  s.rank = f.integer("adapter_rank", 1, 65536, 128);
  s.has_attention_adapters = f.boolean("use_shared_attention_adapter", false);
  Attention& a = s.attention;
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  a.head_dim = f.integer("attention_head_dim", 2, 65536, 2 * hidden / a.heads);
  a.scale = 1 / std::sqrt(double(a.head_dim) / 2);
  s.ffn.width = f.integer("intermediate_size");
  s.ffn.activation = activation_named(f, "hidden_act", "gelu");
  Mamba2 m;
  m.prefix = "mamba.";
  m.heads = f.integer("n_mamba_heads", 1, 65536, 8);
  const int64_t inner = hidden * f.integer("mamba_expand", 1, 64, 2);
  m.head_dim = f.integer("mamba_headdim", 1, 65536, inner / m.heads);
  m.state = f.integer("mamba_d_state", 1, 65536, 64);
  m.groups = m.norm_groups = f.integer("mamba_ngroups", 1, 65536, 1);
  m.taps = f.integer("mamba_d_conv", 1, 64, 4);
  m.eps = 1e-5;
  m.dt_min = f.number("time_step_min", 0.001);
  const size_t blocks = size_t(f.integer("num_mem_blocks", 1, 4096, 1));
  const bool is_tied = f.boolean("tie_word_embeddings", true);
  // The modelling code does not go by these.
  f.pass_over({"use_conv_bias", "mamba_proj_bias", "hybrid_layer_ids", "use_long_context", "num_query_groups",
               "ffn_hidden_size", "rope_theta", "rope_parameters"});
  f.expect("use_shared_mlp_adapter", true);
  Naming naming = {"model.", "layers.", {}};
  expect_biases(f, "add_bias_linear", {"in_proj", "out_proj", "gate_up_proj", "down_proj"}, naming);

  Net net(c, b, std::move(naming), f.integer("max_position_embeddings", 1, 1 << 30, 4096));
  const Var embedded = net.embed("embed_tokens", vocab, hidden);
  if (f.boolean("use_mem_rope", false)) set_rope(net, a, config_rope(f, "", 10000, a.head_dim));
  Var x = embedded;
  std::vector<std::string> homes;  // where the weights of each shared block stand
  for (size_t i = 0, uses = 0; i < layers; ++i) {
    net.layer(i, layers);
    const bool is_hybrid = types[i] == "hybrid";
    const std::string prefix = is_hybrid ? "mamba_decoder." : "";
    m.prefix = prefix + "mamba.";
    Var in = x;
    if (is_hybrid) {
      const std::string home = "model.layers." + std::to_string(i) + ".shared_transformer.";
      // A block's weights stand where it is used first, or at every place of its own.
      const bool is_own = c.has(home + "self_attn.q_proj.weight");
      if (uses < blocks || is_own) homes.push_back("/" + home);
      in = net.add(x, net.linear(shared_block(net, s, is_own ? homes.back() : homes[uses % blocks], uses, x, embedded),
                                 {"linear", {hidden}}));
      ++uses;
    }
    const Var h = net.rms_norm(in, net.plain(prefix + "input_layernorm.weight", {hidden}), s.eps);
    x = net.add(net.wanted(x), mamba2(net, m, h));
  }
  // Corrections that belong to other uses of a block.
  c.ignore_containing("_adapter_list.");
  net.leave_layers();
  x = net.rms_norm(x, net.plain("final_layernorm.weight", {hidden}), s.eps);
  net.head(x, output_matrix(net, "embed_tokens", is_tied, vocab, hidden), vocab);
}

}  // namespace

extern const Recipe zamba2_recipe;
const Recipe zamba2_recipe = {"zamba2", {}, {"zamba2"}, build};

}  // namespace runnel::convert
