// A recipe from outside of the tree: a language model of minGRU layers (Feng et al. 2024, "Were RNNs All We Needed?")
// and plain feed-forward parts. Nothing of the runtime knows it.
#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

// h_t = (1 - z_t) h_{t-1} + z_t c_t, both from the token alone.
Var min_gru(Net& net, int64_t width, const Var& x) {
  const std::vector<Var> in = net.linears(x, {{"to_z", {width}}, {"to_h", {width}}});
  const Var keep = net.unary(UnaryKind::sigmoid, net.unary(UnaryKind::neg, in[0]));
  const Var entering = net.mul(net.unary(UnaryKind::sigmoid, in[0]), in[1]);
  const std::string state = net.state("state", {width});
  const Var h = net.op("scan", {keep.name, entering.name, state}, "T", {width}, {state}, format::ScanAttrsT());
  return net.linear(net.wanted(h), {"to_out", {x.dims[0]}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const int64_t hidden = f.integer("hidden_size"), vocab = f.integer("vocab_size"), width = f.integer("gru_size"),
                inner = f.integer("intermediate_size");
  const size_t layers = size_t(f.integer("num_hidden_layers", 1, 4096));
  Net net(c, b, {"", "layers.", {}}, f.integer("max_position_embeddings", 1, 1 << 30, 1 << 20));
  Var x = net.embed("embed", vocab, hidden);
  for (size_t i = 0; i < layers; ++i) {
    net.layer(i, layers);
    x = with_residual(net, x, "norm1", 1e-6, [&](const Var& h) { return min_gru(net, width, h); });
    x = with_residual(net, x, "norm2", 1e-6, [&](const Var& h) {
      return net.linear(net.unary(UnaryKind::relu_squared, net.linear(h, {"up", {inner}})), {"down", {hidden}});
    });
  }
  net.leave_layers();
  net.head(net.rms_norm(x, net.plain("norm.weight", {hidden}), 1e-6), output_matrix(net, "embed", true, vocab, hidden),
           vocab);
}

}  // namespace

extern const Recipe min_gru_recipe;
const Recipe min_gru_recipe = {"min_gru", {}, {"min_gru"}, build};

}  // namespace runnel::convert
