// MobileViT: inverted residuals, and between them transformers over the pixels that stand in the same place of each
// patch. Its second version scores pixels by one query and has no products of queries with keys.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

struct MobileVit {
  bool is_second = false;
  UnaryKind activation = UnaryKind::silu;
  int64_t patch = 2, heads = 4, kernel = 3;
  double eps = 1e-5;
};

// A convolution and its batch norm.
Var step(VisionNet& net, const Var& x, const std::string& name, Window w, UnaryKind activation) {
  w.activation = activation;
  w.pad = (w.kernel[0] - 1) / 2 * w.dilation;
  if (!net.has(name + ".normalization.weight")) return net.conv(x, name + ".convolution", w);
  return net.conv_norm(x, name + ".convolution", name + ".normalization", 1e-5, w);
}

Var residual(VisionNet& net, const MobileVit& m, const std::string& p, const Var& x, int64_t stride,
             int64_t dilation = 1) {
  const Var wide = step(net, x, p + "expand_1x1", square(1, 1), m.activation);
  Window w = square(3, stride, 0, wide.dims[2]);
  w.dilation = dilation;
  const Var y =
      step(net, step(net, wide, p + "conv_3x3", w, m.activation), p + "reduce_1x1", square(1, 1), UnaryKind::none);
  return stride == 1 && x.dims[2] == y.dims[2] ? net.add(x, y) : y;
}

Var transformer(VisionNet& net, const MobileVit& m, const std::string& p, const Var& x) {
  const int64_t n = x.dims[0], width = x.dims[1], head = width / m.heads;
  std::vector<Var> qkv =
      net.linears(net.norm(x, p + "layernorm_before", m.eps),
                  {p + "attention.attention.query", p + "attention.attention.key", p + "attention.attention.value"});
  for (Var& part : qkv) part = net.reshape(part, {n, m.heads, head});
  const Var y = net.add(
      net.linear(net.attend(qkv[0], qkv[1], qkv[2], 1 / std::sqrt(double(head))), p + "attention.output.dense"), x);
  const Var z =
      net.unary(m.activation, net.linear(net.norm(y, p + "layernorm_after", m.eps), p + "intermediate.dense"));
  return net.add(net.linear(z, p + "output.dense"), y);
}

// A group norm with one group: over all of an image.
Var norm_of_image(VisionNet& net, const MobileVit& m, const std::string& name, const Var& x) {
  const int64_t n = x.dims.back();
  format::GroupNormAttrsT attrs;
  attrs.groups = 1, attrs.eps = float(m.eps);
  return net.op("group_norm",
                {x.name, net.constant(name + ".weight", net.values(name + ".weight", {n}), {n}),
                 net.constant(name + ".bias", net.values(name + ".bias", {n}), {n})},
                x.axis, x.dims, {}, attrs);
}

// [places in a patch, patches, width]: one query a pixel, its softmax over patches weighs the keys, whose sum
// multiplies the values.
Var linear_transformer(VisionNet& net, const MobileVit& m, const std::string& p, const Var& x) {
  const int64_t width = x.dims[2], places = x.dims[0], patches = x.dims[1];
  const Var normed = norm_of_image(net, m, p + "layernorm_before", x);
  const std::string name = p + "attention.qkv_proj.convolution.";
  SourceTensor weight = net.take(name + "weight", {1 + 2 * width, width, 1, 1});
  weight.shape = {uint64_t(1 + 2 * width), uint64_t(width)};
  std::vector<Var> qkv;
  const std::vector<float> bias =
      net.has(name + "bias") ? net.values(name + "bias", {1 + 2 * width}) : std::vector<float>();
  int64_t first = 0;
  for (int64_t rows : {int64_t(1), width, width}) {
    const std::string part = "[" + std::to_string(first) + "]";
    std::string own;
    if (!bias.empty())
      own = net.constant(name + "bias" + part, {bias.begin() + first, bias.begin() + first + rows}, {rows});
    qkv.push_back(net.times(normed, net.matrix(name + "weight" + part, net.rows_of(weight, first, rows)), own, {rows}));
    first += rows;
  }
  const Var scores = net.reshape(qkv[0], {places, 1, patches});
  const Var weights = net.op("softmax", {scores.name}, x.axis, scores.dims, {}, format::SoftmaxAttrsT());
  const Var context =
      net.op("batch_matmul", {weights.name, qkv[1].name}, x.axis, {places, 1, width}, {}, format::BatchMatmulAttrsT());
  const Var seen = net.mul(net.unary(UnaryKind::relu, qkv[2]), context);
  const auto dense = [&](const Var& y, const std::string& at) {
    return net.conv(y, at + ".convolution", square(1, 1));
  };
  const Var y = net.add(x, dense(seen, p + "attention.out_proj"));
  const Var z = net.unary(m.activation, dense(norm_of_image(net, m, p + "layernorm_after", y), p + "ffn.conv1"));
  return net.add(y, dense(z, p + "ffn.conv2"));
}

// Layers numbered from 0 for as long as the source has them.
template <class Each>
void each_layer(VisionNet& net, const std::string& p, const std::string& tensor, Each each) {
  for (int64_t i = 0; net.has(p + std::to_string(i) + "." + tensor); ++i) each(p + std::to_string(i) + ".");
}

Var mixed(VisionNet& net, const MobileVit& m, const std::string& p, const Var& x) {
  // What patches do not fill: the first version stretches the image, the second leaves the last pixels out, as zeros.
  const int64_t more = m.is_second ? 0 : m.patch - 1, rows = (x.dims[0] + more) / m.patch,
                columns = (x.dims[1] + more) / m.patch, width = x.dims[2], places = m.patch * m.patch,
                n = rows * columns;
  const Var whole = m.is_second ? net.cropped(x, rows * m.patch, columns * m.patch)
                                : net.stretched(x, rows * m.patch, columns * m.patch);
  Var y = net.transposed(net.reshape(whole, {rows, m.patch, columns, m.patch, width}), {0, 2, 4, 1, 3, 5});
  if (m.is_second) {
    y = net.reshape(y, {places, n, width});
    each_layer(net, p + "transformer.layer.", "layernorm_before.weight",
               [&](const std::string& layer) { y = linear_transformer(net, m, layer, y); });
    y = norm_of_image(net, m, p + "layernorm", y);
  } else {
    y = net.shaped(y, x.axis + "*" + std::to_string(places), {n, width});
    each_layer(net, p + "transformer.layer.", "layernorm_before.weight",
               [&](const std::string& layer) { y = transformer(net, m, layer, y); });
    y = net.norm(y, p + "layernorm", m.eps);
  }
  y = net.transposed(net.shaped(y, x.axis, {m.patch, m.patch, rows, columns, width}), {0, 3, 1, 4, 2, 5});
  y = net.reshape(y, {rows * m.patch, columns * m.patch, width});
  return m.is_second ? net.padded(y, x.dims[0], x.dims[1]) : net.stretched(y, x.dims[0], x.dims[1]);
}

Var stage(VisionNet& net, const MobileVit& m, const std::string& p, Var x, int64_t dilation) {
  if (net.has(p + "downsampling_layer.expand_1x1.convolution.weight"))
    x = residual(net, m, p + "downsampling_layer.", x, dilation == 1 ? 2 : 1, dilation > 1 ? dilation / 2 : 1);
  Window w = square(m.kernel, 1);
  if (m.is_second) w.groups = x.dims[2];
  Var y = step(net, step(net, x, p + "conv_kxk", w, m.activation), p + "conv_1x1", square(1, 1), UnaryKind::none);
  y = mixed(net, m, p, y);
  y = step(net, y, p + "conv_projection", square(1, 1), m.is_second ? UnaryKind::none : m.activation);
  if (m.is_second) return y;
  return step(net, net.concat({x, y}, 3), p + "fusion", square(m.kernel, 1), m.activation);
}

Var encoded(VisionNet& net, const MobileVit& m, const Facts& f, const Image& image) {
  Var x = step(net, net.pixels(image), "conv_stem", square(3, 2), m.activation);
  const int64_t stride = f.integer("output_stride", 8, 32, 32);
  int64_t dilation = 1;
  for (int64_t i = 0; i < 5; ++i) {
    const std::string p = "encoder.layer." + std::to_string(i) + ".";
    if (i < 2) {
      each_layer(net, p + "layer.", "expand_1x1.convolution.weight", [&](const std::string& layer) {
        x = residual(net, m, layer, x, i == 1 && layer == p + "layer.0." ? 2 : 1);
      });
      continue;
    }
    if ((i == 3 && stride == 8) || (i == 4 && stride <= 16)) dilation *= 2;
    x = stage(net, m, p, x, dilation);
  }
  return x;
}

// DeepLab's head: convolutions with several dilations and the mean of the image.
Var segments(VisionNet& net, const Facts& f, const Var& x) {
  const std::string p = "/segmentation_head.";
  const std::vector<int64_t> rates = f.integers("atrous_rates", 3, 1, 4096);
  std::vector<Var> parts = {step(net, x, p + "aspp.convs.0", square(1, 1), UnaryKind::relu)};
  for (size_t i = 0; i < rates.size(); ++i) {
    Window w = square(3, 1);
    w.dilation = rates[i];
    parts.push_back(step(net, x, p + "aspp.convs." + std::to_string(i + 1), w, UnaryKind::relu));
  }
  const Var mean = net.reshape(net.mean(net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]}), 1), {1, 1, x.dims[2]});
  const Var all = step(net, mean, p + "aspp.convs.4.conv_1x1", square(1, 1), UnaryKind::relu);
  parts.push_back(net.op("expand", {all.name}, x.axis, {x.dims[0], x.dims[1], all.dims[2]}));
  const Var y = step(net, net.concat(parts, 3), p + "aspp.project", square(1, 1), UnaryKind::relu);
  return step(net, y, p + "classifier", square(1, 1), UnaryKind::none);
}

void build_mobilevit(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  MobileVit m;
  m.is_second = f.text("model_type", "mobilevit") == "mobilevitv2";
  m.activation = activation_named(f, "hidden_act", "silu");
  m.patch = f.integer("patch_size", 1, 64, 2);
  m.kernel = f.integer("conv_kernel_size", 1, 63, 3);
  m.eps = f.number("layer_norm_eps", 1e-5);
  if (!m.is_second) m.heads = f.integer("num_attention_heads", 1, 65536, 4);
  f.pass_over({"hidden_sizes", "neck_hidden_sizes", "mlp_ratio", "expand_ratio", "qkv_bias", "aspp_out_channels",
               "atrous_rates", "semantic_loss_ignore_index", "n_attn_blocks", "base_attn_unit_dims", "width_multiplier",
               "ffn_multiplier"});
  const std::string name = class_of(c, m.is_second ? "MobileViTV2" : "MobileViT");
  VisionNet net(c, b, {m.is_second ? "mobilevitv2." : "mobilevit.", "", {}});
  Var x = encoded(net, m, f, image_of(c, f));
  if (name == "ForSemanticSegmentation") return net.give_image(segments(net, f, x), "logits");
  if (!m.is_second) x = step(net, x, "conv_1x1_exp", square(1, 1), m.activation);
  const Var pooled = net.mean(net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]}), 1);
  net.give_usual(f, name, x, pooled);
}

}  // namespace

extern const Recipe mobilevit_recipe;
const Recipe mobilevit_recipe = {"mobilevit", {}, {"mobilevit", "mobilevitv2"}, build_mobilevit};

}  // namespace runnel::convert
