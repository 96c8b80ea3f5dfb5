// Pyramids of stages whose keys and values come from an image made smaller: SegFormer with its head for segments, GLPN
// (arXiv 2201.07436), which adds one for depth, PVT v2.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

struct PyramidNames {
  std::string patches, block, norm;  // {} stands for the stage
  std::string q, k, v, o, smaller, smaller_norm;
};

const PyramidNames kSegformer = {"encoder.patch_embeddings.{}.", "encoder.block.{}.",  "encoder.layer_norm.{}",
                                 "attention.self.query",         "attention.self.key", "attention.self.value",
                                 "attention.output.dense",       "attention.self.sr",  "attention.self.layer_norm"};
const PyramidNames kPvt = {"encoder.layers.{}.patch_embedding.",
                           "encoder.layers.{}.blocks.",
                           "encoder.layers.{}.layer_norm",
                           "attention.query",
                           "attention.key",
                           "attention.value",
                           "attention.proj",
                           "attention.spatial_reduction",
                           "attention.layer_norm"};

struct Pyramid {
  PyramidNames names;
  size_t stages = 0;
  std::vector<int64_t> depths, ratios, kernels, strides, heads;
  double eps = 1e-5;
  bool is_linear = false;  // keys and values of 7 x 7 means, whatever the image
  format::UnaryKind activation = format::UnaryKind::gelu;
};

std::string of_stage(const std::string& name, size_t stage) {
  const size_t at = name.find("{}");
  return name.substr(0, at) + std::to_string(stage) + name.substr(at + 2);
}

Pyramid pyramid_of(const Facts& f, bool is_segformer) {
  Pyramid p;
  p.names = is_segformer ? kSegformer : kPvt;
  p.stages = size_t(f.integer("num_encoder_blocks", 1, 16, 4));
  p.depths = f.integers("depths", p.stages, 1, 4096);
  p.ratios = f.integers("sr_ratios", p.stages, 1, 4096);
  p.kernels = f.integers("patch_sizes", p.stages, 1, 4096);
  p.strides = f.integers("strides", p.stages, 1, 4096);
  p.heads = f.integers("num_attention_heads", p.stages, 1, 65536);
  p.eps = is_segformer ? 1e-5 : f.number("layer_norm_eps", 1e-6);  // SegFormer's and GLPN's code do not read theirs
  p.activation = activation_named(f, "hidden_act", "gelu");
  p.is_linear = !is_segformer && f.boolean("linear_attention", false);
  f.pass_over({"layer_norm_eps", "hidden_sizes", "mlp_ratios", "drop_path_rate", "decoder_hidden_size", "qkv_bias",
               "semantic_loss_ignore_index", "out_features", "out_indices", "stage_names", "downsampling_rates"});
  return p;
}

// What keys and values are made of.
Var smaller(VisionNet& net, const Pyramid& p, size_t stage, const std::string& block, const Var& x) {
  constexpr int64_t kMeans = 7;
  const int64_t ratio = p.ratios[stage];
  if (!p.is_linear && ratio == 1) return x;
  const std::string name = block + p.names.smaller, norm = block + p.names.smaller_norm;
  if (!p.is_linear) return net.norm(net.conv(x, name, square(ratio, ratio)), norm, p.eps);
  const Var means = net.resampled(x, {kMeans, x.dims[0], mean_weights(kMeans, x.dims[0])},
                                  {kMeans, x.dims[1], mean_weights(kMeans, x.dims[1])});
  return net.unary(format::UnaryKind::gelu, net.norm(net.conv(means, name, square(1, 1)), norm, p.eps));
}

Var block(VisionNet& net, const Pyramid& p, size_t stage, const std::string& name, const Var& image) {
  const int64_t n = image.dims[0] * image.dims[1], width = image.dims[2], heads = p.heads[stage], head = width / heads;
  const Var x = net.norm(image, name + "layer_norm_1", p.eps), small = smaller(net, p, stage, name, x);
  const int64_t m = small.dims[0] * small.dims[1];
  const Var q = net.reshape(net.linear(x, name + p.names.q), {n, heads, head});
  std::vector<Var> kv = net.linears(small, {name + p.names.k, name + p.names.v});
  for (Var& part : kv) part = net.reshape(part, {m, heads, head});
  const Var y = net.linear(net.attend(q, kv[0], kv[1], 1 / std::sqrt(double(head))), name + p.names.o);
  const Var middle = net.add(image, net.reshape(y, image.dims));
  Var z = net.linear(net.norm(middle, name + "layer_norm_2", p.eps), name + "mlp.dense1");
  if (p.is_linear) z = net.unary(format::UnaryKind::relu, z);
  z = net.conv(z, name + "mlp.dwconv.dwconv", square(3, 1, 1, z.dims[2]));
  return net.add(middle, net.linear(net.unary(p.activation, z), name + "mlp.dense2"));
}

// The images that the stages give.
std::vector<Var> stages_of(VisionNet& net, const Pyramid& p, const Facts& f, const Image& image) {
  std::vector<Var> out;
  Var x = net.pixels(image);
  for (size_t i = 0; i < p.stages; ++i) {
    const std::string patches = of_stage(p.names.patches, i);
    x = net.conv(x, patches + "proj", square(p.kernels[i], p.strides[i], p.kernels[i] / 2));
    x = net.norm(x, patches + "layer_norm", p.eps);
    if (x.dims[2] % p.heads[i])
      f.refuse("num_attention_heads", "does not divide the width of stage " + std::to_string(i + 1));
    for (int64_t k = 0; k < p.depths[i]; ++k)
      x = block(net, p, i, of_stage(p.names.block, i) + std::to_string(k) + ".", x);
    x = net.norm(x, of_stage(p.names.norm, i), p.eps);
    out.push_back(x);
  }
  return out;
}

// Each pixel of the first stage by all stages, stretched to its size.
Var segments(VisionNet& net, const std::vector<Var>& stages) {
  std::vector<Var> parts;
  for (size_t i = stages.size(); i-- > 0;)
    parts.push_back(net.stretched(net.linear(stages[i], "/decode_head.linear_c." + std::to_string(i) + ".proj"),
                                  stages[0].dims[0], stages[0].dims[1]));
  Window window = square(1, 1);
  window.activation = format::UnaryKind::relu;
  const Var y =
      net.conv_norm(net.concat(parts, 3), "/decode_head.linear_fuse", "/decode_head.batch_norm", 1e-5, window);
  return net.conv(y, "/decode_head.classifier", square(1, 1));
}

// GLPN's mixture of a stage and of what the stages behind it gave: each place weighs the two.
Var fused(VisionNet& net, const std::string& p, const Var& own, const Var& behind) {
  Window window = square(3, 1, 1);
  window.activation = format::UnaryKind::relu;
  Var y = net.concat({own, behind}, 3);
  for (const char* part : {"1", "2"}) {
    const std::string name = p + "convolutional_layer" + part;
    y = net.conv_norm(y, name + ".0", name + ".1", 1e-5, window);
  }
  window.activation = format::UnaryKind::sigmoid;
  const Var weights = net.conv(y, p + "convolutional_layer3", window);
  return net.add(net.mul(own, net.slice(weights, 3, 0, 1)), net.mul(behind, net.slice(weights, 3, 1, 1)));
}

// The depth of each place, half of the first stage's steps apart.
Var depth(VisionNet& net, const Facts& f, const std::vector<Var>& stages) {
  const int64_t count = int64_t(stages.size()), read = f.integer("head_in_index", -1, count - 1, -1);
  if (read != -1 && read != count - 1) f.refuse("head_in_index", "is not the last, which is not supported");
  const auto twice = [&](const Var& x) { return net.stretched(x, 2 * x.dims[0], 2 * x.dims[1]); };
  Var x;
  for (size_t i = stages.size(); i-- > 0;) {
    const std::string p = "/decoder.stages." + std::to_string(stages.size() - 1 - i) + ".";
    const bool is_wider = net.has(p + "convolution.weight");
    Var y = is_wider ? net.conv(stages[i], p + "convolution", square(1, 1)) : stages[i];
    if (!x.name.empty()) {
      if (x.dims[0] != y.dims[0] || x.dims[1] != y.dims[1])
        fail("%s: the image's sides are no multiples of all strides together, which the head for depth needs",
             net.checkpoint().path.c_str());
      y = fused(net, p + "fusion.", y, x);
    }
    x = twice(y);
  }
  Window window = square(3, 1, 1);
  window.activation = format::UnaryKind::relu;
  x = net.conv(twice(x), "/head.head.0", window);
  window.activation = format::UnaryKind::sigmoid;
  x = net.scale(net.conv(x, "/head.head.2", window), f.number("max_depth", 10));
  return net.reshape(x, {x.dims[0], x.dims[1]});
}

void build_pyramid(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const std::string type = f.text("model_type", "segformer");
  const bool is_segformer = type == "segformer", is_glpn = type == "glpn";
  const Pyramid p = pyramid_of(f, is_segformer || is_glpn);
  f.expect("reshape_last_stage", true);
  const std::string name = class_of(c, is_segformer ? "Segformer" : is_glpn ? "GLPN" : "PvtV2");
  VisionNet net(c, b, {type + ".", "", {}});
  const std::vector<Var> stages = stages_of(net, p, f, image_of(c, f));
  const Var& x = stages.back();
  if (name == "Model") {
    net.give_image(x, "last_hidden_state");
  } else if (!is_glpn && name == "ForImageClassification") {
    const Var tokens = net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]});
    net.give(net.linear(net.mean(tokens, 1), "/classifier"), "logits");
  } else if (is_segformer && name == "ForSemanticSegmentation") {
    net.give_image(segments(net, stages), "logits");
  } else if (is_glpn && name == "ForDepthEstimation") {
    net.give(depth(net, f, stages), "predicted_depth");
  } else {
    refuse_class(f, name);
  }
  f.pass_over({"head_in_index", "max_depth"});
}

}  // namespace

extern const Recipe pyramid_recipe;
const Recipe pyramid_recipe = {"pyramid", {}, {"segformer", "glpn", "pvt_v2"}, build_pyramid};

}  // namespace runnel::convert
