// SwiftFormer: layers of convolutions, the last of each stage with an attention that adds instead of comparing.
#include <limits>

#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

struct SwiftFormer {
  ConvNet& net;
  double eps;
  Activation act;  // of what follows an attention

  Var scaled(const Var& x, const std::string& name) const {
    return net.has(name) ? net.binary(format::BinaryKind::mul, x, net.as_numbers(name, x.dims.back())) : x;
  }
  Conv normed(const std::string& name, const std::string& norm) const {
    Conv conv{name, norm};
    conv.eps = eps;
    return conv;
  }
  Var local(const Var& x, const std::string& name) const {
    Conv filters = normed(name + "depth_wise_conv", name + "norm");
    filters.groups = x.dims.back();
    Var y = net.conv(net.conv(x, filters), {name + "point_wise_conv1", "", 1, {format::UnaryKind::gelu}});
    y = net.conv(y, {name + "point_wise_conv2"});
    return net.add(x, scaled(y, name + "layer_scale"));
  }
  // Each place's numbers over their length.
  Var unit_places(const Var& x) const {
    format::ReduceAttrsT over_channels;
    over_channels.kind = format::ReduceKind::sum;
    over_channels.axis = 3;
    const Var squares = net.unary(format::UnaryKind::square, x);
    const Var sums = net.op("reduce", {squares.name}, x.axis, {}, {}, over_channels);
    format::MathAttrsT at_least;
    at_least.kind = format::MathKind::clip;
    at_least.alpha = 1e-12f, at_least.beta = std::numeric_limits<float>::infinity();
    const Var lengths = net.unary(format::UnaryKind::sqrt, net.shaped(sums, x.axis, {1}));
    const Var some = net.op("math", {lengths.name}, x.axis, {1}, {}, at_least);
    return net.combined(format::BinaryKind::div, x, some);
  }
  // The original weighs the queries by a softmax over one number, which is 1 whatever the weights w_g say.
  Var attention(const Var& x, const std::string& name) const {
    const Var query = unit_places(net.linear(x, name + "to_query")), key = unit_places(net.linear(x, name + "to_key"));
    const Var all = net.one_place(net.along(format::ReduceKind::sum, net.tokens(query), 1, "batch"));
    const Var y = net.linear(net.combined(format::BinaryKind::mul, key, all), name + "proj");
    return net.linear(net.add(y, query), name + "final");
  }
  Var block(const Var& in, const std::string& name) const {
    Var x = local(in, name + "local_representation.");
    x = net.add(x, scaled(attention(x, name + "attn."), name + "layer_scale_1"));
    Var y = net.batch_norm(x, name + "linear.norm1", eps);
    y = net.conv(net.conv(y, {name + "linear.fc1", "", 1, act}), {name + "linear.fc2"});
    return net.add(x, scaled(y, name + "layer_scale_2"));
  }
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"swiftformer.", "", {}}, f);
  const SwiftFormer m{net, f.number("batch_norm_eps", 1e-5), image_activation(f, "hidden_act", "gelu")};
  const int64_t stride = f.integer("down_stride", 1, 64, 2), padding = f.integer("down_pad", 0, 63, 1);
  const Facts known = f.with_defaults({{"depths", {3, 3, 6, 4}}});
  const std::vector<int64_t> depths = known.integers("depths", known.tree().at("depths").size(), 1, 4096);
  f.pass_over({"embed_dims", "mlp_ratio", "downsamples", "down_patch_size", "drop_path_rate", "drop_mlp_rate",
               "drop_conv_encoder_rate", "use_layer_scale", "layer_scale_init_value"});
  c.ignore_containing(".attn.w_g");
  Var x = net.pixels();
  for (const int i : {0, 3}) {
    const std::string name = "patch_embed.patch_embedding.";
    Conv conv = m.normed(name + std::to_string(i), name + std::to_string(i + 1));
    conv.stride = 2, conv.activation.kind = format::UnaryKind::relu;
    x = net.conv(x, conv);
  }
  int at = 0;
  for (const int64_t depth : depths) {
    const std::string stage = "encoder.network." + std::to_string(at++) + ".blocks.";
    for (int64_t i = 0; i < depth; ++i) {
      const std::string name = stage + std::to_string(i) + ".";
      x = i + 1 < depth ? m.local(x, name) : m.block(x, name);
    }
    const std::string down = "encoder.network." + std::to_string(at) + ".";
    if (!net.has(down + "proj.weight")) continue;
    Conv conv = m.normed(down + "proj", down + "norm");
    conv.stride = stride, conv.before = conv.behind = padding;
    x = net.conv(x, conv);
    ++at;
  }
  const std::string name = class_of(c, "SwiftFormer");
  if (name == "ForImageClassification") {
    const Var pooled = net.mean_of_places(net.batch_norm(x, "/norm", m.eps));
    if (!net.has("/head.weight")) return net.give(pooled, "logits");
    return net.give(net.scale(net.add(net.linear(pooled, "/head"), net.linear(pooled, "/dist_head")), 0.5), "logits");
  }
  if (name != "Model") f.refuse("architectures", "names SwiftFormer" + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
}

}  // namespace

extern const Recipe swiftformer_recipe;
const Recipe swiftformer_recipe = {"swiftformer", {}, {"swiftformer"}, build};

}  // namespace runnel::convert
