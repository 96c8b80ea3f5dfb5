// TiRex (arXiv 2505.23719): pieces of a time series through sLSTM cells, the last of them gives quantiles of the next
// piece. A directory has the parts of the published checkpoint: config.json with its model_config and train_ctx_len
// beside model_type "tirex", and the tensors of its state_dict.
//
// Input: context [batch, T], NaN where nothing was observed.
#include <cmath>

#include "converter/recipes/recipe.h"
#include "converter/recipes/series.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::UnaryKind;

constexpr double kEps = 1e-6;

struct Sizes {
  int64_t patch, context, ffn, width, heads, blocks, up, outputs;
  int64_t head() const { return width / heads; }
  int64_t patches() const { return context / patch; }
};

Sizes sizes_of(const Facts& f) {
  Sizes s{};
  s.patch = f.integer("input_patch_size", 1, 65536);
  f.expect("output_patch_size", s.patch);
  s.context = f.integer("train_ctx_len", 1, 1 << 24);
  if (s.context % s.patch) f.refuse("train_ctx_len", "is no multiple of input_patch_size");
  s.ffn = f.integer("input_ff_dim", 1, 1 << 20);
  f.expect("nan_mask_value", 0);
  const Json* quantiles = f.find("quantiles");
  if (!quantiles || !quantiles->is_array() || quantiles->empty()) f.refuse("quantiles", "is no list");
  s.outputs = int64_t(quantiles->size());
  const std::optional<Facts> block = f.inside("block_kwargs");
  if (!block) f.refuse("block_kwargs", "is missing");
  s.width = block->integer("embedding_dim", 1, 1 << 20);
  s.heads = block->integer("num_heads", 1, 65536);
  s.blocks = block->integer("num_blocks", 1, 4096);
  if (s.width % s.heads) block->refuse("num_heads", "does not divide embedding_dim");
  block->expect("num_states", 4);
  block->expect("num_gates", 4);
  s.up = (int64_t(double(s.width) * block->number("ffn_proj_factor", 2.6667)) + 63) / 64 * 64;
  return s;
}

Var residual_block(Signal& net, const Sizes& s, const Var& x, const std::string& name, int64_t out) {
  const Var inner = net.unary(UnaryKind::relu, net.linear(x, name + ".hidden_layer", s.ffn));
  return net.plus(net.linear(inner, name + ".output_layer", out), net.linear(x, name + ".residual_layer", out));
}

// The cells of all heads, with the four gates in the order of the source's bias.
Var cells(Signal& net, const Sizes& s, const Var& x, const std::string& p) {
  const int64_t dim = s.head();
  const std::string h = std::to_string(s.heads), d = std::to_string(dim), n = std::to_string(s.patches());
  const Var in_heads = net.view(x, {"batch", n, h, "1", d});
  std::vector<Var> gates;
  for (const char* gate : {"fgate", "igate", "zgate", "ogate"}) {
    const Var weight = net.tensor(p + gate + ".weight", {s.heads, dim, dim});
    gates.push_back(net.view(net.product(in_heads, weight, true), {"batch", n, "1", h, d}));
  }
  const Var flat = net.view(net.joined(gates, 2), {multiple("batch", s.patches()), "4", h, d});
  const std::vector<float> kernel = net.values(p + "slstm_cell._recurrent_kernel_", {s.heads, dim, 4 * dim}),
                           bias = net.values(p + "slstm_cell._bias_", {4 * s.heads * dim});
  std::vector<float> rows(kernel.size()), shifts(bias.size());
  for (int64_t g = 0; g < 4; ++g)
    for (int64_t k = 0; k < s.heads; ++k)
      for (int64_t out = 0; out < dim; ++out) {
        shifts[size_t((g * s.heads + k) * dim + out)] = bias[size_t((k * 4 + g) * dim + out)];
        for (int64_t in = 0; in < dim; ++in)
          rows[size_t(((g * s.heads + k) * dim + out) * dim + in)] =
              kernel[size_t((k * dim + in) * 4 * dim + g * dim + out)];
      }
  format::CellAttrsT attrs;
  attrs.kind = format::CellKind::slstm;
  const Var y =
      net.apply("cell_recurrence",
                {flat.name, net.numbers(p + "rows", rows, {4, s.heads, dim, dim}).name,
                 net.numbers(p + "shifts", shifts, {4, s.heads, dim}).name, "", "", "", "", net.segments("batch", n)},
                {multiple("batch", s.patches()), std::to_string(s.width)}, attrs);
  std::vector<float> weight = net.values(p + "group_norm.weight", {s.width});
  for (float& w : weight) w += 1;
  const Var centred = net.layer_norm(net.view(y, {"batch", n, h, d}), "", "", 1e-5);
  return net.by(net.view(centred, {"batch", n, std::to_string(s.width)}),
                net.numbers(p + "group_norm", weight, {s.width}));
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = outer_facts(c);
  const Sizes s = sizes_of(f);
  Signal net(c, b, {"", "", {}}, s.context, 64);
  net.axis("T", "min(context," + std::to_string(s.context) + ")");
  const Observed given = observed(net, net.given("context", {"batch", "T"}));
  const Var none = net.compared(ArithmeticKind::equal, given.deviation, net.number(0));
  const Var least = net.plus(net.unary(UnaryKind::abs, given.loc), net.number(1e-5));
  const Var scale = net.chosen(none, least, given.deviation);
  const InFront room = room_in_front(net, "T", std::to_string(s.context));
  const Var inside = net.of_type(net.compared(ArithmeticKind::at_most, net.number(0), room.number), format::DType::f32);
  const Names shape = {"batch", std::to_string(s.patches()), std::to_string(s.patch)};
  const auto pieces = [&](const Var& v) { return net.view(net.by(moved(net, room, v), inside), shape); };
  const Var seen = pieces(given.there), values = pieces(net.over(given.centred, scale));
  Var x = residual_block(net, s, net.joined({values, seen}, 2), "input_patch_embedding", s.width);
  for (int64_t i = 0; i < s.blocks; ++i) {
    const std::string p = "blocks." + std::to_string(i) + ".";
    x = net.plus(x, cells(net, s, net.rms(x, p + "norm_slstm", kEps), p + "slstm_layer."));
    const Var y = net.rms(x, p + "norm_ffn", kEps);
    const Var inner =
        net.glu(UnaryKind::silu, net.linear(y, p + "ffn.proj_up_gate", s.up), net.linear(y, p + "ffn.proj_up", s.up));
    x = net.plus(x, net.linear(inner, p + "ffn.proj_down", s.width));
  }
  x = net.rms(net.cut(x, 1, -1, "1"), "out_norm", kEps);
  const Var y = net.view(residual_block(net, s, x, "output_patch_embedding", s.outputs * s.patch),
                         {"batch", std::to_string(s.outputs), std::to_string(s.patch)});
  const Names one = {"batch", "1", "1"};
  net.output(net.plus(net.by(y, net.view(scale, one)), net.view(given.loc, one)), "quantile_preds");
}

}  // namespace

extern const Recipe tirex_recipe;
const Recipe tirex_recipe = {"tirex", {}, {"tirex"}, build};

}  // namespace runnel::convert
