// RT-DETR, first and second version: a ResNet, images of three sizes that meet from the coarsest to the finest and
// back, and queries that begin as the tokens with the best scores.
#include <cmath>
#include <limits>

#include "converter/recipes/decoder.h"
#include "converter/recipes/deformable.h"
#include "converter/recipes/resnet.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

struct Detr {
  Checkpoint& checkpoint;
  ConvNet& net;
  const Facts& f;
  Activation activation;
  double norm_eps, eps;

  Var conv_norm(const Var& x, const std::string& conv, const std::string& norm, int64_t stride = 1,
                const Activation& act = {}) const {
    return net.conv(x, {conv, norm, stride, act, eps});
  }
  Var layer(const Var& x, const std::string& name, int64_t stride = 1) const {
    return conv_norm(x, name + ".conv", name + ".norm", stride, activation);
  }
  Var norm(const Var& x, const std::string& name) const { return net.norm(x, name, norm_eps); }

  Var rep_block(const Var& x, const std::string& name) const;
  Var stage(const Var& x, const std::string& name) const;
  Var attended(const Var& x, const Var& placed, const std::string& name, int64_t heads) const;
  Var feed_forward(const Var& x, const std::string& name, UnaryKind kind) const;
  Var transformer(const Var& image, size_t number) const;
  std::vector<Var> pyramid(std::vector<Var> images) const;
};

// Convolutions of 3 x 3 and of 1 x 1, each with its batch norm, whose sum is one of 3 x 3.
Var Detr::rep_block(const Var& x, const std::string& name) const {
  const int64_t n = x.dims[0];
  std::vector<float> wide = net.values(name + ".conv1.conv.weight", {n, n, 3, 3}), wide_bias,
                     narrow = net.values(name + ".conv2.conv.weight", {n, n, 1, 1}), bias;
  fold(net.batch_norm_of(name + ".conv1.norm", n, eps), &wide, &wide_bias);
  fold(net.batch_norm_of(name + ".conv2.norm", n, eps), &narrow, &bias);
  for (size_t i = 0; i < narrow.size(); ++i) wide[i * 9 + 4] += narrow[i];
  for (size_t i = 0; i < bias.size(); ++i) bias[i] += wide_bias[i];
  return net.conv_of(x, {name + ".conv1.conv", "", 1, activation}, wide, {n, n, 3, 3}, bias);
}

Var Detr::stage(const Var& x, const std::string& name) const {
  constexpr int kBlocks = 3;
  Var y = layer(x, name + ".conv1");
  for (int i = 0; i < kBlocks; ++i) y = rep_block(y, name + ".bottlenecks." + std::to_string(i));
  y = net.add(y, layer(x, name + ".conv2"));
  return net.has(name + ".conv3.conv.weight") ? layer(y, name + ".conv3") : y;
}

// placed: x with places added, which queries and keys are made of.
Var Detr::attended(const Var& x, const Var& placed, const std::string& name, int64_t heads) const {
  const int64_t n = x.dims[0], head = x.dims[1] / heads;
  std::vector<Var> qkv = net.linears(placed, {name + "q_proj", name + "k_proj"});
  qkv.push_back(net.linear(x, name + "v_proj"));
  for (Var& part : qkv) part = net.reshape(part, {n, heads, head});
  return net.linear(net.attend(qkv[0], qkv[1], qkv[2], 1 / std::sqrt(double(head))), name + "out_proj");
}

Var Detr::feed_forward(const Var& x, const std::string& name, UnaryKind kind) const {
  return net.linear(net.unary(kind, net.linear(x, name + "fc1")), name + "fc2");
}

int64_t heads_of(const Facts& f, const std::string& key, int64_t width) {
  const int64_t heads = f.integer(key, 1, 65536, 8);
  if (width % heads) f.refuse(key, "does not divide the width of " + std::to_string(width));
  return heads;
}

// Sines and cosines of a place's row, then of its column.
std::vector<float> places_of(int64_t rows, int64_t columns, int64_t width, double temperature) {
  std::vector<float> table;
  for (int64_t i = 0; i < rows * columns; ++i)
    for (int64_t k = 0; k < width; ++k) {
      const int64_t quarter = width / 4, part = k / quarter;
      const double angle =
          double(part < 2 ? i / columns : i % columns) / std::pow(temperature, double(k % quarter) / double(quarter));
      table.push_back(float(part % 2 ? std::cos(angle) : std::sin(angle)));
    }
  return table;
}

Var Detr::transformer(const Var& image, size_t number) const {
  const int64_t rows = net.size_of(image, 0).constant(), columns = net.size_of(image, 1).constant(), n = rows * columns,
                width = image.dims[0], heads = heads_of(f, "encoder_attention_heads", width);
  const UnaryKind kind = activation_named(f, "encoder_activation_function", "gelu");
  const double temperature = f.number("positional_encoding_temperature", 10000);
  const bool norms_before = f.boolean("normalize_before", false), has_places = !f.has("eval_size");
  if (has_places && width % 4) f.refuse("encoder_hidden_dim", "is no multiple of 4");
  Var x = net.shaped(image, "batch", {n, width});
  for (int64_t i = 0; i < f.integer("encoder_layers", 0, 4096, 1); ++i) {
    const std::string own = "encoder.encoder." + std::to_string(number), p = own + ".layers." + std::to_string(i) + ".";
    const Var in = norms_before ? norm(x, p + "self_attn_layer_norm") : x;
    Var placed = in;
    if (has_places)
      placed = net.plus_numbers(in, own + ".places", places_of(rows, columns, width, temperature), {n, width});
    x = net.add(x, attended(in, placed, p + "self_attn.", heads));
    x = norm(x, p + (norms_before ? "final_layer_norm" : "self_attn_layer_norm"));
    x = net.add(x, feed_forward(x, p, kind));
    if (!norms_before) x = norm(x, p + "final_layer_norm");
  }
  return net.shaped(x, image.axis, {width});
}

// images: from the finest to the coarsest, each half of the one before it.
std::vector<Var> Detr::pyramid(std::vector<Var> images) const {
  const size_t last = images.size() - 1;
  const Json* listed = f.find("encode_proj_layers");
  if (!listed || !listed->is_array()) f.refuse("encode_proj_layers", "is no list of images");
  size_t number = 0;
  for (int64_t i : f.integers("encode_proj_layers", listed->size(), 0, int64_t(last))) {
    Var& chosen = images[size_t(i)];
    chosen = transformer(chosen, number++);
  }
  Var x = images[last];
  for (size_t i = 0; i < last; ++i) {
    const std::string at = std::to_string(i);
    const Var& own = images[last - 1 - i];
    images[last - i] = layer(x, "encoder.lateral_convs." + at);
    const Var twice = net.repeated(images[last - i], 2);
    if (twice.axis != own.axis)
      f.refuse("image_size", "gives an image of " + own.axis.substr(6) + " where one of " + twice.axis.substr(6) +
                                 " is needed: sides have to be multiples of the coarsest stride");
    x = stage(net.concat({twice, own}, 3), "encoder.fpn_blocks." + at);
  }
  images[0] = x;
  for (size_t i = 0; i < last; ++i) {
    const std::string at = std::to_string(i);
    const Var half = layer(images[i], "encoder.downsample_convs." + at, 2);
    images[i + 1] = stage(net.concat({half, images[i + 1]}, 3), "encoder.pan_blocks." + at);
  }
  return images;
}

// Where each token's box begins, before a sigmoid; those too near to the edge have no place, and their tokens are
// zeros.
struct Anchors {
  std::vector<float> places, is_inside;
};

Anchors anchors_of(const std::vector<Level>& levels) {
  constexpr float kEdge = 1e-2f, kSide = 0.05f;
  Anchors a;
  for (size_t k = 0; k < levels.size(); ++k)
    for (int64_t i = 0; i < levels[k].rows * levels[k].columns; ++i) {
      const float side = kSide * float(1 << k),
                  box[] = {(float(i % levels[k].columns) + 0.5f) / float(levels[k].columns),
                           (float(i / levels[k].columns) + 0.5f) / float(levels[k].rows), side, side};
      bool is_inside = true;
      for (float part : box) is_inside = is_inside && part > kEdge && part < 1 - kEdge;
      for (float part : box)
        a.places.push_back(is_inside ? std::log(part / (1 - part)) : std::numeric_limits<float>::max());
      a.is_inside.push_back(is_inside);
    }
  return a;
}

Var clip(VisionNet& net, const Var& x, float low, float high = std::numeric_limits<float>::infinity()) {
  format::MathAttrsT attrs;
  attrs.kind = format::MathKind::clip;
  attrs.alpha = low, attrs.beta = high;
  return net.op("math", {x.name}, x.axis, x.dims, {}, attrs);
}

// What a sigmoid makes x of.
Var before_sigmoid(VisionNet& net, const Var& x) {
  constexpr float kLeast = 1e-5f;
  const Var rest = net.plus_numbers(net.unary(UnaryKind::neg, x), "/one", {1}, {1});
  return net.unary(UnaryKind::log, net.binary(BinaryKind::div, clip(net, x, kLeast), clip(net, rest, kLeast)));
}

struct Queries {
  Var tokens, places;  // [q, width] and, before a sigmoid, [q, 4]
};

// The tokens with the best scores of any class.
Queries chosen_queries(const Detr& d, const Var& memory, const std::vector<Level>& levels) {
  ConvNet& net = d.net;
  const int64_t n = memory.dims[0], count = d.f.integer("num_queries", 1, 1 << 20, 300);
  if (count > n) d.f.refuse("num_queries", "is more than there are tokens: " + std::to_string(n));
  const Anchors anchors = anchors_of(levels);
  const Var inside = net.times_numbers(memory, "/is_inside", anchors.is_inside, {n, 1});
  const Var tokens = d.norm(net.linear(inside, "enc_output.0"), "enc_output.1");
  const Var scores = net.linear(tokens, "enc_score_head");
  const Var places = net.plus_numbers(relu_layers(net, "enc_bbox_head", 3, tokens), "/anchors", anchors.places, {n, 4});
  format::ReduceAttrsT best;
  best.kind = format::ReduceKind::max;
  best.axis = 2;
  const Var ids = net.make("top", "batch", {count}, false, format::DType::i32);
  net.op("top_k", {net.op("reduce", {scores.name}, "batch", {n}, {}, best).name}, "batch", {count}, {ids.name},
         format::TopKAttrsT());
  d.f.expect("learn_initial_query", false);
  const Queries q = {rows_by_id(net, tokens, ids), rows_by_id(net, places, ids)};
  net.give(rows_by_id(net, scores, ids), "enc_topk_logits", true);
  net.give(net.unary(UnaryKind::sigmoid, q.places), "enc_topk_bboxes", true);
  return q;
}

// Deformable attention as the version has it.
Deformable deformable_of(const Facts& f, bool is_second, const std::vector<Level>& levels, int64_t width) {
  Deformable a;
  a.levels = levels;
  a.heads = heads_of(f, "decoder_attention_heads", width);
  a.points.assign(levels.size(), f.integer("decoder_n_points", 1, 4096, 4));
  if (!is_second) return a;
  if (f.integer("decoder_n_levels", 1, 64, 3) != int64_t(levels.size()))
    f.refuse("decoder_n_levels", "is not num_feature_levels");
  a.reach = f.number("decoder_offset_scale", 0.5);
  const std::string method = f.text("decoder_method", "default");
  if (method != "default" && method != "discrete") f.refuse("decoder_method", "is \"" + printable(method) + "\"");
  a.is_nearest = method == "discrete";
  return a;
}

// A layer's head; in some files all layers have that of the first.
std::string own_or_first(const VisionNet& net, const std::string& name, int64_t layer, const char* tensor) {
  const std::string own = name + std::to_string(layer);
  return net.has(own + tensor) ? own : name + "0";
}

void decode(const Detr& d, const Deformable& deformable, const Var& memory, const Queries& begin, bool is_detector) {
  ConvNet& net = d.net;
  const UnaryKind kind = activation_named(d.f, "decoder_activation_function", "relu");
  const int64_t layers = d.f.integer("decoder_layers", 1, 4096, 6);
  Var x = begin.tokens, boxes = net.unary(UnaryKind::sigmoid, begin.places);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string number = std::to_string(i), p = "decoder.layers." + number + ".", cross = p + "encoder_attn.";
    const Var places = relu_layers(net, "decoder.query_pos_head", 2, boxes);
    x = net.add(x, d.attended(x, net.add(x, places), p + "self_attn.", deformable.heads));
    x = d.norm(x, p + "self_attn_layer_norm");
    const Var values = net.linear(memory, cross + "value_proj");
    const Var seen = deformable_attention(net, deformable, cross, net.add(x, places), values, boxes);
    x = d.norm(net.add(x, net.linear(seen, cross + "output_proj")), p + "encoder_attn_layer_norm");
    x = d.norm(net.add(x, d.feed_forward(x, p, kind)), p + "final_layer_norm");
    if (is_detector)
      boxes = net.unary(UnaryKind::sigmoid,
                        net.add(relu_layers(net, own_or_first(net, "decoder.bbox_embed.", i, ".layers.0.weight"), 3, x),
                                before_sigmoid(net, boxes)));
  }
  if (is_detector) {
    net.give(net.linear(x, own_or_first(net, "decoder.class_embed.", layers - 1, ".weight")), "logits");
    net.give(boxes, "pred_boxes");
    // What training compares on the way; some files hold these heads under two names.
    for (const char* twice : {"class_embed.", "bbox_embed."}) d.checkpoint.ignore_containing(twice);
  }
  net.give(x, "last_hidden_state", is_detector);
}

void pass_over_training(const Facts& f) {
  f.pass_over({"freeze_backbone_batch_norms",
               "encoder_hidden_dim",
               "encoder_in_channels",
               "feat_strides",
               "encoder_ffn_dim",
               "dropout",
               "activation_dropout",
               "attention_dropout",
               "hidden_expansion",
               "decoder_ffn_dim",
               "num_denoising",
               "label_noise_ratio",
               "box_noise_scale",
               "disable_custom_kernels",
               "with_box_refine",
               "is_encoder_decoder",
               "matcher_alpha",
               "matcher_gamma",
               "matcher_class_cost",
               "matcher_bbox_cost",
               "matcher_giou_cost",
               "use_focal_loss",
               "auxiliary_loss",
               "focal_loss_alpha",
               "focal_loss_gamma",
               "weight_loss_vfl",
               "weight_loss_bbox",
               "weight_loss_giou",
               "eos_coefficient",
               "initializer_bias_prior_prob",
               "tie_word_embeddings"});
}

void build_rt_detr(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const bool is_second = f.text("model_type", "") == "rt_detr_v2";
  const std::string name = class_of(c, is_second ? "RTDetrV2" : "RTDetr");
  if (name != "ForObjectDetection" && name != "Model") refuse_class(f, name);
  const std::optional<Facts> own = f.inside("backbone_config");
  if (!own) f.refuse("backbone_config", "is missing");
  if (own->text("model_type", "") != "rt_detr_resnet") own->refuse("model_type", "is not rt_detr_resnet");
  Facts sized = f;
  if (const Json* size = f.find("anchor_image_size")) sized = f.with_values({{"image_size", *size}});
  Image image = image_of(c, sized);
  image.channels = own->integer("num_channels", 1, 4096, 3);
  ConvNet net(c, b, {"model.", "", {}}, image);
  const Detr d = {c,
                  net,
                  f,
                  image_activation(f, "activation_function", "silu"),
                  f.number("layer_norm_eps", 1e-5),
                  f.number("batch_norm_eps", 1e-5)};
  const std::vector<Var> all = detr_resnet(net, *own, "backbone.model.");
  const Json* listed = own->find("out_indices");
  if (!listed || !listed->is_array() || listed->empty()) own->refuse("out_indices", "is no list of stages");
  std::vector<Var> images;
  for (int64_t i : own->integers("out_indices", listed->size(), 0, int64_t(all.size()) - 1)) {
    const std::string p = "encoder_input_proj." + std::to_string(images.size());
    images.push_back(net.conv(all[size_t(i)], {p + ".0", p + ".1"}));
  }
  images = d.pyramid(images);
  const int64_t count = f.integer("num_feature_levels", 1, 64, 3);
  f.pass_over({"decoder_in_channels", "d_model"});
  std::vector<Level> levels;
  std::vector<Var> tokens;
  for (int64_t i = 0; i < count; ++i) {
    const std::string p = "decoder_input_proj." + std::to_string(i);
    const bool is_more = i >= int64_t(images.size());
    const Var x = d.conv_norm(is_more ? images.back() : images[size_t(i)], p + ".0", p + ".1", is_more ? 2 : 1);
    levels.push_back({net.size_of(x, 0).constant(), net.size_of(x, 1).constant()});
    tokens.push_back(net.shaped(x, "batch", {levels.back().rows * levels.back().columns, x.dims[0]}));
  }
  const Var memory = net.concat(tokens, 1);
  const Deformable deformable = deformable_of(f, is_second, levels, memory.dims[1]);
  decode(d, deformable, memory, chosen_queries(d, memory, levels), name == "ForObjectDetection");
  c.ignore_containing("denoising_class_embed");
  c.ignore_containing("n_points_scale");  // 1 over decoder_n_points
  pass_over_training(f);
}

}  // namespace

extern const Recipe rt_detr_recipe;
const Recipe rt_detr_recipe = {"rt_detr", {}, {"rt_detr", "rt_detr_v2"}, build_rt_detr};

}  // namespace runnel::convert
