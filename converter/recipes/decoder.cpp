#include "converter/recipes/decoder.h"

namespace runnel::convert {

const std::map<std::string, std::string> kGgufNames = {
    {"embed_tokens", "token_embd"}, {"/lm_head", "output"}, {"norm", "output_norm"},
    {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}};

namespace {

// head_dim may have been derived from the others.
void check_head_dim(const Facts& f, const Decoder& d) {
  const int64_t dim = d.attention.head_dim;
  if (dim < 2 || dim > 65536) f.refuse("", "gives heads of " + std::to_string(dim) + " channels, outside of 2 to 65536");
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

void read_gguf_sizes(Checkpoint& checkpoint, const Facts& f, Decoder& d) {
  Attention& a = d.attention;
  d.hidden = f.integer("embedding_length");
  a.heads = f.integer("attention.head_count", 1, 65536);
  a.kv_heads = f.integer("attention.head_count_kv", 1, 65536, a.heads);
  d.ffn.width = f.integer("feed_forward_length");
  d.context = f.integer("context_length");
  d.eps = a.eps = f.number("attention.layer_norm_rms_epsilon");
  a.head_dim = f.integer("attention.key_length", 2, 65536, d.hidden / a.heads);
  check_head_dim(f, d);
  if (f.integer("attention.value_length", 2, 65536, a.head_dim) != a.head_dim) f.refuse("attention.value_length", "differs from attention.key_length, which this recipe cannot");
  d.layers.resize(size_t(f.integer("block_count", 1, 4096)));
  const std::string table = kGgufNames.at("embed_tokens") + ".weight";
  const SourceTensor* embedding = checkpoint.find(table);
  if (!embedding) fail("%s: tensor \"%s\" is missing", checkpoint.path.c_str(), table.c_str());
  d.vocab = int64_t(embedding->shape.front());
  d.is_tied = !checkpoint.has(kGgufNames.at("/lm_head") + ".weight");
}

void read_config_sizes(const Facts& f, Decoder& d) {
  Attention& a = d.attention;
  d.hidden = f.integer("hidden_size");
  a.heads = f.integer("num_attention_heads", 1, 65536);
  a.kv_heads = f.integer("num_key_value_heads", 1, 65536, a.heads);
  d.ffn.width = f.integer("intermediate_size");
  d.context = f.integer("max_position_embeddings");
  d.eps = a.eps = f.number("rms_norm_eps", 1e-6);
  a.head_dim = f.integer("head_dim", 2, 65536, d.hidden / a.heads);
  check_head_dim(f, d);
  d.vocab = f.integer("vocab_size");
  d.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
}

format::UnaryKind activation_named(const Facts& f, const std::string& key, const std::string& otherwise) {
  const std::string name = f.text(key, otherwise);
  if (name == "silu" || name == "swish") return format::UnaryKind::silu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return format::UnaryKind::gelu_tanh;
  if (name == "gelu") return format::UnaryKind::gelu;
  if (name == "relu") return format::UnaryKind::relu;
  if (name == "sigmoid") return format::UnaryKind::sigmoid;
  if (name == "relu2" || name == "sqrelu") return format::UnaryKind::relu_squared;
  f.refuse(key, "is \"" + printable(name) + "\", an activation that is not supported");
}

std::string output_matrix(Net& net, const std::string& table, bool is_tied, int64_t vocab, int64_t hidden) {
  return is_tied ? table + ".weight" : net.matrix("/lm_head.weight", net.take("/lm_head.weight", {vocab, hidden}));
}

void build_decoder(Checkpoint& checkpoint, const Decoder& d, ModelBuilder& builder) {
  Net net(checkpoint, builder, d.naming, d.context);
  const auto norm = [&](const Var& x, const char* name, const Var* residual = nullptr) {
    return net.rms_norm(x, net.plain(name + std::string(".weight"), {d.hidden}, d.norm_offset), d.eps, residual);
  };
  // The residual plus y, y through a norm of its own where the architecture has one.
  const auto join = [&](const Var& x, const Var& y, const char* post_norm) {
    const Var residual = net.wanted(x);
    return post_norm ? norm(y, post_norm, &residual) : net.add(residual, y);
  };
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, d.embedding_scale);
  std::vector<std::string> ropes;
  for (size_t i = 0; i < d.ropes.size(); ++i) ropes.push_back(net.constant("rope" + std::to_string(i), d.ropes[i], {-1}));
  for (size_t i = 0; i < d.layers.size(); ++i) {
    net.layer(i, d.layers.size());
    Attention a = d.attention;
    a.window = d.layers[i].window;
    a.rope = ropes[size_t(d.layers[i].rope)];
    x = join(x, attention(net, a, norm(x, d.attn_norm)), d.attn_post_norm);
    x = join(x, gated_feed_forward(net, d.ffn, norm(x, d.ffn_norm)), d.ffn_post_norm);
  }
  net.leave_layers();
  x = norm(x, "norm");
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab, d.output_softcap);
}

}  // namespace runnel::convert
