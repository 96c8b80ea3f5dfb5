// ResNet and RegNet: stages of residual layers of convolutions with batch norms.
#include "converter/recipes/resnet.h"

namespace runnel::convert {
namespace {

struct Residual {
  ConvNet& net;
  Activation activation;

  Conv layer(const std::string& name, int64_t stride, bool is_active, int64_t groups = 1) const {
    return {
        name + ".convolution", name + ".normalization", stride, is_active ? activation : Activation(), 1e-5, groups};
  }
  // x may go through a convolution of its own, in RT-DETR behind means of 2 x 2 places.
  Var joined(const std::string& name, const Var& x, const Var& y, int64_t stride) const {
    const std::string own = name + "shortcut", behind_means = own + ".1";
    Var around = x;
    if (net.has(behind_means + ".convolution.weight"))
      around = net.conv(net.pool(format::PoolKind::average, x, {2, 2, 0, 1}), layer(behind_means, 1, false));
    if (net.has(own + ".convolution.weight")) around = net.conv(x, layer(own, stride, false));
    return net.act(net.add(y, around), activation);
  }
};

// Stages of layers, the first of each with the stride 2, that of the first stage where the configuration says so.
// Gives what is behind each.
template <class Layer>
std::vector<Var> stages(const Facts& f, Var x, bool halves_first, Layer layer) {
  std::vector<Var> images;
  const Json* listed = f.find("depths");
  const std::vector<int64_t> depths = f.integers("depths", listed && listed->is_array() ? listed->size() : 4, 1, 4096);
  const bool is_halved = f.boolean("downsample_in_first_stage", halves_first);
  for (size_t s = 0; s < depths.size(); ++s) {
    for (int64_t i = 0; i < depths[s]; ++i)
      x = layer("encoder.stages." + std::to_string(s) + ".layers." + std::to_string(i) + ".", x,
                i == 0 && (s > 0 || is_halved) ? 2 : 1);
    images.push_back(x);
  }
  return images;
}

void give(ConvNet& net, const Checkpoint& c, const std::string& family, const Var& x) {
  const std::string name = class_of(c, family);
  const Var pooled = net.mean_of_places(x);
  if (name == "ForImageClassification") return net.classify(pooled, "/classifier.1");
  if (name != "Model") outer_facts(c).refuse("architectures", "names " + family + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output", 2);
}

// The stages of ResNet over what the stem gives.
std::vector<Var> resnet_stages(ConvNet& net, const Facts& f, const std::string& root, const Var& x) {
  const Residual r{net, image_activation(f, "hidden_act", "relu")};
  const std::string type = f.text("layer_type", "bottleneck");
  const bool halves_early = f.boolean("downsample_in_bottleneck", false);
  if (type != "bottleneck" && type != "basic") f.refuse("layer_type", "is \"" + printable(type) + "\"");
  f.pass_over({"embedding_size", "hidden_sizes", "out_features", "out_indices", "stage_names"});
  // Within a layer it is relu whatever the configuration says.
  const Residual inner{net, {format::UnaryKind::relu}};
  return stages(f, x, false, [&](const std::string& layer, const Var& in, int64_t stride) {
    const std::string name = root + layer;
    Var y;
    if (type == "basic") {
      y = net.conv(in, inner.layer(name + "layer.0", stride, true));
      y = net.conv(y, inner.layer(name + "layer.1", 1, false));
    } else {
      y = net.conv(in, inner.layer(name + "layer.0", halves_early ? stride : 1, true));
      y = net.conv(y, inner.layer(name + "layer.1", halves_early ? 1 : stride, true));
      y = net.conv(y, inner.layer(name + "layer.2", 1, false));
    }
    return r.joined(name, in, y, stride);
  });
}

void build_resnet(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"resnet.", "", {}}, f);
  const Residual r{net, image_activation(f, "hidden_act", "relu")};
  const Var x = net.conv(net.pixels(), r.layer("embedder.embedder", 2, true));
  give(net, c, "ResNet", resnet_stages(net, f, "", net.pool(format::PoolKind::max, x, {3, 2, 1})).back());
}

void build_regnet(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"regnet.", "", {}}, f);
  const Residual r{net, image_activation(f, "hidden_act", "relu")};
  const bool has_gate = f.text("layer_type", "y") != "x";
  const int64_t width = f.integer("groups_width", 1, 1 << 20, 64);
  f.pass_over({"embedding_size", "hidden_sizes"});
  const auto layer = [&](const std::string& name, const Var& in, int64_t stride) {
    Var y = net.conv(in, r.layer(name + "layer.0", 1, true));
    const int64_t groups = std::max<int64_t>(1, y.dims.back() / width);
    y = net.conv(y, r.layer(name + "layer.1", stride, true, groups));
    const std::string gate = name + "layer.2.attention.";
    if (has_gate) y = net.squeeze_excite(y, gate + "0", gate + "2", {format::UnaryKind::relu});
    y = net.conv(y, r.layer(name + (has_gate ? "layer.3" : "layer.2"), 1, false));
    return r.joined(name, in, y, stride);
  };
  const Var x = net.conv(net.pixels(), r.layer("embedder.embedder", 2, true));
  give(net, c, "RegNet", stages(f, x, true, layer).back());
}

}  // namespace

std::vector<Var> detr_resnet(ConvNet& net, const Facts& f, const std::string& root) {
  const Residual r{net, image_activation(f, "hidden_act", "relu")};
  Var x = net.pixels();
  for (int i = 0; i < 3; ++i)
    x = net.conv(x, r.layer(root + "embedder.embedder." + std::to_string(i), i == 0 ? 2 : 1, true));
  std::vector<Var> images = {net.pool(format::PoolKind::max, x, {3, 2, 1})};
  for (const Var& image : resnet_stages(net, f, root, images[0])) images.push_back(image);
  return images;
}

extern const Recipe resnet_recipe;
const Recipe resnet_recipe = {"resnet", {}, {"resnet"}, build_resnet};
extern const Recipe regnet_recipe;
const Recipe regnet_recipe = {"regnet", {}, {"regnet"}, build_regnet};

}  // namespace runnel::convert
