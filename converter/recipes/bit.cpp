// BiT: residual layers whose filters are standardised and whose norms are of groups.
#include <cmath>

#include "converter/recipes/conv_net.h"

namespace runnel::convert {
namespace {

// Each filter less its mean, over its standard deviation.
void standardise(std::vector<float>* weights, int64_t filters) {
  constexpr double kEps = 1e-8;
  const size_t each = weights->size() / size_t(filters);
  for (auto begin = weights->begin(); begin != weights->end(); begin += long(each)) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < each; ++i) sum += double(begin[long(i)]);
    const double mean = sum / double(each);
    for (size_t i = 0; i < each; ++i) squares += std::pow(double(begin[long(i)]) - mean, 2);
    const double factor = 1 / std::sqrt(squares / double(each) + kEps);
    for (size_t i = 0; i < each; ++i) begin[long(i)] = float((double(begin[long(i)]) - mean) * factor);
  }
}

struct Bit {
  ConvNet& net;
  Activation act;
  int64_t groups;

  Var conv(const Var& x, const std::string& name, int64_t stride = 1, int64_t dilation = 1) const {
    const SourceTensor& t = net.find(name + ".weight");
    const std::vector<int64_t> shape(t.shape.begin(), t.shape.end());
    if (shape.size() != 4) fail("tensor \"%s\" is no weight of a convolution over images", t.describe().c_str());
    std::vector<float> weights = net.values(name + ".weight", shape);
    standardise(&weights, shape[0]);
    return net.conv_of(x, {name, "", stride, {}, 0, 1, dilation}, weights, shape, {});
  }
  Var norm(const Var& x, const std::string& name, bool is_active = true) const {
    const Var y = net.group_norm(x, name, groups);
    return is_active ? net.act(y, act) : y;
  }
  // Norms stand before the convolutions.
  Var early(const Var& x, const std::string& name, int64_t stride) const {
    const Var first = norm(x, name + "norm1");
    const bool is_changed = net.has(name + "downsample.conv.weight");
    const Var shortcut = is_changed ? conv(first, name + "downsample.conv", stride) : x;
    Var y = conv(first, name + "conv1");
    y = conv(norm(y, name + "norm2"), name + "conv2", stride);
    return net.add(conv(norm(y, name + "norm3"), name + "conv3"), shortcut);
  }
  // Norms stand behind them.
  Var late(const Var& x, const std::string& name, int64_t stride, int64_t dilation) const {
    const std::string down = name + "downsample.";
    const bool is_changed = net.has(down + "conv.weight");
    const Var shortcut = is_changed ? norm(conv(x, down + "conv", stride), down + "norm", false) : x;
    Var y = norm(conv(x, name + "conv1"), name + "norm1");
    y = norm(conv(y, name + "conv2", stride, dilation), name + "norm2");
    y = norm(conv(y, name + "conv3"), name + "norm3", false);
    return net.act(net.add(y, shortcut), act);
  }
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  ConvNet net(c, b, {"bit.", "", {}}, f);
  const Bit m{net, image_activation(f, "hidden_act", "relu"), f.integer("num_groups", 1, 1 << 20, 32)};
  const std::string type = f.text("layer_type", "preactivation");
  const bool is_early = type == "preactivation";
  if (!is_early && type != "bottleneck") f.refuse("layer_type", "is \"" + printable(type) + "\"");
  if (f.has("global_padding")) f.refuse("global_padding", "is not supported");
  if (f.boolean("embedding_dynamic_padding", false)) f.refuse("embedding_dynamic_padding", "is not supported");
  const int64_t most_stride = f.integer("output_stride", 1, 1024, 32);
  const Facts known = f.with_defaults({{"depths", {3, 4, 6, 3}}});
  const std::vector<int64_t> depths = known.integers("depths", known.tree().at("depths").size(), 1, 4096);
  f.pass_over({"embedding_size", "hidden_sizes", "drop_path_rate", "width_factor", "out_features", "out_indices",
               "stage_names"});
  Var x = net.ringed(m.conv(net.pixels(), "embedder.convolution", 2));
  if (!is_early) x = m.norm(x, "embedder.norm");
  x = net.pool(format::PoolKind::max, x, {3, 2});
  int64_t stride_so_far = 4, dilation = 1;
  for (size_t s = 0; s < depths.size(); ++s) {
    int64_t stride = s > 0 ? 2 : 1;
    if (stride_so_far >= most_stride) dilation *= stride, stride = 1;
    stride_so_far *= stride;
    for (int64_t i = 0; i < depths[s]; ++i) {
      const std::string name = "encoder.stages." + std::to_string(s) + ".layers." + std::to_string(i) + ".";
      const int64_t own_stride = i == 0 ? stride : 1, own_dilation = i > 0 ? dilation : dilation <= 2 ? 1 : 2;
      x = is_early ? m.early(x, name, own_stride) : m.late(x, name, own_stride, own_dilation);
    }
  }
  if (is_early) x = m.norm(x, "norm");
  const Var pooled = net.mean_of_places(x);
  const std::string name = class_of(c, "Bit");
  if (name == "ForImageClassification") return net.classify(pooled, "/classifier.1");
  if (name != "Model") f.refuse("architectures", "names Bit" + name + ", which is not supported");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output", 2);
}

}  // namespace

extern const Recipe bit_recipe;
const Recipe bit_recipe = {"bit", {}, {"bit"}, build};

}  // namespace runnel::convert
