// MobileNet 1 and 2, and DeepLabV3+ over the second.
#include <cmath>

#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

struct MobileNet {
  ConvNet& net;
  Activation activation;
  double eps;

  Var layer(const Var& x, const std::string& name, const Conv& like = {}, bool is_active = true) const {
    Conv c = like;
    c.name = name + ".convolution", c.norm = name + ".normalization";
    c.eps = eps;
    if (is_active) c.activation = activation;
    return net.conv(x, c);
  }
  Var separate(const Var& x, const std::string& name, int64_t stride, int64_t dilation = 1) const {
    return layer(x, name, {"", "", stride, {}, 0, x.dims.back(), dilation});
  }
};

MobileNet mobile_net(ConvNet& net, const Facts& f) {
  f.pass_over({"depth_multiplier", "min_depth", "depth_divisible_by", "expand_ratio", "finegrained_output"});
  return {net, image_activation(f, "hidden_act", "relu6"), f.number("layer_norm_eps", 1e-3)};
}

void give(ConvNet& net, const Facts& f, const std::string& name, const Var& x) {
  const Var pooled = net.mean_of_places(x);
  if (name == "ForImageClassification") return net.classify(pooled);
  if (name != "Model") f.refuse("architectures", "names ..." + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output");
}

void build_first(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"mobilenet_v1.", "", {}}, f, f.boolean("tf_padding", true));
  const MobileNet m = mobile_net(net, f);
  Var x = m.layer(net.pixels(), "conv_stem", {"", "", 2});
  constexpr int64_t kStrides[] = {1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1};
  int i = 0;
  for (const int64_t stride : kStrides) {
    x = m.separate(x, "layer." + std::to_string(i++), stride);
    x = m.layer(x, "layer." + std::to_string(i++));
  }
  give(net, f, class_of(c, "MobileNetV1"), x);
}

// The pooled image and the image itself, side by side.
void give_deeplab(ConvNet& net, const Var& x) {
  MobileNet head{net, {format::UnaryKind::relu}, 1e-5};
  const std::string prefix = "/segmentation_head.";
  const Var pooled = head.layer(net.one_place(net.mean_of_places(x)), prefix + "conv_pool"),
            own = head.layer(x, prefix + "conv_aspp");
  const Var everywhere = net.op("expand", {pooled.name}, x.axis, pooled.dims);
  const Var y = head.layer(net.concat({everywhere, own}, 3), prefix + "conv_projection");
  net.give_image(net.conv(y, {prefix + "classifier.convolution"}), "logits");
}

void build_second(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"mobilenet_v2.", "", {}}, f, f.boolean("tf_padding", true));
  const MobileNet m = mobile_net(net, f);
  const int64_t most_stride = f.integer("output_stride", 1, 1024, 32);
  f.pass_over({"semantic_loss_ignore_index"});
  const bool is_short = f.boolean("first_layer_is_expansion", true);
  Var x = m.layer(net.pixels(), "conv_stem.first_conv", {"", "", 2});
  if (!is_short) x = m.layer(x, "conv_stem.expand_1x1");
  x = m.layer(m.separate(x, "conv_stem.conv_3x3", 1), "conv_stem.reduce_1x1", {}, false);
  constexpr int64_t kStrides[] = {2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1};
  int64_t stride_so_far = 2, next_dilation = 1;
  int i = 0;
  for (const int64_t wanted : kStrides) {
    int64_t stride = wanted, dilation = 1;
    if (stride_so_far == most_stride) {
      stride = 1, dilation = next_dilation;
      next_dilation *= wanted;
    }
    stride_so_far *= stride;
    const std::string name = "layer." + std::to_string(i++) + ".";
    Var y = m.separate(m.layer(x, name + "expand_1x1"), name + "conv_3x3", stride, dilation);
    y = m.layer(y, name + "reduce_1x1", {}, false);
    x = stride == 1 && y.dims == x.dims ? net.add(x, y) : y;
  }
  const std::string name = class_of(c, "MobileNetV2");
  if (name == "ForSemanticSegmentation") {
    c.ignore_containing("mobilenet_v2.conv_1x1.");
    return give_deeplab(net, x);
  }
  give(net, f, name, m.layer(x, "conv_1x1"));
}

}  // namespace

extern const Recipe mobilenet_v1_recipe;
const Recipe mobilenet_v1_recipe = {"mobilenet_v1", {}, {"mobilenet_v1"}, build_first};
extern const Recipe mobilenet_v2_recipe;
const Recipe mobilenet_v2_recipe = {"mobilenet_v2", {}, {"mobilenet_v2"}, build_second};

}  // namespace runnel::convert
