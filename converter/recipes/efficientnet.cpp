// EfficientNet: blocks of an expansion, a filter for each channel, a squeeze and excitation, and a projection.
#include <cmath>
#include <set>

#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"efficientnet.", "", {}}, f);
  const Activation act = image_activation(f, "hidden_act", "swish");
  const double eps = f.number("batch_norm_eps", 1e-3), depth = f.number("depth_coefficient", 3.1);
  const Facts known = f.with_defaults({{"strides", {1, 2, 2, 2, 1, 2, 1}},
                                       {"num_block_repeats", {1, 2, 2, 3, 3, 4, 1}},
                                       {"depthwise_padding", Json::array()}});
  const size_t count = known.tree().at("strides").size();
  const std::vector<int64_t> strides = known.integers("strides", count, 1, 2),
                             repeats = known.integers("num_block_repeats", count, 1, 1024);
  std::set<int64_t> padded_evenly;  // numbers of blocks
  for (const int64_t i : known.integers("depthwise_padding", known.tree().at("depthwise_padding").size(), 0))
    padded_evenly.insert(i);
  f.pass_over({"width_coefficient", "depth_divisor", "kernel_sizes", "in_channels", "out_channels", "expand_ratios",
               "squeeze_expansion_ratio", "hidden_dim", "batch_norm_momentum", "drop_connect_rate", "dropout_rate",
               "num_hidden_layers"});
  const auto conv = [&](const Var& x, const std::string& name, const std::string& norm, bool is_active,
                        Conv like = {}) {
    like.name = name, like.norm = norm, like.eps = eps;
    if (is_active) like.activation = act;
    return net.conv(x, like);
  };
  Var x = conv(net.pixels(), "embeddings.convolution", "embeddings.batchnorm", true, {"", "", 2, {}, 0, 1, 1, 0, 1});
  int64_t number = 0;
  for (size_t s = 0; s < count; ++s) {
    const int64_t blocks = int64_t(std::ceil(depth * double(repeats[s])));
    for (int64_t i = 0; i < blocks; ++i, ++number) {
      const std::string name = "encoder.blocks." + std::to_string(number) + ".", filters = name + "depthwise_conv.";
      const bool is_expanded = net.has(name + "expansion.expand_conv.weight");
      Var y = is_expanded ? conv(x, name + "expansion.expand_conv", name + "expansion.expand_bn", true) : x;
      Conv like{"", "", i == 0 ? strides[s] : 1, {}, 0, y.dims.back()};
      if (like.stride == 2) {
        like.behind = int64_t(net.find(filters + "depthwise_conv.weight").shape.at(2)) / 2;
        like.before = like.behind - (padded_evenly.count(number) ? 0 : 1);
      }
      y = conv(y, filters + "depthwise_conv", filters + "depthwise_norm", true, like);
      y = net.squeeze_excite(y, name + "squeeze_excite.reduce", name + "squeeze_excite.expand", act);
      y = conv(y, name + "projection.project_conv", name + "projection.project_bn", false);
      x = i > 0 ? net.add(y, x) : y;
    }
  }
  x = conv(x, "encoder.top_conv", "encoder.top_bn", true);
  const std::string kind = f.text("pooling_type", "mean"), name = class_of(c, "EfficientNet");
  if (kind != "mean" && kind != "max") f.refuse("pooling_type", "is \"" + printable(kind) + "\"");
  const Var pooled =
      net.along(kind == "max" ? format::ReduceKind::max : format::ReduceKind::mean, net.tokens(x), 1, "batch");
  if (name == "ForImageClassification") return net.classify(pooled);
  if (name != "Model") f.refuse("architectures", "names EfficientNet" + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output");
}

}  // namespace

extern const Recipe efficientnet_recipe;
const Recipe efficientnet_recipe = {"efficientnet", {}, {"efficientnet"}, build};

}  // namespace runnel::convert
