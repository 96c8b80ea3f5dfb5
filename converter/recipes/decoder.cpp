#include "converter/recipes/decoder.h"

#include "converter/recipes/graph.h"

namespace runnel::convert {

const TensorNames kGgufNames = {
    "token_embd.weight", "output.weight", "output_norm.weight",
    "blk.{}.attn_norm.weight", "blk.{}.attn_q.weight", "blk.{}.attn_k.weight", "blk.{}.attn_v.weight", "blk.{}.attn_output.weight",
    "blk.{}.attn_q_norm.weight", "blk.{}.attn_k_norm.weight", "blk.{}.post_attention_norm.weight",
    "blk.{}.ffn_norm.weight", "blk.{}.ffn_gate.weight", "blk.{}.ffn_up.weight", "blk.{}.ffn_down.weight", "blk.{}.post_ffw_norm.weight"};
const TensorNames kLlamaNames = {
    "embed_tokens.weight", "lm_head.weight", "norm.weight",
    "layers.{}.input_layernorm.weight", "layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight",
    "layers.{}.self_attn.v_proj.weight", "layers.{}.self_attn.o_proj.weight", nullptr, nullptr, nullptr,
    "layers.{}.post_attention_layernorm.weight", "layers.{}.mlp.gate_proj.weight", "layers.{}.mlp.up_proj.weight",
    "layers.{}.mlp.down_proj.weight", nullptr};
const TensorNames kGemmaNames = {
    "embed_tokens.weight", "lm_head.weight", "norm.weight",
    "layers.{}.input_layernorm.weight", "layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight",
    "layers.{}.self_attn.v_proj.weight", "layers.{}.self_attn.o_proj.weight", "layers.{}.self_attn.q_norm.weight",
    "layers.{}.self_attn.k_norm.weight", "layers.{}.post_attention_layernorm.weight",
    "layers.{}.pre_feedforward_layernorm.weight", "layers.{}.mlp.gate_proj.weight", "layers.{}.mlp.up_proj.weight",
    "layers.{}.mlp.down_proj.weight", "layers.{}.post_feedforward_layernorm.weight"};

namespace {

// head_dim may have been derived from the others.
void check_head_dim(const Facts& f, const Decoder& d) {
  if (d.head_dim < 2 || d.head_dim > 65536) f.refuse("", "gives heads of " + std::to_string(d.head_dim) + " channels, outside of 2 to 65536");
}

}  // namespace

void read_gguf_sizes(Checkpoint& checkpoint, const Facts& f, Decoder& d) {
  d.names = kGgufNames;
  d.hidden = f.integer("embedding_length");
  d.heads = f.integer("attention.head_count", 1, 65536);
  d.kv_heads = f.integer("attention.head_count_kv", 1, 65536, d.heads);
  d.ffn = f.integer("feed_forward_length");
  d.context = f.integer("context_length");
  d.eps = float(f.number("attention.layer_norm_rms_epsilon"));
  d.head_dim = f.integer("attention.key_length", 2, 65536, d.hidden / d.heads);
  check_head_dim(f, d);
  if (f.integer("attention.value_length", 2, 65536, d.head_dim) != d.head_dim) f.refuse("attention.value_length", "differs from attention.key_length, which this recipe cannot");
  d.layers.resize(size_t(f.integer("block_count", 1, 4096)));
  const SourceTensor* embedding = checkpoint.find(d.names.embedding);
  if (!embedding) fail("%s: tensor \"%s\" is missing", checkpoint.path.c_str(), d.names.embedding);
  d.vocab = int64_t(embedding->shape.front());
  d.is_tied = !checkpoint.has(d.names.output);
}

void read_config_sizes(const Facts& f, Decoder& d) {
  d.hidden = f.integer("hidden_size");
  d.heads = f.integer("num_attention_heads", 1, 65536);
  d.kv_heads = f.integer("num_key_value_heads", 1, 65536, d.heads);
  d.ffn = f.integer("intermediate_size");
  d.context = f.integer("max_position_embeddings");
  d.eps = float(f.number("rms_norm_eps", 1e-6));
  d.head_dim = f.integer("head_dim", 2, 65536, d.hidden / d.heads);
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
  f.refuse(key, "is \"" + printable(name) + "\", an activation that is not supported");
}

namespace {

// One decoder on its way into the file. Tensors are added in the order in which a token's way uses them.
class DecoderBuilder {
 public:
  DecoderBuilder(Checkpoint& c, const Decoder& d, ModelBuilder& b) : c_(c), d_(d), b_(b), g_(b, "main") {}

  void build() {
    if (d_.heads % d_.kv_heads) fail("%s: %lld attention heads cannot share %lld key/value heads", c_.path.c_str(), static_cast<long long>(d_.heads), static_cast<long long>(d_.kv_heads));
    b_.model.context = uint64_t(d_.context);
    g_.add_stream_symbols();
    g_.add_input("ids", format::DType::i32, {"T"}, format::Role::tokens);
    g_.add_input("positions", format::DType::i32, {"T"}, format::Role::positions);
    g_.add_input("rows", format::DType::i32, {"R"}, format::Role::rows);

    add_matrix("embedding", name(d_.names.embedding, 0), d_.vocab, d_.hidden);
    for (size_t i = 0; i < d_.ropes.size(); ++i) b_.add_floats("rope" + std::to_string(i), d_.ropes[i], {d_.ropes[i].size()});
    format::EmbeddingAttrsT scale;
    scale.scale = d_.embedding_scale;
    std::string x = g_.value("x", {"T", size(d_.hidden)});
    g_.op("embedding", {"ids", "embedding"}, {x}, scale);
    for (size_t i = 0; i < d_.layers.size(); ++i) x = add_layer(i, x);
    add_head(x);
  }

 private:
  static std::string size(int64_t n) { return std::to_string(n); }

  std::string name(const char* pattern, size_t layer) const {
    std::string s = (pattern == d_.names.output ? "" : d_.prefix) + pattern;
    if (const size_t at = s.find("{}"); at != std::string::npos) s.replace(at, 2, std::to_string(layer));
    return s;
  }

  void add_matrix(const std::string& to, const std::string& from, int64_t rows, int64_t columns) {
    b_.add_matrix(to, c_.take(from, {uint64_t(rows), uint64_t(columns)}));
  }

  std::string norm_weight(const std::string& to, const char* pattern, size_t layer, int64_t n) {
    b_.add_floats(to, c_.take(name(pattern, layer), {uint64_t(n)}), d_.norm_offset);
    return to;
  }

  std::string norm(const std::string& x, const std::string& weight, const std::string& residual, const std::string& to, const Names& shape) {
    format::NormAttrsT attrs;
    attrs.eps = d_.eps;
    g_.value(to, shape);
    Names inputs = {x, weight};
    if (!residual.empty()) inputs.push_back(residual);
    g_.op("rms_norm", inputs, {to}, attrs);
    return to;
  }

  struct Product {
    const char* pattern;
    std::string weight;  // name in the file
    int64_t rows;
    std::string output;
    Names shape;
  };
  // One operator for all products of the same input.
  void products(const std::string& x, int64_t columns, size_t layer, Decoder::Bias bias, const std::vector<Product>& list) {
    Names inputs = {x}, biases, outputs;
    bool any = false;
    for (const Product& p : list) {
      const std::string from = name(p.pattern, layer);
      add_matrix(p.weight, from, p.rows, columns);
      inputs.push_back(p.weight);
      outputs.push_back(g_.value(p.output, p.shape));
      const std::string bias_from = from.substr(0, from.rfind(".weight")) + ".bias";
      biases.emplace_back();
      if (bias == Decoder::Bias::kNever || (bias == Decoder::Bias::kIfPresent && !c_.has(bias_from))) continue;
      biases.back() = p.weight + ".bias";
      b_.add_floats(biases.back(), c_.take(bias_from, {uint64_t(p.rows)}));
      any = true;
    }
    if (any) inputs.insert(inputs.end(), biases.begin(), biases.end());
    g_.op("matmul", inputs, outputs);
  }

  // x + y, y through a norm of its own where the architecture has one.
  std::string join(const std::string& x, const std::string& y, const char* post_norm, size_t layer, const std::string& to, const std::string& axis) {
    const Names shape = {axis, size(d_.hidden)};
    if (d_.has_post_norms) return norm(y, norm_weight(to + ".norm", post_norm, layer, d_.hidden), x, to, shape);
    g_.value(to, shape);
    g_.op("binary", {x, y}, {to}, format::BinaryAttrsT{});
    return to;
  }

  std::string attention(size_t i, const std::string& x) {
    const std::string p = "l" + std::to_string(i) + ".";
    const Layer& layer = d_.layers[i];
    const Names q_shape = {"T", size(d_.heads), size(d_.head_dim)}, kv_shape = {"T", size(d_.kv_heads), size(d_.head_dim)};
    const std::string h = norm(x, norm_weight(p + "attn_norm", d_.names.attn_norm, i, d_.hidden), "", p + "attn_in", {"T", size(d_.hidden)});
    products(h, d_.hidden, i, d_.attention_bias,
             {{d_.names.q, p + "wq", d_.heads * d_.head_dim, p + "q", q_shape},
              {d_.names.k, p + "wk", d_.kv_heads * d_.head_dim, p + "key", kv_shape},
              {d_.names.v, p + "wv", d_.kv_heads * d_.head_dim, p + "value", kv_shape}});
    std::string q = p + "q", k = p + "key";
    if (d_.has_qk_norm) {
      q = norm(q, norm_weight(p + "q_norm", d_.names.q_norm, i, d_.head_dim), "", p + "q_normed", q_shape);
      k = norm(k, norm_weight(p + "k_norm", d_.names.k_norm, i, d_.head_dim), "", p + "key_normed", kv_shape);
    }
    format::RopeAttrsT rope;
    rope.interleaved = d_.is_interleaved;
    const std::string table = "rope" + std::to_string(layer.rope);
    g_.op("rope", {q, "positions", table}, {g_.value(p + "q_turned", q_shape)}, rope);
    g_.op("rope", {k, "positions", table}, {g_.value(p + "key_turned", kv_shape)}, rope);
    g_.add_attention_states(p.substr(0, p.size() - 1), layer.window, d_.kv_heads, d_.head_dim, d_.head_dim);
    format::AttentionAttrsT attrs;
    attrs.scale = d_.attention_scale;
    attrs.window = uint32_t(layer.window);
    attrs.softcap = d_.attention_softcap;
    const std::string out = g_.value(p + "attended", {"T", size(d_.heads * d_.head_dim)});
    g_.op("attention", {p + "q_turned", p + "key_turned", p + "value", p + "k", p + "v"}, {out}, attrs);
    return out;
  }

  std::string gather(const std::string& x, int64_t width) {
    const std::string to = g_.value(x + ".rows", {"R", size(width)});
    g_.op("gather_rows", {x, "rows"}, {to});
    return to;
  }

  std::string add_layer(size_t i, std::string x) {
    const std::string p = "l" + std::to_string(i) + ".";
    std::string a = attention(i, x);
    std::string axis = "T";
    if (i + 1 == d_.layers.size()) {
      // Behind the last attention no token sees another one: only the wanted rows go on.
      axis = "R";
      a = gather(a, d_.heads * d_.head_dim);
      x = gather(x, d_.hidden);
    }
    products(a, d_.heads * d_.head_dim, i, d_.attention_bias, {{d_.names.o, p + "wo", d_.hidden, p + "attn_out", {axis, size(d_.hidden)}}});
    x = join(x, p + "attn_out", d_.names.attn_post_norm, i, p + "x1", axis);
    const std::string h = norm(x, norm_weight(p + "ffn_norm", d_.names.ffn_norm, i, d_.hidden), "", p + "ffn_in", {axis, size(d_.hidden)});
    const Names wide = {axis, size(d_.ffn)};
    products(h, d_.hidden, i, d_.ffn_bias, {{d_.names.gate, p + "wgate", d_.ffn, p + "gate", wide}, {d_.names.up, p + "wup", d_.ffn, p + "up", wide}});
    format::GluAttrsT glu;
    glu.activation = d_.activation;
    g_.op("glu", {p + "gate", p + "up"}, {g_.value(p + "gated", wide)}, glu);
    products(p + "gated", d_.ffn, i, d_.ffn_bias, {{d_.names.down, p + "wdown", d_.hidden, p + "ffn_out", {axis, size(d_.hidden)}}});
    return join(x, p + "ffn_out", d_.names.ffn_post_norm, i, p + "x2", axis);
  }

  void add_head(const std::string& x) {
    const std::string h = norm(x, norm_weight("final_norm", d_.names.final_norm, 0, d_.hidden), "", "head_in", {"R", size(d_.hidden)});
    std::string output = "embedding";
    if (!d_.is_tied) {
      output = "output";
      add_matrix(output, name(d_.names.output, 0), d_.vocab, d_.hidden);
    }
    const Names shape = {"R", size(d_.vocab)};
    g_.op("matmul", {h, output}, {g_.value(d_.output_softcap > 0 ? "uncapped" : "logits", shape)});
    if (d_.output_softcap > 0) {
      format::UnaryAttrsT cap;
      cap.kind = format::UnaryKind::softcap;
      cap.alpha = d_.output_softcap;
      g_.op("unary", {"uncapped"}, {g_.value("logits", shape)}, cap);
    }
    g_.add_output("logits");
  }

  Checkpoint& c_;
  const Decoder& d_;
  ModelBuilder& b_;
  GraphBuilder g_;
};

}  // namespace

void build_decoder(Checkpoint& checkpoint, const Decoder& decoder, ModelBuilder& builder) { DecoderBuilder(checkpoint, decoder, builder).build(); }

}  // namespace runnel::convert
