// ConvNeXt, the second version with its normalised responses, and that of DINOv3.
#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

constexpr double kEps = 1e-6;  // of all norms but the last

// w (x n) + b + x; n is the length of each channel over all places, over the mean of those lengths.
Var normalised_responses(ConvNet& net, const Var& x, const std::string& name) {
  const int64_t width = x.dims.back();
  const Var squares = net.unary(format::UnaryKind::square, net.tokens(x));
  const Var lengths = net.unary(format::UnaryKind::sqrt, net.along(format::ReduceKind::sum, squares, 1, "batch"));
  format::ReduceAttrsT over_channels;
  over_channels.kind = format::ReduceKind::mean;
  over_channels.axis = 1;
  const Var mean = net.shaped(net.op("reduce", {lengths.name}, "batch", {}, {}, over_channels), "batch", {1});
  const Var share =
      net.binary(format::BinaryKind::div, lengths, net.plus_numbers(mean, name + ".eps", {float(kEps)}, {1}));
  const Var y = net.combined(format::BinaryKind::mul, x, net.one_place(share));
  const Var scaled = net.binary(format::BinaryKind::mul, y, net.as_numbers(name + ".weight", width));
  return net.add(net.binary(format::BinaryKind::add, scaled, net.as_numbers(name + ".bias", width)), x);
}

Var layer(ConvNet& net, const Var& x, const std::string& name, const Activation& act) {
  Conv filters{name + "dwconv"};
  filters.groups = x.dims.back();
  Var y = net.norm(net.conv(x, filters), name + "layernorm", kEps);
  y = net.act(net.linear(y, name + "pwconv1"), act);
  if (net.has(name + "grn.weight")) y = normalised_responses(net, y, name + "grn");
  y = net.linear(y, name + "pwconv2");
  const std::string factor = name + "layer_scale_parameter";
  if (net.has(factor)) y = net.binary(format::BinaryKind::mul, y, net.as_numbers(factor, x.dims.back()));
  return net.add(x, y);
}

void build_as(Checkpoint& c, ModelBuilder& b, const std::string& family, const std::string& root) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {root, "layers.", {}}, f);
  const Activation act = image_activation(f, "hidden_act", "gelu");
  const int64_t patch = f.integer("patch_size", 1, 4096, 4);
  f.pass_over({"num_stages", "hidden_sizes", "drop_path_rate", "layer_scale_init_value", "out_features", "out_indices",
               "stage_names"});
  const auto halving = [](const std::string& name, int64_t stride) {
    Conv conv{name, "", stride};
    conv.before = conv.behind = 0;
    return conv;
  };
  Var x = net.norm(net.conv(net.pixels(), halving("embeddings.patch_embeddings", patch)), "embeddings.layernorm", kEps);
  const Facts known = f.with_defaults({{"depths", {3, 3, 9, 3}}});
  const std::vector<int64_t> depths = known.integers("depths", known.tree().at("depths").size(), 1, 4096);
  for (size_t s = 0; s < depths.size(); ++s) {
    const std::string stage = "encoder.stages." + std::to_string(s) + ".", down = stage + "downsampling_layer.";
    if (net.has(down + "1.weight")) x = net.conv(net.norm(x, down + "0", kEps), halving(down + "1", s > 0 ? 2 : 1));
    for (int64_t i = 0; i < depths[s]; ++i) x = layer(net, x, stage + "layers." + std::to_string(i) + ".", act);
  }
  const Var pooled = net.norm(net.mean_of_places(x), "layernorm", f.number("layer_norm_eps", 1e-12));
  const std::string name = class_of(c, family);
  if (name == "ForImageClassification") return net.classify(pooled);
  if (name != "Model") f.refuse("architectures", "names " + family + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output");
}

// DINOv3's, whose outputs are tokens behind their mean.
void build_dinov3(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"model.", "", {}}, f);
  const Activation act = image_activation(f, "hidden_act", "gelu");
  const double eps = f.number("layer_norm_eps", kEps);
  const Facts known = f.with_defaults({{"depths", {3, 3, 9, 3}}});
  const std::vector<int64_t> depths = known.integers("depths", known.tree().at("depths").size(), 1, 4096);
  f.pass_over(
      {"hidden_sizes", "drop_path_rate", "layer_scale_init_value", "out_features", "out_indices", "stage_names"});
  if (const std::string name = class_of(c, "DINOv3ConvNext"); name != "Model")
    f.refuse("architectures", "names DINOv3ConvNext" + name + ", which is not supported");
  Var x = net.pixels();
  for (size_t s = 0; s < depths.size(); ++s) {
    const std::string stage = "stages." + std::to_string(s) + ".", down = stage + "downsample_layers.";
    Conv conv{down + (s > 0 ? "1" : "0"), "", s > 0 ? 2 : 4};
    conv.before = conv.behind = 0;
    x = s > 0 ? net.conv(net.norm(x, down + "0", eps), conv) : net.norm(net.conv(x, conv), down + "1", eps);
    for (int64_t i = 0; i < depths[s]; ++i) {
      const std::string name = stage + "layers." + std::to_string(i) + ".";
      Conv filters{name + "depthwise_conv"};
      filters.groups = x.dims.back();
      Var y = net.norm(net.conv(x, filters), name + "layer_norm", eps);
      y = net.linear(net.act(net.linear(y, name + "pointwise_conv1"), act), name + "pointwise_conv2");
      x = net.add(x, net.binary(format::BinaryKind::mul, y, net.as_numbers(name + "gamma", x.dims.back())));
    }
  }
  const Var mean = net.mean_of_places(x);
  format::ConcatAttrsT attrs;
  attrs.axis = 1;
  const Size count = net.size_of(x, 0) * net.size_of(x, 1) + 1;
  const Var tokens = net.op("concat", {net.shaped(mean, "batch 1", x.dims).name, net.tokens(x).name},
                            "batch " + count.text(), x.dims, {}, attrs);
  net.give(net.norm(tokens, "/layer_norm", eps), "last_hidden_state");
  net.give_pooled(net.norm(mean, "/layer_norm", eps), "pooler_output");
}

void build(Checkpoint& c, ModelBuilder& b) { build_as(c, b, "ConvNext", "convnext."); }
void build_second(Checkpoint& c, ModelBuilder& b) { build_as(c, b, "ConvNextV2", "convnextv2."); }

}  // namespace

extern const Recipe convnext_recipe;
const Recipe convnext_recipe = {"convnext", {}, {"convnext"}, build};
extern const Recipe convnextv2_recipe;
const Recipe convnextv2_recipe = {"convnextv2", {}, {"convnextv2"}, build_second};
extern const Recipe dinov3_convnext_recipe;
const Recipe dinov3_convnext_recipe = {"dinov3_convnext", {}, {"dinov3_convnext"}, build_dinov3};

}  // namespace runnel::convert
