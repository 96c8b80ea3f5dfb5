// Plain encoders with heads that give an image: ViTPose's heat maps and Depth Anything's distances.
#include "converter/recipes/decoder.h"
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

// An image `stride` times as large: a transposed convolution whose kernel and padding are such. Each place gives
// stride * stride places, made of it and of its neighbours as far as the kernel reaches.
Var enlarged(VisionNet& net, const Var& x, const std::string& name, int64_t kernel, int64_t stride, int64_t pad,
             const std::string& norm = "") {
  const int64_t in = x.dims[2], reach = pad > 0 ? 1 : 0, side = 2 * reach + 1, places = stride * stride;
  const int64_t out = int64_t(net.find(name + ".weight").shape.at(1));
  const std::vector<float> weight = net.values(name + ".weight", {in, out, kernel, kernel});
  std::vector<float> bias = net.has(name + ".bias") ? net.values(name + ".bias", {out}) : std::vector<float>();
  BatchNorm a = {std::vector<double>(size_t(out), 1), std::vector<double>(size_t(out))};
  if (!norm.empty()) a = net.batch_norm_of(norm, out, 1e-5);
  bias.resize(size_t(out));
  std::vector<float> turned(size_t(places * out * in * side * side)), added(size_t(places * out));
  for (int64_t place = 0; place < places; ++place)
    for (int64_t o = 0; o < out; ++o) {
      added[size_t(place * out + o)] = float(double(bias[size_t(o)]) * a.factor[size_t(o)] + a.shift[size_t(o)]);
      for (int64_t i = 0; i < in * side * side; ++i) {
        const int64_t row = place / stride + pad - stride * (i / side % side - reach),
                      column = place % stride + pad - stride * (i % side - reach), channel = i / (side * side);
        if (row < 0 || row >= kernel || column < 0 || column >= kernel) continue;
        turned[size_t((place * out + o) * in * side * side + i)] =
            float(double(weight[size_t(((channel * out + o) * kernel + row) * kernel + column)]) * a.factor[size_t(o)]);
      }
    }
  const Var y = net.conv_with(x, name, turned, added, places * out, square(side, 1, reach));
  const Var split = net.reshape(y, {x.dims[0], x.dims[1], stride, stride, out});
  return net.reshape(net.transposed(split, {0, 1, 3, 2, 4, 5}), {x.dims[0] * stride, x.dims[1] * stride, out});
}

Var relu(VisionNet& net, const Var& x) { return net.unary(UnaryKind::relu, x); }

Facts backbone_facts(const Facts& f, const std::string& type, const Json& defaults) {
  const std::optional<Facts> own = f.inside("backbone_config");
  if (!own) f.refuse("backbone_config", "is missing");
  if (own->text("model_type", type) != type) f.refuse("backbone_config", "is none of " + type);
  return own->with_defaults(defaults);
}

// Numbers of layers, in their order, whose tokens the head sees.
std::vector<int64_t> taps_of(const Facts& own, int64_t layers) {
  const Json* list = own.find("out_indices");
  if (!list || !list->is_array() || list->empty()) own.refuse("out_indices", "is no list of layers");
  const std::vector<int64_t> taps = own.integers("out_indices", list->size(), 1, layers);
  for (size_t i = 1; i < taps.size(); ++i)
    if (taps[i] <= taps[i - 1]) own.refuse("out_indices", "is not in order");
  return taps;
}

VisionEncoder vitpose_encoder(const Checkpoint& c, const Facts& own) {
  VisionEncoder e = vit_like(c, own, "backbone.");
  if (own.integer("num_experts", 1, 4096, 1) != 1)
    own.refuse("num_experts", "is not 1: experts by data set are not supported");
  own.pass_over({"mlp_ratio", "part_features", "out_features", "stage_names"});
  e.patch_pad = 2;
  e.adds_first_position = true;
  e.up = "mlp.fc1", e.down = "mlp.fc2", e.last_norm.clear();
  return e;
}

void build_vitpose(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Facts own = backbone_facts(f, "vitpose_backbone",
                                   {{"image_size", {256, 192}},
                                    {"patch_size", {16, 16}},
                                    {"hidden_size", 768},
                                    {"num_hidden_layers", 12},
                                    {"num_attention_heads", 12}});
  if (const std::string name = class_of(c, "VitPose"); name != "ForPoseEstimation") refuse_class(f, name);
  VisionEncoder e = vitpose_encoder(c, own);
  if (taps_of(own, e.layers).back() != e.layers) own.refuse("out_indices", "does not end with the last layer");
  VisionNet net(c, b, e.naming);
  const Var tokens = net.norm(encode_image(net, e), "layernorm", e.eps);
  Var x = net.reshape(tokens, {e.rows(), e.columns(), e.hidden});
  if (f.boolean("use_simple_decoder", true)) {
    const int64_t factor = f.integer("scale_factor", 1, 64, 4);
    x = net.stretched(relu(net, x), x.dims[0] * factor, x.dims[1] * factor);
    x = net.conv(x, "/head.conv", square(3, 1, 1));
  } else {
    f.pass_over({"scale_factor"});
    for (const char* number : {"1", "2"})
      x = relu(net, enlarged(net, x, std::string("/head.deconv") + number, 4, 2, 1,
                             std::string("/head.batchnorm") + number));
    x = net.conv(x, "/head.conv", square(1, 1));
  }
  net.give_image(x, "heatmaps");
}

// A layer's tokens as an image of a size and a width of its own.
Var reassembled(VisionNet& net, const VisionEncoder& e, const Facts& f, size_t i, double factor, const Var& tokens) {
  const std::string p = "/neck.reassemble_stage.layers." + std::to_string(i) + ".";
  const int64_t n = e.rows() * e.columns();
  Var x = net.reshape(net.slice(tokens, 1, tokens.dims[0] - n, n), {e.rows(), e.columns(), e.hidden});
  x = net.conv(x, p + "projection", square(1, 1));
  const double step = factor < 1 ? 1 / factor : factor;
  if (!(step >= 1 && step <= 64)) f.refuse("reassemble_factors", "has a factor that is not between 1/64 and 64");
  if (factor > 1) {
    if (double(int64_t(factor)) != factor) f.refuse("reassemble_factors", "has a factor that is no whole number");
    x = enlarged(net, x, p + "resize", int64_t(factor), int64_t(factor), 0);
  }
  if (factor < 1) x = net.conv(x, p + "resize", square(3, int64_t(step), 1));
  return net.conv(x, "/neck.convs." + std::to_string(i), square(3, 1, 1));
}

Var residual(VisionNet& net, const std::string& p, const Var& x) {
  const Var y = net.conv(relu(net, x), p + "convolution1", square(3, 1, 1));
  return net.add(x, net.conv(relu(net, y), p + "convolution2", square(3, 1, 1)));
}

// From the last image to the first, each added to what came of those behind it.
Var fused(VisionNet& net, const std::vector<Var>& images) {
  Var x;
  for (size_t k = 0; k < images.size(); ++k) {
    const Var& own = images[images.size() - 1 - k];
    const std::string p = "/neck.fusion_stage.layers." + std::to_string(k) + ".";
    if (k == 0) x = own;
    else x = net.add(x, residual(net, p + "residual_layer1.", net.stretched(own, x.dims[0], x.dims[1])));
    x = residual(net, p + "residual_layer2.", x);
    if (k + 1 < images.size()) {
      const Var& next = images[images.size() - 2 - k];
      x = net.stretched(x, next.dims[0], next.dims[1], true);
    } else {
      x = net.stretched(x, 2 * x.dims[0], 2 * x.dims[1], true);
    }
    x = net.conv(x, p + "projection", square(1, 1));
  }
  return x;
}

void build_depth_anything(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Facts own = backbone_facts(
      f, "dinov2", {{"image_size", 224}, {"hidden_size", 768}, {"num_hidden_layers", 12}, {"num_attention_heads", 12}});
  if (const std::string name = class_of(c, "DepthAnything"); name != "ForDepthEstimation") refuse_class(f, name);
  VisionEncoder e = dinov2_encoder(c, own, "backbone.");
  const std::vector<int64_t> taps = taps_of(own, e.layers);
  if (taps.back() != e.layers) own.refuse("out_indices", "does not end with the last layer");
  if (f.integer("patch_size", 1, 1 << 14, 14) != e.patch[0]) f.refuse("patch_size", "is not that of backbone_config");
  f.expect("head_in_index", -1);
  f.pass_over({"reassemble_hidden_size", "neck_hidden_sizes", "fusion_hidden_size", "head_hidden_size"});
  const std::string kind = f.text("depth_estimation_type", "relative");
  if (kind != "relative" && kind != "metric") f.refuse("depth_estimation_type", "is neither relative nor metric");
  const Json* factors = f.find("reassemble_factors");
  const Json usual = {4, 2, 1, 0.5}, list = factors ? *factors : usual;
  if (!list.is_array() || list.size() != taps.size())
    f.refuse("reassemble_factors", "is no list as long as out_indices");
  e.last_norm.clear();
  const bool is_normed = own.boolean("apply_layernorm", true);
  if (!is_normed) c.ignore_containing("backbone.layernorm.");
  VisionNet net(c, b, e.naming);
  std::vector<Var> images;
  encode_image(net, e, taps, &images);
  for (size_t i = 0; i < images.size(); ++i) {
    if (!list[i].is_number()) f.refuse("reassemble_factors", "holds what is no number");
    if (is_normed) images[i] = net.norm(images[i], "layernorm", e.eps);
    images[i] = reassembled(net, e, f, i, list[i].get<double>(), images[i]);
  }
  Var x = net.conv(fused(net, images), "/head.conv1", square(3, 1, 1));
  x = net.stretched(x, e.rows() * e.patch[0], e.columns() * e.patch[1], true);
  x = net.conv(relu(net, net.conv(x, "/head.conv2", square(3, 1, 1))), "/head.conv3", square(1, 1));
  x = net.unary(kind == "relative" ? UnaryKind::relu : UnaryKind::sigmoid, x);
  net.give(net.scale(net.reshape(x, {x.dims[0], x.dims[1]}), f.number("max_depth", 1)), "predicted_depth");
  c.ignore_containing("mask_token");
  c.ignore_containing("neck.fusion_stage.layers.0.residual_layer1.");  // nothing comes before the first
}

}  // namespace

extern const Recipe vitpose_recipe;
const Recipe vitpose_recipe = {"vitpose", {}, {"vitpose"}, build_vitpose};
extern const Recipe depth_anything_recipe;
const Recipe depth_anything_recipe = {"depth_anything", {}, {"depth_anything"}, build_depth_anything};

}  // namespace runnel::convert
