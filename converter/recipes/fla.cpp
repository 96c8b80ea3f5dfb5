// Models of the package flash-linear-attention: one skeleton of norms, mixers and gated feed-forwards around the mixers
// of fla.h, with softmax attention in the layers that the key "attn" lists. Samba: the same around Mamba.
#include "converter/recipes/fla.h"

#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/rope.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

struct Kind {
  const char* model_type;
  FlaMixer mixer;
};
constexpr Kind kKinds[] = {{"retnet", fla_retnet},
                           {"gla", fla_gla},
                           {"linear_attn", fla_linear_attn},
                           {"hgrn", fla_hgrn},
                           {"hgrn2", fla_hgrn2},
                           {"lightnet", fla_lightnet},
                           {"delta_net", fla_delta_net},
                           {"gated_deltanet", fla_gated_deltanet},
                           {"gated_deltaproduct", fla_gated_deltaproduct},
                           {"kda", fla_kda},
                           {"mom", fla_mom}};

struct Sizes {
  int64_t hidden, vocab, context;
  size_t layers;
  double eps;
  bool is_tied;
};

Sizes read_sizes(const Facts& f) {
  if (f.has("attnres_block_size"))
    f.refuse("attnres_block_size", "asks for residuals by attention, which are not supported");
  const Sizes s = {f.integer("hidden_size"),
                   f.integer("vocab_size"),
                   f.integer("max_position_embeddings", 1, int64_t(1) << 30, int64_t(1) << 30),
                   size_t(f.integer("num_hidden_layers", 1, 4096)),
                   f.number("norm_eps", 1e-6),
                   f.boolean("tie_word_embeddings", false)};
  // They stand in the tensors.
  f.pass_over({"conv_size", "expand_k", "expand_v", "expand_ratio", "hidden_ratio", "intermediate_size",
               "gate_low_rank_dim", "num_heads", "num_kv_heads", "head_dim"});
  return s;
}

// Parts that the tensors tell too: a switch must agree with what a layer's mixer holds.
void check_parts(const Net& net, const Facts& f) {
  static const struct {
    const char* option;
    std::vector<const char*> tensors;  // any of them
  } kParts[] = {{"use_short_conv", {"q_conv1d.weight", "i_conv1d.weight"}},
                {"use_gate", {"g_proj.weight"}},
                {"use_output_gate", {"g_proj.weight"}},
                {"use_beta", {"b_proj.weight"}},
                {"use_forget_gate", {"a_proj.weight"}},
                {"elementwise_affine", {"g_norm.weight", "g_norm_swish_gate.weight", "o_norm.weight", "norm.weight"}}};
  for (const auto& part : kParts) {
    if (!f.has(part.option)) continue;
    const bool is_there = std::any_of(part.tensors.begin(), part.tensors.end(),
                                      [&](const char* name) { return net.has(std::string("attn.") + name); });
    if (f.boolean(part.option, true) != is_there)
      f.refuse(part.option, std::string("does not agree with the tensor \"") +
                                net.full_name(std::string("attn.") + part.tensors[0]) + "\"");
  }
  for (const char* option : {"use_output_norm", "use_gk"})
    if (!f.boolean(option, true)) f.refuse(option, "is false, which is not supported");
  for (const char* option : {"use_gv", "tie_feature_map_qk"})
    if (f.boolean(option, false)) f.refuse(option, "is true, which is not supported");
}

// One for each layer; heads = 0: the layer is not of softmax attention. "attn" is an object or a list of them, each
// with the layers it is for.
std::vector<Attention> attention_layers(Net& net, const Facts& f, const Sizes& s, const std::string& prefix) {
  std::vector<Attention> all(s.layers);
  const Json* found = f.find("attn");
  if (!found) return all;
  for (size_t n = 0; n < (found->is_array() ? found->size() : 1); ++n) {
    const Facts own = found->is_array() ? f.inside("attn", n) : *f.inside("attn");
    const Json* layers = own.find("layers");
    if (!layers || !layers->is_array()) f.refuse("attn", "is no object with a list of layers");
    Attention a;
    a.prefix = prefix;
    a.heads = own.integer("num_heads", 1, 65536);
    a.kv_heads = own.integer("num_kv_heads", 1, 65536, a.heads);
    if (s.hidden % a.heads) own.refuse("num_heads", "does not divide hidden_size");
    a.head_dim = s.hidden / a.heads;
    a.window = own.integer("window_size", 0, 1 << 30, 0);
    a.scale = 1 / std::sqrt(double(a.head_dim));
    a.rope =
        net.constant("rope" + std::to_string(n), rope_frequencies(own.number("rope_theta", 10000), a.head_dim), {-1});
    const bool has_bias = own.boolean("qkv_bias", false);
    for (const Json& layer : *layers) {
      if (!layer.is_number_unsigned() || layer.get<size_t>() >= s.layers)
        f.refuse("attn", "names a layer that the model does not have");
      all[layer.get<size_t>()] = a;
      net.layer(layer.get<size_t>(), s.layers);
      for (const char* name : {a.q, a.k, a.v})
        if (net.has(prefix + name + ".bias") != has_bias)
          own.refuse("qkv_bias", "does not agree with tensor \"" + net.full_name(prefix + name + ".bias") + "\"");
      net.leave_layers();
    }
  }
  return all;
}

Var feed_forward(Net& net, const Facts& f, const Var& x) {
  FeedForward ffn;
  ffn.width = fla_rows(net, "mlp.gate_proj.weight");
  if (activation_named(f, "hidden_act", "swish") != format::UnaryKind::silu) f.refuse("hidden_act", "is not \"swish\"");
  return feed_forward(net, ffn, x);
}

void build(Checkpoint& c, ModelBuilder& b) {
  const std::string type = architecture_of(c);
  const Facts f = config_facts(c);
  FlaMixer mixer = nullptr;
  for (const Kind& k : kKinds)
    if (type == k.model_type) mixer = k.mixer;
  const Sizes s = read_sizes(f);
  Net net(c, b, {"model.", "layers.", {}}, s.context);
  Var x = net.embed("embeddings", s.vocab, s.hidden);
  const std::vector<Attention> attentions = attention_layers(net, f, s, "attn.");
  // HGRN: forget gates of layer i are at least the sum of the first i shares of a softmax over the layers.
  std::vector<std::vector<float>> bounds(s.layers);
  if (f.boolean("use_lower_bound", true) && net.has("lower_bounds")) {
    const int64_t width = int64_t(net.find("lower_bounds").shape.back());
    const std::vector<float> raw = net.values("lower_bounds", {int64_t(s.layers), width});
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0, part = 0;
      for (size_t l = 0; l < s.layers; ++l) sum += std::exp(double(raw[l * size_t(width) + size_t(i)]));
      for (size_t l = 1; l < s.layers; ++l) {
        part += std::exp(double(raw[l * size_t(width) + size_t(i)])) / sum;
        bounds[l].push_back(float(part));
      }
    }
  } else {
    c.ignore_containing("lower_bounds");
  }
  for (size_t i = 0; i < s.layers; ++i) {
    net.layer(i, s.layers);
    if (!attentions[i].heads) check_parts(net, f);
    x = with_residual(net, x, "attn_norm", s.eps, [&](const Var& h) {
      return attentions[i].heads ? attention(net, attentions[i], h) : mixer(net, f, {s.hidden, s.eps, bounds[i]}, h);
    });
    x = with_residual(net, x, "mlp_norm", s.eps, [&](const Var& h) { return feed_forward(net, f, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm.weight", {s.hidden}), s.eps);
  net.head(x, output_matrix(net, "embeddings", s.is_tied, s.vocab, s.hidden), s.vocab);
}

void build_samba(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Sizes s = read_sizes(f);
  Naming naming = {"backbone.", "layers.", {}};
  expect_biases(f, "use_bias", {"in_proj", "out_proj"}, naming);
  expect_biases(f, "use_conv_bias", {"conv1d"}, naming);
  Net net(c, b, std::move(naming), s.context);
  Var x = net.embed("embeddings", s.vocab, s.hidden);
  const std::vector<Attention> attentions = attention_layers(net, f, s, "mixer.");
  Mamba m;
  m.activation = activation_named(f, "hidden_act", "silu");
  m.taps = f.integer("conv_kernel", 1, 64, 4);
  f.pass_over({"time_step_min"});
  m.state = f.integer("state_size", 1, 65536, 16);
  m.inner = f.integer("intermediate_size", 1, 1 << 30, s.hidden * f.integer("expand", 1, 64, 2));
  const Json* rank = f.find("time_step_rank");
  m.rank = !rank || rank->is_string() ? (s.hidden + 15) / 16 : f.integer("time_step_rank", 1, 65536);
  for (size_t i = 0; i < s.layers; ++i) {
    net.layer(i, s.layers);
    x = with_residual(net, x, "mixer_norm", s.eps, [&](const Var& h) {
      return attentions[i].heads ? attention(net, attentions[i], h) : mamba(net, m, h);
    });
    x = with_residual(net, x, "mlp_norm", s.eps, [&](const Var& h) { return feed_forward(net, f, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm_f.weight", {s.hidden}), s.eps);
  net.head(x, output_matrix(net, "embeddings", s.is_tied, s.vocab, s.hidden), s.vocab);
}

std::vector<const char*> model_types() {
  std::vector<const char*> out;
  for (const Kind& k : kKinds) out.push_back(k.model_type);
  return out;
}

}  // namespace

extern const Recipe fla_recipe, samba_recipe;
const Recipe fla_recipe = {"fla", {}, model_types(), build};
const Recipe samba_recipe = {"samba", {}, {"samba"}, build_samba};

}  // namespace runnel::convert
