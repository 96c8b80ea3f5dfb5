// FocalNet: each place is modulated by means of its surroundings, near and far.
#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

struct FocalNet {
  ConvNet& net;
  double eps;
  Activation act;
  bool norms_behind, norms_modulator, divides;

  Var modulated(const Var& x, const std::string& name, int64_t levels) const {
    const int64_t width = x.dims.back();
    const std::string in = name + "projection_in";
    const std::vector<Var> parts = net.parts(x, in + ".weight", in + ".bias", 2 * width + levels + 1,
                                             {{0, width}, {width, width}, {2 * width, levels + 1}});
    Var context = parts[1], all;
    const auto gather = [&](const Var& y, int64_t level) {
      const Var part = net.combined(format::BinaryKind::mul, y, net.slice(parts[2], 3, level, 1));
      all = level > 0 ? net.add(all, part) : part;
    };
    for (int64_t level = 0; level < levels; ++level) {
      Conv filters{name + "focal_layers." + std::to_string(level) + ".0", "", 1, {format::UnaryKind::gelu}};
      filters.groups = width;
      context = net.conv(context, filters);
      gather(context, level);
    }
    const Var mean = net.one_place(net.unary(format::UnaryKind::gelu, net.mean_of_places(context)));
    gather(net.op("expand", {mean.name}, x.axis, {width}), levels);
    if (divides) all = net.scale(all, 1 / double(levels + 1));
    Var y = net.mul(parts[0], net.conv(all, {name + "projection_context"}));
    if (norms_modulator) y = net.norm(y, name + "layernorm", eps);
    return net.linear(y, name + "projection_out");
  }
  Var layer(const Var& in, const std::string& name, int64_t levels) const {
    const auto branch = [&](const Var& x, const char* number, auto inner) {
      const std::string norm = name + "norm" + number, factor = name + "gamma_" + number;
      Var y = norms_behind ? net.norm(inner(x), norm, eps) : inner(net.norm(x, norm, eps));
      if (net.has(factor)) y = net.binary(format::BinaryKind::mul, y, net.as_numbers(factor, x.dims.back()));
      return net.add(x, y);
    };
    const Var x = branch(in, "1", [&](const Var& y) { return modulated(y, name + "modulation.", levels); });
    return branch(x, "2", [&](const Var& y) {
      return net.linear(net.act(net.linear(y, name + "mlp.fc1"), act), name + "mlp.fc2");
    });
  }
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"focalnet.", "", {}}, f);
  const FocalNet m{net,
                   f.number("layer_norm_eps", 1e-5),
                   image_activation(f, "hidden_act", "gelu"),
                   f.boolean("use_post_layernorm", false),
                   f.boolean("use_post_layernorm_in_modulation", false),
                   f.boolean("normalize_modulator", false)};
  const Facts known = f.with_defaults({{"depths", {2, 2, 6, 2}}, {"focal_levels", {2, 2, 2, 2}}});
  const std::vector<int64_t> depths = known.integers("depths", known.tree().at("depths").size(), 1, 4096);
  const std::vector<int64_t> levels = known.integers("focal_levels", depths.size(), 1, 64);
  const bool overlaps = f.boolean("use_conv_embed", false);
  const int64_t patch = f.integer("patch_size", 1, 4096, 4);
  if (overlaps && patch != 4) f.refuse("patch_size", "is not 4 beside use_conv_embed");
  f.pass_over({"embed_dim", "hidden_sizes", "focal_windows", "mlp_ratio", "hidden_dropout_prob", "drop_path_rate",
               "use_layerscale", "layerscale_value", "encoder_stride", "out_features", "out_indices", "stage_names"});
  // The original fills an image up to whole patches first; a window that reaches beyond the end sees the same zeros.
  const auto patches = [&](const Var& x, const std::string& name, int64_t stride) {
    Conv conv{name + "projection", "", stride};
    conv.before = overlaps ? stride / 2 : 0;
    conv.behind = overlaps ? (stride == 4 ? 4 : 1) : stride - 1;
    return net.conv(x, conv);
  };
  Var x = net.norm(patches(net.pixels(), "embeddings.patch_embeddings.", patch), "embeddings.norm", m.eps);
  for (size_t s = 0; s < depths.size(); ++s) {
    const std::string stage = "encoder.stages." + std::to_string(s) + ".", down = stage + "downsample.";
    for (int64_t i = 0; i < depths[s]; ++i) x = m.layer(x, stage + "layers." + std::to_string(i) + ".", levels[s]);
    if (s + 1 < depths.size()) x = net.norm(patches(x, down, 2), down + "norm", m.eps);
  }
  x = net.norm(x, "layernorm", m.eps);
  const Var pooled = net.mean_of_places(x);
  const std::string name = class_of(c, "FocalNet");
  if (name == "ForImageClassification") return net.classify(pooled);
  if (name != "Model") f.refuse("architectures", "names FocalNet" + name + ", which is not supported");
  net.give(net.tokens(x), "last_hidden_state");
  net.give_pooled(pooled, "pooler_output");
}

}  // namespace

extern const Recipe focalnet_recipe;
const Recipe focalnet_recipe = {"focalnet", {}, {"focalnet"}, build};

}  // namespace runnel::convert
