// PoolFormer: the mean of each place's neighbours stands where a transformer has attention.
#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"poolformer.", "", {}}, f);
  const Activation act = image_activation(f, "hidden_act", "gelu");
  const Facts known = f.with_defaults({{"depths", {2, 2, 6, 2}}, {"strides", {4, 2, 2, 2}}, {"padding", {2, 1, 1, 1}}});
  const size_t stages = size_t(f.integer("num_encoder_blocks", 1, 64, 4));
  const std::vector<int64_t> depths = known.integers("depths", stages), strides = known.integers("strides", stages),
                             padding = known.integers("padding", stages, 0);
  const int64_t side = f.integer("pool_size", 1, 63, 3);
  if (side % 2 == 0) f.refuse("pool_size", "is even");
  f.pass_over({"stride", "patch_size", "patch_sizes", "mlp_ratio", "hidden_sizes", "drop_path_rate", "use_layer_scale",
               "layer_scale_init_value"});
  const auto scaled = [&](const Var& y, const std::string& factor) {
    return net.has(factor) ? net.binary(format::BinaryKind::mul, y, net.as_numbers(factor, y.dims.back())) : y;
  };
  Var x = net.pixels();
  for (size_t s = 0; s < stages; ++s) {
    Conv patches{"encoder.patch_embeddings." + std::to_string(s) + ".projection", "", strides[s]};
    patches.before = patches.behind = padding[s];
    x = net.conv(x, patches);
    for (int64_t i = 0; i < depths[s]; ++i) {
      const std::string name = "encoder.block." + std::to_string(s) + "." + std::to_string(i) + ".";
      Var y = net.group_norm(x, name + "before_norm", 1);
      y = net.binary(format::BinaryKind::sub, net.pool(format::PoolKind::average, y, {side, 1, side / 2}), y);
      x = net.add(x, scaled(y, name + "layer_scale_1"));
      y = net.conv(net.group_norm(x, name + "after_norm", 1), {name + "output.conv1", "", 1, act});
      x = net.add(x, scaled(net.conv(y, {name + "output.conv2"}), name + "layer_scale_2"));
    }
  }
  const std::string name = class_of(c, "PoolFormer");
  if (name == "ForImageClassification") return net.classify(net.mean_of_places(net.group_norm(x, "/norm", 1)));
  if (name != "Model") f.refuse("architectures", "names PoolFormer" + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
}

}  // namespace

extern const Recipe poolformer_recipe;
const Recipe poolformer_recipe = {"poolformer", {}, {"poolformer"}, build};

}  // namespace runnel::convert
