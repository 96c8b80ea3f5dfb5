#include "converter/recipes/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "converter/recipes/recipe.h"
#include "converter/weights/encode.h"

namespace runnel::convert {

const std::map<std::string, std::string> kGgufNames = {{"embed_tokens", "token_embd"},
                                                       {"/lm_head", "output"},
                                                       {"norm", "output_norm"},
                                                       {"input_layernorm", "attn_norm"},
                                                       {"post_attention_layernorm", "ffn_norm"},
                                                       {"self_attn.q_proj", "attn_q"},
                                                       {"self_attn.k_proj", "attn_k"},
                                                       {"self_attn.v_proj", "attn_v"},
                                                       {"self_attn.o_proj", "attn_output"},
                                                       {"self_attn.q_norm", "attn_q_norm"},
                                                       {"self_attn.k_norm", "attn_k_norm"},
                                                       {"mlp.gate_proj", "ffn_gate"},
                                                       {"mlp.up_proj", "ffn_up"},
                                                       {"mlp.down_proj", "ffn_down"},
                                                       {"mlp.gate", "ffn_gate_inp"},
                                                       {"mlp.experts.gate_proj", "ffn_gate_exps"},
                                                       {"mlp.experts.up_proj", "ffn_up_exps"},
                                                       {"mlp.experts.down_proj", "ffn_down_exps"}};

namespace {

// head_dim may have been derived from the others.
void check_head_dim(const Facts& f, const Decoder& d) {
  const int64_t dim = d.attention.head_dim;
  if (dim < 2 || dim > 65536)
    f.refuse("", "gives heads of " + std::to_string(dim) + " channels, outside of 2 to 65536");
}

}  // namespace

void add_post_norms(Decoder& d) {
  d.attn_post_norm = "post_attention_layernorm";
  d.ffn_norm = "pre_feedforward_layernorm";
  d.ffn_post_norm = "post_feedforward_layernorm";
  d.naming.gguf["post_attention_layernorm"] = "post_attention_norm";
  d.naming.gguf["pre_feedforward_layernorm"] = "ffn_norm";
  d.naming.gguf["post_feedforward_layernorm"] = "post_ffw_norm";
}

void set_head_dim(const Facts& f, int64_t head_dim, Decoder& d) {
  if (f.has("head_dim")) return;
  d.attention.head_dim = head_dim;
  d.attention.scale = 1 / std::sqrt(double(head_dim));
}

void read_experts(const Facts& f, Decoder& d) {
  Experts& e = d.experts;
  e.count = f.integer(f.has("num_experts") ? "num_experts" : "num_local_experts", 0, 65536, 0);
  if (e.count == 0) return;
  e.chosen = f.integer("num_experts_per_tok", 1, e.count);
  e.width = f.integer("moe_intermediate_size", 1, int64_t(1) << 30, d.ffn.width);
  e.activation = d.ffn.activation;
  for (Layer& layer : d.layers) layer.has_experts = true;
}

void norm_heads(Decoder& d) { d.attention.q_norm = "q_norm", d.attention.k_norm = "k_norm"; }

void add_shared_experts(int64_t width, Decoder& d, const char* prefix) {
  d.shared = d.ffn;
  d.shared.prefix = prefix;
  d.shared.width = width;
}

void add_gated_expert(int64_t width, Decoder& d) {
  add_shared_experts(width, d, "mlp.shared_expert.");
  d.shared_gate = "mlp.shared_expert_gate";
}

void read_sizes(const Facts& f, Decoder& d) {
  Attention& a = d.attention;
  d.hidden = f.integer("hidden_size");
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  d.ffn.width = f.integer("intermediate_size");
  d.context = f.integer("max_position_embeddings");
  f.stated_in_gguf({"rms_norm_eps", "layer_norm_eps"});
  d.eps = a.eps = 1e-6;
  for (const char* key : {"rms_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon", "layer_norm_eps"})
    d.eps = a.eps = f.number(key, d.eps);
  a.head_dim = f.integer("head_dim", 2, 65536, d.hidden / a.heads);
  check_head_dim(f, d);
  f.expect("attention.value_length", a.head_dim);
  a.is_interleaved = f.boolean("gguf.has_neighbours", false);
  d.vocab = f.integer("vocab_size");
  d.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
}

format::UnaryKind activation_named(const Facts& f, const std::string& key, const std::string& otherwise) {
  using enum format::UnaryKind;
  static const std::map<std::string, format::UnaryKind> kNames = {{"silu", silu},
                                                                  {"swish", silu},
                                                                  {"gelu", gelu},
                                                                  {"gelu_python", gelu},
                                                                  {"gelu_pytorch_tanh", gelu_tanh},
                                                                  {"gelu_python_tanh", gelu_tanh},
                                                                  {"gelu_new", gelu_tanh},
                                                                  {"gelu_fast", gelu_tanh},
                                                                  {"gelu_accurate", gelu_tanh},
                                                                  {"quick_gelu", gelu_quick},
                                                                  {"relu", relu},
                                                                  {"relu2", relu_squared},
                                                                  {"sqrelu", relu_squared},
                                                                  {"sigmoid", sigmoid},
                                                                  {"tanh", tanh}};
  if (f.is_null(key)) f.refuse(key, "is null, not the name of an activation");
  const std::string name = f.text(key, otherwise);
  const auto found = kNames.find(name);
  if (found == kNames.end()) f.refuse(key, "is \"" + printable(name) + "\", an activation that is not supported");
  return found->second;
}

format::UnaryKind gemma_activation(const Facts& f) {
  const char *newer = "hidden_activation", *older = "hidden_act";
  f.pass_over({newer, older});
  return activation_named(f, f.has(newer) || !f.has(older) ? newer : older, "gelu_pytorch_tanh");
}

double gemma_scale(const Facts& f, size_t layers_of_27b, const Decoder& d) {
  double usual = 256;
  // A GGUF leaves it out. Of the published sizes only 27B scales by the width over the heads.
  if (f.is_gguf())
    usual =
        d.layers.size() == layers_of_27b ? double(d.hidden) / double(d.attention.heads) : double(d.attention.head_dim);
  return 1 / std::sqrt(f.number("query_pre_attn_scalar", usual));
}

namespace {

bool are_equal(const SourceTensor& a, const SourceTensor& b) {
  if (a.shape != b.shape) return false;
  if (a.type == b.type) return a.bytes == b.bytes && std::memcmp(a.data, b.data, size_t(a.bytes)) == 0;
  constexpr uint64_t kBlock = 1 << 16;
  std::vector<float> x(kBlock), y(kBlock);
  for (uint64_t i = 0, n; i < a.count(); i += n) {
    n = std::min(kBlock, a.count() - i);
    decode_values(a, i, n, x.data());
    decode_values(b, i, n, y.data());
    if (std::memcmp(x.data(), y.data(), size_t(n) * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

std::string output_matrix(Net& net, const std::string& table, bool is_tied, int64_t vocab, int64_t hidden,
                          const std::string& head) {
  if (is_tied && net.has(head)) {
    is_tied = are_equal(net.find(head), net.find(table + ".weight"));
    if (!is_tied)
      net.note(net.full_name(head) +
               " differs from the embedding that the configuration ties it to; the file's own is used");
  }
  return is_tied || (net.is_headless() && !net.has(head)) ? table + ".weight"
                                                          : net.matrix(head, net.take(head, {vocab, hidden}));
}

namespace {

float inverse_of(const Facts& f, const std::string& key) {
  const double value = f.number(key, 1);
  if (value == 0) f.refuse(key, "is 0");
  return float(1 / value);
}

}  // namespace

void read_granite_factors(const Facts& f, double scale, Decoder& d) {
  d.attention.scale = f.number("attention_multiplier", scale);
  d.embedding_scale = float(f.number("embedding_multiplier", 1));
  d.residual_factor = float(f.number("residual_multiplier", 1));
  d.logit_factor = inverse_of(f, "logits_scaling");
}

void read_basics(const Facts& f, Decoder& d) {
  read_sizes(f, d);
  d.attention.scale = f.number("gguf.attention_scale", 1 / std::sqrt(double(d.attention.head_dim)));
  d.ffn.activation = activation_named(f, "hidden_act", "silu");
  d.is_tied = f.boolean("tie_word_embeddings", false);
  read_biases(f, d.naming);
}

void read_biases(const Facts& f, Naming& naming) {
  expect_biases(f, "attention_bias", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"},
                naming);
  expect_biases(f, "mlp_bias", {"gate_proj", "up_proj", "down_proj"}, naming);
}

namespace {

// Whether tokens see only those before them. Models that see all of a text and give logits too are not supported.
bool is_causal(Checkpoint& c, const Decoder& d) {
  const Facts f = source_facts(c);
  if (f.boolean("is_causal", true)) return true;
  if (c.is_gguf() && f.has("sliding_window")) f.refuse("is_causal", "is false, which is not supported beside a window");
  if (c.has("lm_head.weight") || c.has("output.weight") || (d.is_tied && !names_base_class(c)))
    f.refuse("is_causal", "is false, which is supported for models without an output matrix alone");
  return false;
}

class Builder {
 public:
  Builder(Net& net, const Decoder& d) : net_(net), d_(d) {}

  Var norm(const Var& x, const char* name, const Var* residual = nullptr) {
    if (!name) return x;
    const std::string weight =
        d_.norms_have_weights ? net_.plain(name + std::string(".weight"), {d_.hidden}, d_.norm_offset) : "";
    if (!d_.is_layer_norm) return net_.rms_norm(x, weight, d_.eps, residual);
    const std::string bias = name + std::string(".bias");
    const Var y = net_.layer_norm(x, weight, net_.has(bias) ? net_.plain(bias, {d_.hidden}) : "", d_.eps);
    return residual ? net_.add(*residual, y) : y;
  }
  // The residual plus y, y through a norm of its own where the architecture has one.
  Var join(const Var& x, const Var& y, const char* post_norm) {
    const Var residual = net_.wanted(x);
    if (post_norm && d_.residual_factor == 1) return norm(y, post_norm, &residual);
    return net_.add(residual, net_.scale(norm(y, post_norm), d_.residual_factor));
  }
  Var half(const Layer& layer, const Var& x) {
    if (!layer.has_experts) return feed_forward(net_, d_.ffn, x);
    const Var y = experts(net_, d_.experts, x);
    if (d_.shared.width == 0) return y;
    Var shared = feed_forward(net_, d_.shared, x);
    if (!d_.shared_gate.empty())
      shared = net_.mul(shared, net_.unary(format::UnaryKind::sigmoid, net_.linear(x, {d_.shared_gate, {1}})));
    return net_.scale(net_.add(y, shared), d_.experts_factor);
  }
  Var mixed(const Attention& a, const Var& x) {
    if (!d_.latent) return attention(net_, a, x);
    Latent own = *d_.latent;
    own.rope = a.rope, own.rope_scale = a.rope_scale;
    return latent_attention(net_, own, x);
  }
  Var layer(const Layer& layer, const Attention& a, const Var& x) {
    const Var in = norm(x, d_.attn_norm);
    if (d_.is_parallel)
      return join(x, net_.add(mixed(a, in), half(layer, net_.wanted(d_.ffn_norm ? norm(x, d_.ffn_norm) : in))),
                  nullptr);
    const Var y = join(x, mixed(a, in), d_.attn_post_norm);
    return join(y, half(layer, norm(y, d_.ffn_norm)), d_.ffn_post_norm);
  }

 private:
  Net& net_;
  const Decoder& d_;
};

}  // namespace

void build_decoder(Checkpoint& checkpoint, const Decoder& d, ModelBuilder& builder) {
  const bool is_encoder = !is_causal(checkpoint, d);
  Net net(checkpoint, builder, d.naming, d.context, d.is_bidirectional || is_encoder,
          d.ropes.empty() ? std::vector<uint8_t>() : d.ropes[0].sections);
  Builder make(net, d);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, d.embedding_scale);
  if (d.position_table) {
    const std::string table = d.position_table + std::string(".weight");
    x = net.add(x, net.op("embedding", {"positions", net.matrix(table, net.take(table, {d.context, d.hidden}))}, "T",
                          {d.hidden}, {}, format::EmbeddingAttrsT()));
  }
  if (d.has_embedding_norm) x = make.norm(x, d.last_norm);
  std::vector<std::string> ropes;
  for (size_t i = 0; i < d.ropes.size(); ++i) ropes.push_back(rope_table(net, d.ropes[i], "rope" + std::to_string(i)));
  Attention shared = d.attention;
  if (d.query_beta != 0) shared.query_scale = query_scale(net, d.query_beta, d.query_original, d.query_first);
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    Attention a = shared;
    a.window = d.layers[i].window;
    if (is_encoder && a.window) ++a.window;  // the distance that is still seen
    if (const int rope = d.layers[i].rope; rope >= 0)
      a.rope = ropes[size_t(rope)], a.rope_scale = d.ropes[size_t(rope)].scale;
    if (d.own_attention) d.own_attention(i, a);
    x = make.layer(d.layers[i], a, x);
  }
  net.leave_layers();
  x = make.norm(x, d.last_norm);
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab, d.output_softcap,
           d.logit_factor);
}

}  // namespace runnel::convert
