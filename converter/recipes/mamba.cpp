// Mamba and Falcon-Mamba, Mamba-2, Mamba-3: one mixer a layer, nothing else.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

const std::map<std::string, std::string> kGgufAround = {
    {"embeddings", "token_embd"}, {"/lm_head", "output"}, {"norm_f", "output_norm"}, {"norm", "attn_norm"}};

struct Sizes {
  int64_t hidden = 0, layers = 0, vocab = 0;
  double eps = 1e-5;
  bool is_tied = true;
};

// The whole network around a mixer.
template <class Mixer>
void build_stack(Checkpoint& c, ModelBuilder& b, const Sizes& s, int64_t context, Mixer mixer) {
  const bool is_gguf = c.is_gguf();
  std::string root = "backbone.";
  if (!is_gguf && !c.has("backbone.embeddings.weight")) root = "model.";
  Naming naming = {root, "layers.", kGgufAround};
  if (!is_gguf) {
    const Facts f = config_facts(c);
    expect_biases(f, "use_bias", {"in_proj", "out_proj"}, naming);
    expect_biases(f, "use_conv_bias", {"conv1d"}, naming);
    f.expect("rms_norm", true);
    // Sizes once more, how weights began, and names of the authors' own code.
    f.pass_over({"time_step_min", "time_step_rank", "expand", "d_inner", "d_model", "num_hidden_layers", "n_layer",
                 "pad_vocab_size_multiple", "fused_add_norm", "ssm_cfg", "norm_before_gate"});
  }
  for (const auto& [name, gguf] : kGgufMamba2) naming.gguf["mixer." + name] = gguf;
  Net net(c, b, naming, context);
  Var x = net.embed("embeddings", s.vocab, s.hidden);
  for (int64_t i = 0; i < s.layers; ++i) {
    net.layer(size_t(i), size_t(s.layers));
    x = with_residual(net, x, "norm", s.eps, [&](const Var& h) { return mixer(net, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm_f.weight", {s.hidden}), s.eps);
  net.head(x, output_matrix(net, "embeddings", s.is_tied, s.vocab, s.hidden), s.vocab);
}

int64_t gguf_vocab(Checkpoint& c) {
  const SourceTensor* t = c.find("token_embd.weight");
  if (!t) fail("%s: tensor \"token_embd.weight\" is missing", c.path.c_str());
  return int64_t(t->shape.front());
}

// No position limits these models.
constexpr int64_t kContext = int64_t(1) << 30;

void build_mamba(Checkpoint& c, ModelBuilder& b) {
  Sizes s;
  Mamba m;
  int64_t context = kContext;
  if (c.is_gguf()) {
    const Facts f = gguf_facts(c);
    s = {f.integer("embedding_length"), f.integer("block_count", 1, 4096), gguf_vocab(c),
         f.number("attention.layer_norm_rms_epsilon"), !c.has("output.weight")};
    m.taps = f.integer("ssm.conv_kernel", 1, 64);
    m.inner = f.integer("ssm.inner_size");
    m.state = f.integer("ssm.state_size", 1, 65536);
    m.rank = f.integer("ssm.time_step_rank", 1, 65536);
    if (f.boolean("ssm.dt_b_c_rms", false)) m.norms = Mamba::Norms::kPlain;
    m.eps = s.eps;
    context = f.integer("context_length", 1, kContext, kContext);
  } else {
    const Facts f = config_facts(c);
    s = {f.integer("hidden_size"), f.integer(f.has("n_layer") ? "n_layer" : "num_hidden_layers", 1, 4096),
         f.integer("vocab_size"), f.number("layer_norm_epsilon", 1e-5), f.boolean("tie_word_embeddings", true)};
    m.taps = f.integer("conv_kernel", 1, 64, 4);
    m.inner = f.integer("intermediate_size", 1, 1 << 30, s.hidden * f.integer("expand", 1, 64, 2));
    m.state = f.integer("state_size", 1, 65536, 16);
    const Json* rank = f.find("time_step_rank");
    m.rank = !rank || rank->is_string() ? (s.hidden + 15) / 16 : f.integer("time_step_rank", 1, 65536);
    m.activation = activation_named(f, "hidden_act", "silu");
    if (f.text("model_type", "") == "falcon_mamba") {
      m.norms = Mamba::Norms::kPlain;
      m.eps = f.number("mixer_rms_eps", 1e-6);
    }
  }
  build_stack(c, b, s, context, [&](Net& net, const Var& h) { return mamba(net, m, h); });
}

void build_mamba2(Checkpoint& c, ModelBuilder& b) {
  Sizes s;
  Mamba2 m;
  int64_t context = kContext;
  if (c.is_gguf()) {
    const Facts f = gguf_facts(c);
    s = {f.integer("embedding_length"), f.integer("block_count", 1, 4096), gguf_vocab(c),
         f.number("attention.layer_norm_rms_epsilon"), !c.has("output.weight")};
    read_gguf_mamba2(f, m);
    context = f.integer("context_length", 1, kContext, kContext);
  } else {
    const Facts f = config_facts(c);
    s = {f.integer("hidden_size"), f.integer("num_hidden_layers", 1, 4096), f.integer("vocab_size"),
         f.number("layer_norm_epsilon", 1e-5), f.boolean("tie_word_embeddings", false)};
    m.heads = f.integer("num_heads", 1, 65536);
    m.head_dim = f.integer("head_dim", 1, 65536);
    m.state = f.integer("state_size", 1, 65536);
    m.groups = f.integer("n_groups", 1, 65536, 8);
    m.taps = f.integer("conv_kernel", 1, 64, 4);
    m.activation = activation_named(f, "hidden_act", "silu");
    m.norm_groups = m.groups;
    read_step_limit(f, m);
  }
  m.eps = s.eps;
  build_stack(c, b, s, context, [&](Net& net, const Var& h) { return mamba2(net, m, h); });
}

void build_mamba3(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  if (f.boolean("is_mimo", false)) f.refuse("is_mimo", "is set; several inputs and outputs a head are not supported");
  const Sizes s = {f.integer("hidden_size"), f.integer("num_hidden_layers", 1, 4096), f.integer("vocab_size"),
                   f.number("norm_eps", 1e-5), f.boolean("tie_word_embeddings", false)};
  Mamba3 m;
  m.head_dim = f.integer("head_dim", 1, 65536, 64);
  m.heads = s.hidden * f.integer("expand", 1, 64, 2) / m.head_dim;
  m.state = f.integer("state_size", 2, 65536, 128);
  m.groups = f.integer("n_groups", 1, 65536, 1);
  if (m.heads < 1 || m.heads % m.groups) f.refuse("n_groups", "does not divide the number of heads");
  m.angles = int64_t(double(m.state) * f.number("rope_fraction", 0.5)) / 2;
  if (m.angles < 1 || 2 * m.angles > m.state) f.refuse("rope_fraction", "leaves no pair of channels to turn");
  m.a_floor = f.number("A_floor", 1e-4);
  m.has_norm = f.boolean("is_outproj_norm", false);
  f.pass_over({"mimo_rank", "intermediate_size", "max_position_embeddings", "num_heads"});
  if (activation_named(f, "hidden_act", "silu") != format::UnaryKind::silu) f.refuse("hidden_act", "is not \"silu\"");
  m.eps = s.eps;
  build_stack(c, b, s, kContext, [&](Net& net, const Var& h) { return mamba3(net, m, h); });
}

}  // namespace

extern const Recipe mamba_recipe, mamba2_recipe, mamba3_recipe;
const Recipe mamba_recipe = {"mamba", {"mamba"}, {"mamba", "falcon_mamba"}, build_mamba};
const Recipe mamba2_recipe = {"mamba2", {"mamba2"}, {"mamba2"}, build_mamba2};
const Recipe mamba3_recipe = {"mamba3", {}, {"mamba3"}, build_mamba3};

}  // namespace runnel::convert
