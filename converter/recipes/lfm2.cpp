// LFM2, LFM2-MoE and LFM3: gated short convolutions, now and then attention with norms of q and k.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

const std::map<std::string, std::string> kGgufLfm2 = {{"embed_tokens", "token_embd"},
                                                      {"embedding_norm", "token_embd_norm"},
                                                      {"operator_norm", "attn_norm"},
                                                      {"ffn_norm", "ffn_norm"},
                                                      {"conv.in_proj", "shortconv.in_proj"},
                                                      {"conv.conv", "shortconv.conv"},
                                                      {"conv.out_proj", "shortconv.out_proj"},
                                                      {"self_attn.q_proj", "attn_q"},
                                                      {"self_attn.k_proj", "attn_k"},
                                                      {"self_attn.v_proj", "attn_v"},
                                                      {"self_attn.out_proj", "attn_output"},
                                                      {"self_attn.q_layernorm", "attn_q_norm"},
                                                      {"self_attn.k_layernorm", "attn_k_norm"},
                                                      {"feed_forward.w1", "ffn_gate"},
                                                      {"feed_forward.w3", "ffn_up"},
                                                      {"feed_forward.w2", "ffn_down"},
                                                      {"feed_forward.gate", "ffn_gate_inp"},
                                                      {"feed_forward.expert_bias", "exp_probs_b.bias"},
                                                      {"feed_forward.experts.w1", "ffn_gate_exps"},
                                                      {"feed_forward.experts.w3", "ffn_up_exps"},
                                                      {"feed_forward.experts.w2", "ffn_down_exps"}};

// B * x through the convolution, times C.
Var gated_conv(Net& net, int64_t taps, const Var& x) {
  const int64_t n = x.dims[0];
  const std::vector<Var> bcx = net.linears(
      x, {{"conv.in_proj", {n}, 0, 3 * n}, {"conv.in_proj", {n}, n, 3 * n}, {"conv.in_proj", {n}, 2 * n, 3 * n}});
  const Var y = short_conv(net, net.mul(bcx[0], bcx[2]), "conv.conv", taps, format::UnaryKind::none);
  return net.linear(net.mul(net.wanted(bcx[1]), net.wanted(y)), {"conv.out_proj", {n}});
}

const GgufForm kGguf = {{{"sliding_window", ""},
                         {"norm_eps", "attention.layer_norm_rms_epsilon"},
                         {"conv_L_cache", "shortconv.l_cache"},
                         {"num_dense_layers", "leading_dense_block_count"}},
                        {{"gguf.layers_without_heads", "conv"},
                         {"rope_theta", 1000000},
                         {"num_dense_layers", 0},
                         {"block_auto_adjust_ff_dim", false},
                         {"num_experts", 0}}};

struct Lfm {
  Decoder d;
  int64_t taps = 3;
  std::vector<bool> is_attention;
  int64_t dense_layers = 0;
  bool has_post_norms = false;
};

// Of the feed-forward: older configurations state a width from which theirs follows.
int64_t read_width(const Facts& f, bool is_lfm3) {
  int64_t width = f.integer(f.has("block_ff_dim") ? "block_ff_dim" : "intermediate_size");
  if (is_lfm3 || !f.boolean("block_auto_adjust_ff_dim", f.text("model_type", "") == "lfm2")) return width;
  width = 2 * width / 3;
  const int64_t multiple = f.integer("block_multiple_of", 1, 1 << 20, 256);
  if (f.has("block_ffn_dim_multiplier")) width = int64_t(f.number("block_ffn_dim_multiplier") * double(width));
  return (width + multiple - 1) / multiple * multiple;
}

void read_layers(const Facts& f, Lfm& m) {
  const size_t layers = m.d.layers.size();
  std::vector<std::string> types = layer_types(f, layers, "conv");
  if (const Json* indices = f.find("full_attn_idxs"); indices && !f.has("layer_types"))
    for (const Json& i : *indices)
      if (i.is_number_unsigned() && i.get<size_t>() < layers) types[i.get<size_t>()] = "full_attention";
  for (size_t i = 0; i < layers; ++i) {
    m.is_attention.push_back(types[i] != "conv");
    if (types[i] == "sliding_attention") m.d.layers[i] = {f.integer("sliding_window", 1, 1 << 30), 1};
    else if (types[i] != "conv" && types[i] != "full_attention")
      f.refuse("layer_types", "holds \"" + printable(types[i]) + "\"");
  }
}

void read_experts(const Facts& f, bool is_lfm3, Lfm& m) {
  Experts& e = m.d.experts;
  f.expect("expert_gating_func", 2);
  e.count = is_lfm3 ? 0 : f.integer("num_experts", 0, 65536, 0);
  if (e.count == 0) return;
  e.chosen = f.integer("num_experts_per_tok", 1, 65536);
  e.width = f.integer("moe_intermediate_size");
  m.dense_layers = f.integer("num_dense_layers", 0, 4096, 2);
  e.gate = "experts.{}.w1", e.up = "experts.{}.w3", e.down = "experts.{}.w2";
  if (f.boolean("use_expert_bias", true)) e.choice_bias = "expert_bias";
  read_sigmoid_route(f, e.route);
  e.route.eps = 1e-6f;
}

void read(Checkpoint& c, const Facts& f, Lfm& m) {
  Decoder& d = m.d;
  Attention& a = d.attention;
  const bool is_lfm3 = f.text("model_type", "") == "lfm3";
  d.hidden = f.integer("hidden_size");
  d.context = f.integer("max_position_embeddings");
  d.vocab = f.integer("vocab_size");
  f.stated_in_gguf({"norm_eps"});
  d.eps = a.eps = f.number("norm_eps", 1e-5);
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  a.head_dim = f.integer("head_dim", 2, 65536, d.hidden / a.heads);
  f.expect("attention.value_length", a.head_dim);
  a.scale = 1 / std::sqrt(double(a.head_dim));
  d.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
  m.taps = f.integer("conv_L_cache", 1, 64, 3);
  d.is_tied = f.boolean("tie_word_embeddings", f.boolean("tie_embedding", true));
  expect_biases(f, "conv_bias", {"conv.conv", "conv.in_proj", "conv.out_proj"}, d.naming);
  if (is_lfm3) expect_biases(f, "attention_bias", {"q_proj", "k_proj", "v_proj", "o_proj"}, d.naming);
  for (const char* key : {"block_use_swiglu", "use_pos_enc"}) f.expect(key, true);
  // Names that say once more what is read, or how weights began.
  f.pass_over({"intermediate_size", "block_dim", "conv_dim", "conv_dim_out", "num_heads", "block_norm_eps",
               "block_mlp_init_scale", "block_out_init_scale", "block_use_xavier_init", "conv_use_xavier_init",
               "tie_embedding", "full_attn_idxs", "sliding_window", "block_auto_adjust_ff_dim", "block_multiple_of",
               "block_ffn_dim_multiplier"});
  d.ffn.width = read_width(f, is_lfm3);
  read_layers(f, m);
  d.ropes.push_back(read_rope(c, f, is_lfm3 ? "full_attention" : "", 1000000, a.head_dim));
  if (is_lfm3) {
    d.ropes.push_back(read_rope(c, f, "sliding_attention", 10000, a.head_dim));
    m.has_post_norms = f.boolean("use_sandwich_norm", true);
    a.o = "o_proj", a.q_norm = "q_norm", a.k_norm = "k_norm";
    if (f.boolean("use_attention_gate", true)) a.gate = "g_proj", a.gate_is_per_head = true;
  }
  read_experts(f, is_lfm3, m);
}

void build(Checkpoint& c, ModelBuilder& b) {
  Lfm m;
  m.d.naming.gguf = kGgufLfm2;
  Attention& a = m.d.attention;
  a.o = "out_proj", a.q_norm = "q_layernorm", a.k_norm = "k_layernorm";
  m.d.ffn.prefix = m.d.experts.prefix = "feed_forward.";
  m.d.ffn.gate = "w1", m.d.ffn.up = "w3", m.d.ffn.down = "w2";
  read(c, source_facts(c, kGguf), m);
  const Decoder& d = m.d;

  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden);
  std::vector<std::string> ropes;
  for (size_t i = 0; i < d.ropes.size(); ++i) ropes.push_back(rope_table(net, d.ropes[i], "rope" + std::to_string(i)));
  const auto half = [&](const Var& v, const char* norm, const char* post_norm, auto part) {
    return with_residual(net, v, norm, d.eps, [&](const Var& h) {
      const Var y = part(h);
      return m.has_post_norms ? net.rms_norm(y, net.plain(post_norm + std::string(".weight"), {d.hidden}), d.eps) : y;
    });
  };
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    a.window = d.layers[i].window;
    a.rope = ropes[size_t(d.layers[i].rope)], a.rope_scale = d.ropes[size_t(d.layers[i].rope)].scale;
    // Two names of the same tensor.
    if (!a.gate.empty()) a.gate = net.has("self_attn.gate_proj.weight") ? "gate_proj" : "g_proj";
    x = half(x, "operator_norm", "post_operator_norm",
             [&](const Var& h) { return m.is_attention[i] ? attention(net, a, h) : gated_conv(net, m.taps, h); });
    x = half(x, "ffn_norm", "post_ffn_norm", [&](const Var& h) {
      return d.experts.count && int64_t(i) >= m.dense_layers ? experts(net, d.experts, h) : feed_forward(net, d.ffn, h);
    });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("embedding_norm.weight", {d.hidden}), d.eps);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab);
}

}  // namespace

extern const Recipe lfm2_recipe;
const Recipe lfm2_recipe = {"lfm2", {"lfm2", "lfm2moe"}, {"lfm2", "lfm2_moe", "lfm3"}, build};

}  // namespace runnel::convert
