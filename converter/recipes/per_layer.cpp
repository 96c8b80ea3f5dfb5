#include "converter/recipes/per_layer.h"

#include <cmath>

#include "converter/recipes/layer_types.h"

namespace runnel::convert {
namespace {

// Shared layers read what the last layer of their kind before them wrote.
void check_shared(const Facts& f, const char* key, const PerLayerDecoder& p) {
  bool owns[2] = {false, false}, reads[2] = {false, false};
  for (size_t i = 0; i < p.d.layers.size(); ++i) (i < p.owners ? owns : reads)[p.d.layers[i].window > 0] = true;
  for (int kind = 0; kind < 2; ++kind)
    if (reads[kind] && !owns[kind])
      f.refuse(key, "leaves no layer " + std::string(kind ? "with a window" : "that sees everything") +
                        " with keys and values of its own");
}

size_t owners_of(const Facts& f, const char* key, size_t layers) {
  return layers - size_t(f.integer(key, 0, int64_t(layers) - 1, 0));
}

}  // namespace

void read_per_layer(const Facts& f, int64_t pattern, PerLayerDecoder& p) {
  Decoder& d = p.d;
  // The width of the feed-forward, and in a GGUF the number of heads, may be a list.
  d.hidden = f.integer("hidden_size");
  d.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
  const size_t layers = d.layers.size();
  d.attention.heads = f.integer("num_attention_heads", 1, 65536);
  d.context = f.integer("max_position_embeddings");
  f.stated_in_gguf({"rms_norm_eps"});
  d.eps = d.attention.eps = f.number("rms_norm_eps", 1e-6);
  d.vocab = f.integer("vocab_size");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.ffn.activation = gemma_activation(f);
  d.output_softcap = float(f.number("final_logit_softcapping", 0));
  set_window_layers(f, pattern, d.layers);
  // A GGUF has a key for layers with a window.
  const int64_t wide = f.integer("head_dim", 2, 65536), narrow = f.integer("attention.key_length_swa", 2, 65536, wide);
  f.expect("attention.value_length", wide);
  f.expect("attention.value_length_swa", narrow);
  const std::vector<int64_t> widths = f.integers("intermediate_size", layers),
                             kv_heads = f.integers("num_key_value_heads", layers, 1, 65536);
  for (size_t i = 0; i < layers; ++i) p.sizes.push_back({d.layers[i].window ? narrow : wide, kv_heads[i], widths[i]});
  p.owners = owners_of(f, "num_kv_shared_layers", layers);
  p.input_width = f.integer("hidden_size_per_layer_input", 0, int64_t(1) << 20);
  p.input_vocab = f.integer("vocab_size_per_layer_input");
  if (const Json* both = f.find("use_bidirectional_attention"); both && *both != false && *both != "vision")
    f.refuse("use_bidirectional_attention", "is " + printable(both->dump()) + ": encoders are not supported");
}

void add_per_layer_names(Decoder& d) {
  add_post_norms(d);
  d.naming.gguf.insert({{"embed_tokens_per_layer", "per_layer_token_embd"},
                        {"per_layer_model_projection", "per_layer_model_proj"},
                        {"per_layer_projection_norm", "per_layer_proj_norm"},
                        {"per_layer_input_gate", "inp_gate"},
                        {"per_layer_projection", "proj"},
                        {"post_per_layer_input_norm", "post_norm"}});
  norm_heads(d);
  d.attention.v_norm = true;
  d.attention.scale = 1;
}

PerLayerNet::PerLayerNet(Net& net, const PerLayerDecoder& p) : net_(net), p_(p) {
  for (size_t i = 0; i < p.d.ropes.size(); ++i)
    ropes_.push_back(rope_table(net, p.d.ropes[i], "/rope" + std::to_string(i)));
  const std::string where = net.checkpoint().path.string();
  const Json nothing;
  check_shared(Facts(nothing, where), "the number of layers with shared keys and values", p);
}

// Behind the last layer that writes keys and values only the wanted rows go on.
void PerLayerNet::layer(size_t i) {
  i_ = i;
  net_.layer(i, p_.owners);
}

Var PerLayerNet::norm(const Var& x, const std::string& name, const Var* residual) {
  return net_.rms_norm(x, net_.plain(name + ".weight", {p_.d.hidden}), p_.d.eps, residual);
}

void PerLayerNet::make_inputs(const Var& x) {
  if (p_.input_width == 0) return;
  const int64_t layers = int64_t(p_.d.layers.size()), w = p_.input_width;
  // (norm(x projected / sqrt(hidden)) + sqrt(width) row) / sqrt(2); a factor in front of the norm is one of its eps.
  format::EmbeddingAttrsT attrs;
  attrs.scale = float(std::sqrt(double(w) / 2));
  attrs.outside = p_.has_outside && p_.input_vocab < p_.d.vocab ? 0 : -1;
  const Var rows =
      net_.op("embedding",
              {"ids", net_.matrix("embed_tokens_per_layer.weight",
                                  net_.take("embed_tokens_per_layer.weight", {p_.input_vocab, layers * w}))},
              "T", {layers * w}, {}, attrs);
  std::vector<float> weight = net_.values("per_layer_projection_norm.weight", {w});
  for (float& v : weight) v = float(v * std::sqrt(0.5));
  const Var residual = net_.reshape(rows, {layers, w}),
            projected = net_.linear(x, {"per_layer_model_projection", {layers, w}});
  inputs_ = net_.rms_norm(projected, net_.constant("per_layer_projection_norm.weight", weight, {w}),
                          p_.d.eps * double(p_.d.hidden), &residual);
}

Var PerLayerNet::input() {
  inputs_ = net_.wanted(inputs_);
  return net_.reshape(net_.slice(inputs_, 1, int64_t(i_), 1), {p_.input_width});
}

Var PerLayerNet::attention_of(const Var& normed) {
  const Layer& layer = p_.d.layers[i_];
  const bool has_window = layer.window > 0;
  Attention a = p_.d.attention;
  a.head_dim = p_.sizes[i_].head_dim, a.kv_heads = p_.sizes[i_].kv_heads;
  a.window = layer.window;
  a.rope = ropes_[has_window], a.rope_scale = p_.d.ropes[has_window].scale;
  a.k_is_v = p_.k_is_v && !has_window;
  if (i_ < p_.owners) {
    shared_[has_window] = net_.state_name("kv");
  } else {
    a.shared = shared_.at(has_window);
    // Files may hold what these layers would have without sharing.
    for (const char* name : {"k_proj.weight", "v_proj.weight", "k_norm.weight", "k_proj.bias", "v_proj.bias"})
      if (net_.has(a.prefix + name)) net_.find(a.prefix + name);
  }
  return attention(net_, a, normed);
}

Var PerLayerNet::gated_input(const Var& x, const Var* residual) {
  const Var gate = net_.linear(x, {"per_layer_input_gate", {p_.input_width}});
  const Var y = net_.linear(net_.glu(p_.d.ffn.activation, gate, input()), {"per_layer_projection", {p_.d.hidden}});
  return norm(y, "post_per_layer_input_norm", residual);
}

}  // namespace runnel::convert
