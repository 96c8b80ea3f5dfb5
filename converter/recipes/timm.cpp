// Networks of the package timm that are described as blocks in stages: MobileNet 2 to 4 and EfficientNet. Tensors tell
// what a block is made of; what they do not tell stands in one table, by the architecture's name.
#include <cmath>
#include <string_view>

#include "converter/recipes/conv_net.h"
#include "converter/recipes/decoder.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::MathKind;
using format::UnaryKind;

struct Family {
  std::string_view name;     // what names of architectures begin with
  std::string_view strides;  // of the first block of each stage
  std::string_view act;
  int relu_stages = 0;      // before which relu stands in act's place
  bool adds_plain = false;  // convolutions of one block have a way around where sizes allow it
};

// Of two names of which one begins with the other, the longer one comes first.
constexpr Family kFamilies[] = {
    {"mobilenetv2_", "1222121", "relu6"},
    {"mobilenetv3_large_minimal_", "1222121", "relu"},
    {"mobilenetv3_large_", "1222121", "hard_swish", 3},
    {"mobilenetv3_small_minimal_", "222121", "relu"},
    {"mobilenetv3_small_", "222121", "hard_swish", 2},
    {"mobilenetv4_conv_small", "22221", "relu"},
    {"mobilenetv4_conv_medium", "22221", "relu"},
    {"mobilenetv4_conv_large", "22221", "relu"},
    {"mobilenetv4_hybrid_medium", "22221", "relu"},
    {"mobilenetv4_hybrid_large", "22221", "gelu"},
    {"efficientnet_lite", "1222121", "relu6"},
    {"efficientnet_b", "1222121", "silu"},
    {"efficientnetv2_s", "122212", "silu", 0, true},
    {"efficientnetv2_m", "1222121", "silu", 0, true},
    {"efficientnetv2_l", "1222121", "silu", 0, true},
    {"efficientnetv2_xl", "1222121", "silu", 0, true},
    {"efficientnetv2_b", "122212", "silu", 0, true},
};

const Family& family_of(const Facts& f, std::string_view name) {
  // Means before a stride, norms of groups, groups that are no single channels, channels taken out.
  for (const char* variant : {"efficientnet_blur", "_gn", "_g8", "_g16", "_pruned"})
    if (name.find(variant) != name.npos) f.refuse("architecture", "is \"" + printable(std::string(name)) + "\"");
  for (const Family& family : kFamilies)
    if (name.starts_with(family.name)) return family;
  std::string known;
  for (const Family& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.name);
  f.refuse("architecture", "is \"" + printable(std::string(name)) + "\"; those that are read begin with " + known);
}

struct Blocks {
  ConvNet& net;
  double eps;
  bool has_hard_gate, adds_plain;

  Var act(const Var& x, std::string_view kind) const {
    if (kind == "hard_swish") return net.hard_swish(x);
    if (kind == "relu6") return net.act(x, {UnaryKind::relu, kRelu6});
    return net.unary(kind == "relu" ? UnaryKind::relu : kind == "gelu" ? UnaryKind::gelu : UnaryKind::silu, x);
  }
  // kind: empty for none.
  Var conv(const Var& x, const std::string& name, const std::string& norm, std::string_view kind,
           int64_t stride = 1) const {
    const auto& shape = net.find(name + ".weight").shape;
    const int64_t groups = shape.size() == 4 && shape[1] > 0 ? x.dims[0] / int64_t(shape[1]) : 1;
    const Var y = net.conv(x, {name, norm, stride, {}, eps, groups});
    return kind.empty() ? y : act(y, kind);
  }
  Var named(const Var& x, const std::string& name, std::string_view kind, int64_t stride = 1) const {
    return conv(x, name + ".conv", name + ".bn", kind, stride);
  }
  Var gated(const Var& x, const std::string& p, std::string_view kind) const;
  Var universal(const Var& x, const std::string& p, std::string_view kind, int64_t stride) const;
  Var attended(const Var& x, const std::string& p) const;
  Var block(const Var& x, const std::string& p, std::string_view kind, int64_t stride) const;
};

Var Blocks::gated(const Var& x, const std::string& p, std::string_view kind) const {
  if (!net.has(p + "se.conv_reduce.weight")) return x;
  const Var mean = net.one_place(net.mean_of_places(x));
  Var gate = act(net.conv(mean, {p + "se.conv_reduce"}), has_hard_gate ? "relu" : kind);
  gate = net.conv(gate, {p + "se.conv_expand"});
  if (has_hard_gate) {
    format::MathAttrsT attrs;
    attrs.kind = MathKind::hard_sigmoid;
    attrs.alpha = 1 / 6.0f, attrs.beta = 0.5f;
    gate = net.op("math", {gate.name}, gate.axis, gate.dims, {}, attrs);
  } else {
    gate = net.unary(UnaryKind::sigmoid, gate);
  }
  return net.combined(BinaryKind::mul, x, gate);
}

// MobileNet 4's: up to three convolutions of single channels around those of single places.
Var Blocks::universal(const Var& x, const std::string& p, std::string_view kind, int64_t stride) const {
  const bool has_middle = net.has(p + "dw_mid.conv.weight"), has_start = net.has(p + "dw_start.conv.weight");
  Var y = has_start ? named(x, p + "dw_start", "", has_middle ? 1 : stride) : x;
  y = named(y, p + "pw_exp", kind);
  if (has_middle) y = named(y, p + "dw_mid", kind, stride);
  y = named(gated(y, p, kind), p + "pw_proj", "");
  return net.has(p + "dw_end.conv.weight") ? named(y, p + "dw_end", "", has_middle || has_start ? 1 : stride) : y;
}

// All heads look at the same keys and values, those of each second place where they have a convolution of their own.
Var Blocks::attended(const Var& x, const std::string& p) const {
  const Var in = net.batch_norm(x, p + "norm", eps);
  const auto tokens = [&](const Var& image, const std::string& name) {
    const Var y = net.conv(image, {name + ".proj"});
    return net.shaped(y, "batch", {(net.size_of(y, 0) * net.size_of(y, 1)).constant(), y.dims[0]});
  };
  const auto seen = [&](const std::string& name) {
    const bool is_halved = net.has(name + ".down_conv.weight");
    const Var y = tokens(is_halved ? conv(in, name + ".down_conv", name + ".norm", "", 2) : in, name);
    return net.reshape(y, {y.dims[0], 1, y.dims[1]});
  };
  const Var q = tokens(in, p + "attn.query"), k = seen(p + "attn.key"), v = seen(p + "attn.value");
  const int64_t width = k.dims[2], heads = q.dims[1] / width;
  const Var y = net.attend(net.reshape(q, {q.dims[0] * heads, 1, width}), k, v, 1 / std::sqrt(double(width)));
  return net.conv(net.shaped(y, in.axis, {heads * v.dims[2]}), {p + "attn.output.proj"});
}

Var Blocks::block(const Var& x, const std::string& p, std::string_view kind, int64_t stride) const {
  Var y;
  bool adds = true;
  if (net.has(p + "pw_exp.conv.weight")) {
    y = universal(x, p, kind, stride);
  } else if (net.has(p + "attn.query.proj.weight")) {
    y = attended(x, p);
  } else if (net.has(p + "conv_exp.weight")) {
    y = gated(conv(x, p + "conv_exp", p + "bn1", kind, stride), p, kind);
    y = conv(y, p + "conv_pwl", p + "bn2", "");
  } else if (net.has(p + "conv_pwl.weight")) {
    y = conv(conv(x, p + "conv_pw", p + "bn1", kind), p + "conv_dw", p + "bn2", kind, stride);
    y = conv(gated(y, p, kind), p + "conv_pwl", p + "bn3", "");
  } else if (net.has(p + "conv_dw.weight")) {
    y = gated(conv(x, p + "conv_dw", p + "bn1", kind, stride), p, kind);
    y = conv(y, p + "conv_pw", p + "bn2", "");
  } else {
    y = conv(x, p + "conv", p + "bn1", kind, stride);
    adds = adds_plain;
  }
  if (net.has(p + "layer_scale.gamma"))
    y = net.times_numbers(y, p + "layer_scale", net.values(p + "layer_scale.gamma", y.dims), y.dims);
  return adds && stride == 1 && x.dims == y.dims ? net.add(x, y) : y;
}

// Sides that pretrained_cfg states, [channels, height, width], and the channels of the first convolution.
Facts with_image(Checkpoint& c, const Facts& f, const std::string& root) {
  constexpr int64_t kUsual = 224;
  Json values = {{"image_size", {kUsual, kUsual}}, {"num_channels", 3}};
  const Json* stated = f.find("pretrained_cfg");
  if (stated && stated->is_object() && stated->value("input_size", Json()).size() == 3)
    values["image_size"] = {stated->at("input_size")[1], stated->at("input_size")[2]};
  if (f.has("image_size")) values["image_size"] = *f.find("image_size");
  if (const SourceTensor* stem = c.find(root + "conv_stem.weight"); stem && stem->shape.size() == 4)
    values["num_channels"] = stem->shape[1];
  return f.with_values(values);
}

void build_timm(Checkpoint& c, ModelBuilder& b) {
  const Facts f = outer_facts(c);
  std::string name = f.text("architecture", "");
  name = name.substr(0, name.find('.'));  // what it was trained on
  const bool is_tensorflow = name.starts_with("tf_");
  if (is_tensorflow) name.erase(0, 3);
  const Family& family = family_of(f, name);
  if (const auto more = f.inside("model_args")) more->pass_over({"num_classes", "in_chans"});
  f.expect("do_pooling", true);
  f.pass_over({"num_classes", "label_names", "num_features", "global_pool"});
  const std::string root = c.has("timm_model.conv_stem.weight") ? "timm_model." : "";
  const Facts sized = with_image(c, f, root);
  const bool is_hybrid = family.name.find("hybrid") != family.name.npos;
  if (is_hybrid && is_tensorflow) f.refuse("architecture", "is attention with TensorFlow's padding");
  const Naming naming = {root, "", {}};
  ConvNet net = is_hybrid ? ConvNet(c, b, naming, image_of(c, sized)) : ConvNet(c, b, naming, sized, is_tensorflow);
  const bool is_third = family.name.starts_with("mobilenetv3_");
  const Blocks blocks = {net, is_tensorflow ? 1e-3 : 1e-5, is_third, family.adds_plain};
  Var x = blocks.conv(net.pixels(), "conv_stem", "bn1", family.act, 2);
  for (size_t s = 0; s < family.strides.size(); ++s) {
    const std::string_view kind = int(s) < family.relu_stages ? "relu" : family.act;
    const auto prefix = [&](int64_t i) { return "blocks." + std::to_string(s) + "." + std::to_string(i) + "."; };
    const auto is_there = [&](int64_t i) {
      for (const char* norm : {"bn1.weight", "pw_exp.bn.weight", "norm.weight"})
        if (net.has(prefix(i) + norm)) return true;
      return false;
    };
    for (int64_t i = 0; i == 0 || is_there(i); ++i)
      x = blocks.block(x, prefix(i), kind, i == 0 ? family.strides[s] - '0' : 1);
  }
  const bool pools_first = is_third || family.name.starts_with("mobilenetv4_");
  if (!pools_first) x = blocks.conv(x, "conv_head", "bn2", family.act);
  Var pooled = net.mean_of_places(x);
  if (pools_first) {
    const Var y =
        blocks.conv(net.one_place(pooled), "conv_head", net.has("norm_head.weight") ? "norm_head" : "", family.act);
    pooled = net.shaped(y, "batch", y.dims);
  }
  const std::string type = f.has("architectures")         ? class_of(c, "TimmWrapper")
                           : net.has("classifier.weight") ? "ForImageClassification"
                                                          : "Model";
  if (type == "ForImageClassification") return net.classify(pooled, "classifier");
  if (type != "Model") refuse_class(f, type);
  c.ignore_containing("classifier.");
  net.give_image(x, "last_hidden_state");
  net.give_pooled(pooled, "pooler_output");
}

}  // namespace

extern const Recipe timm_recipe;
const Recipe timm_recipe = {"timm", {}, {"timm_wrapper"}, build_timm};

}  // namespace runnel::convert
