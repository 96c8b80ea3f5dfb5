// Mamba and Falcon-Mamba, Mamba-2, Mamba-3: one mixer a layer, nothing else.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {
namespace {

const std::map<std::string, std::string> kGgufAround = {
    {"embeddings", "token_embd"}, {"/lm_head", "output"}, {"norm_f", "output_norm"}, {"norm", "attn_norm"}};

// No position limits these models.
constexpr int64_t kContext = int64_t(1) << 30;

struct Sizes {
  int64_t hidden = 0, layers = 0, vocab = 0;
  double eps = 1e-5;
  bool is_tied = true;
  int64_t context = kContext;
};

Sizes read_sizes(const Facts& f, const char* eps, bool is_tied) {
  f.stated_in_gguf({"rms_norm_eps"});
  return {f.integer("hidden_size"),
          f.integer(f.has("n_layer") ? "n_layer" : "num_hidden_layers", 1, 4096),
          f.integer("vocab_size"),
          f.number(eps, 1e-5),
          f.boolean("tie_word_embeddings", is_tied),
          f.integer("gguf.context", 1, kContext, kContext)};
}

// The whole network around a mixer.
template <class Mixer>
void build_stack(Checkpoint& c, ModelBuilder& b, const Facts& f, const Sizes& s, Mixer mixer) {
  Naming naming = {c.has("backbone.embeddings.weight") ? "backbone." : "model.", "layers.", kGgufAround};
  expect_biases(f, "use_bias", {"in_proj", "out_proj"}, naming);
  expect_biases(f, "use_conv_bias", {"conv1d"}, naming);
  f.expect("rms_norm", true);
  // Sizes once more, how weights began, and names of the authors' own code.
  f.pass_over({"time_step_min", "time_step_rank", "expand", "d_inner", "d_model", "num_hidden_layers", "n_layer",
               "pad_vocab_size_multiple", "fused_add_norm", "ssm_cfg", "norm_before_gate"});
  for (const auto& [name, gguf] : kGgufMamba2) naming.gguf["mixer." + name] = gguf;
  Net net(c, b, naming, s.context);
  Var x = net.embed("embeddings", s.vocab, s.hidden);
  for (int64_t i = 0; i < s.layers; ++i) {
    net.layer(size_t(i), size_t(s.layers));
    x = with_residual(net, x, "norm", s.eps, [&](const Var& h) { return mixer(net, h); });
  }
  net.leave_layers();
  x = net.rms_norm(x, net.plain("norm_f.weight", {s.hidden}), s.eps);
  net.head(x, output_matrix(net, "embeddings", s.is_tied, s.vocab, s.hidden), s.vocab);
}

const GgufForm kGguf = {{{"gguf.context", "context_length"},
                         {"num_attention_heads", ""},
                         {"layer_norm_epsilon", "attention.layer_norm_rms_epsilon"},
                         {"mixer_rms_eps", "attention.layer_norm_rms_epsilon"},
                         {"conv_kernel", "ssm.conv_kernel"},
                         {"intermediate_size", "ssm.inner_size"},
                         {"state_size", "ssm.state_size"},
                         {"time_step_rank", "ssm.time_step_rank"},
                         {"num_heads", "ssm.time_step_rank"},
                         {"n_groups", "ssm.group_count"}}};

void build_mamba(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c, kGguf);
  const Sizes s = read_sizes(f, "layer_norm_epsilon", true);
  Mamba m;
  m.taps = f.integer("conv_kernel", 1, 64, 4);
  m.inner = f.integer("intermediate_size", 1, 1 << 30, s.hidden * f.integer("expand", 1, 64, 2));
  m.state = f.integer("state_size", 1, 65536, 16);
  const Json* rank = f.find("time_step_rank");
  m.rank = !rank || rank->is_string() ? (s.hidden + 15) / 16 : f.integer("time_step_rank", 1, 65536);
  m.activation = activation_named(f, "hidden_act", "silu");
  // Falcon-Mamba, which a GGUF tells by a key of its own.
  if (f.text("model_type", "") == "falcon_mamba" || f.boolean("ssm.dt_b_c_rms", false)) {
    m.norms = Mamba::Norms::kPlain;
    m.eps = f.number("mixer_rms_eps", 1e-6);
  }
  build_stack(c, b, f, s, [&](Net& net, const Var& h) { return mamba(net, m, h); });
}

void build_mamba2(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c, kGguf);
  const Sizes s = read_sizes(f, "layer_norm_epsilon", false);
  Mamba2 m;
  m.heads = f.integer("num_heads", 1, 65536);
  if (f.has("intermediate_size") && f.integer("intermediate_size") % m.heads)
    f.refuse("intermediate_size", "is no multiple of the number of heads");
  m.head_dim = f.has("head_dim") ? f.integer("head_dim", 1, 65536) : f.integer("intermediate_size") / m.heads;
  m.state = f.integer("state_size", 1, 65536);
  m.groups = f.integer("n_groups", 1, 65536, 8);
  m.taps = f.integer("conv_kernel", 1, 64, 4);
  m.activation = activation_named(f, "hidden_act", "silu");
  m.norm_groups = m.groups;
  m.eps = s.eps;
  read_step_limit(f, m);
  build_stack(c, b, f, s, [&](Net& net, const Var& h) { return mamba2(net, m, h); });
}

void build_mamba3(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  if (f.boolean("is_mimo", false)) f.refuse("is_mimo", "is set; several inputs and outputs a head are not supported");
  const Sizes s = read_sizes(f, "norm_eps", false);
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
  build_stack(c, b, f, s, [&](Net& net, const Var& h) { return mamba3(net, m, h); });
}

}  // namespace

extern const Recipe mamba_recipe, mamba2_recipe, mamba3_recipe;
const Recipe mamba_recipe = {"mamba", {"mamba"}, {"mamba", "falcon_mamba"}, build_mamba};
const Recipe mamba2_recipe = {"mamba2", {"mamba2"}, {"mamba2"}, build_mamba2};
const Recipe mamba3_recipe = {"mamba3", {}, {"mamba3"}, build_mamba3};

}  // namespace runnel::convert
