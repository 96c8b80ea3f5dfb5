// LeViT: attention with biases by distance, whose products have batch norms behind them; between stages the queries
// are every second pixel.
#include <map>

#include <cmath>

#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

constexpr double kEps = 1e-5;

struct Heads {
  int64_t count = 0, key = 0, value = 0;
};

Var dense(VisionNet& net, const std::string& name, const Var& x) {
  return net.linear_norm(x, name + ".linear", name + ".batch_norm", kEps);
}

// Biases have numbers by distance, in the order in which distances come up.
VisionNet::Bias distance_bias(VisionNet& net, const std::string& name, int64_t heads, int64_t to, int64_t from,
                              int64_t stride) {
  std::map<std::pair<int64_t, int64_t>, int64_t> numbers;
  std::vector<int64_t> number;
  for (int64_t i = 0; i < to * to; ++i)
    for (int64_t j = 0; j < from * from; ++j) {
      const std::pair distance = {std::abs(i / to * stride - j / from), std::abs(i % to * stride - j % from)};
      number.push_back(numbers.insert({distance, int64_t(numbers.size())}).first->second);
    }
  const int64_t count = int64_t(numbers.size());
  const std::vector<float> table = net.values(name, {heads, count});
  std::vector<float> bias;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t n : number) bias.push_back(table[size_t(h * count + n)]);
  return {net.constant(name, bias, {heads, to * to, from * from})};
}

Var projected(VisionNet& net, const std::string& p, const Var& x) {
  return dense(net, p + "projection", net.hard_swish(x));
}

Var attended(VisionNet& net, const std::string& p, const Heads& h, const Var& x, int64_t side) {
  const int64_t n = x.dims[0];
  const Var all = net.reshape(dense(net, p + "queries_keys_values", x), {n, h.count, 2 * h.key + h.value});
  const Var q = net.slice(all, 3, 0, h.key), k = net.slice(all, 3, h.key, h.key),
            v = net.slice(all, 3, 2 * h.key, h.value);
  const VisionNet::Bias bias = distance_bias(net, p + "attention_biases", h.count, side, side, 1);
  return projected(net, p, net.attend(q, k, v, 1 / std::sqrt(double(h.key)), {bias}));
}

Var subsampled(VisionNet& net, const std::string& p, const Heads& h, const Var& x, int64_t* side) {
  constexpr int64_t kStride = 2;
  const int64_t n = x.dims[0], width = x.dims[1], from = *side, to = (from - 1) / kStride + 1;
  const Var all = net.reshape(dense(net, p + "keys_values", x), {n, h.count, h.key + h.value});
  const Var k = net.slice(all, 3, 0, h.key), v = net.slice(all, 3, h.key, h.value);
  const Var image = net.padded(net.reshape(x, {from, from, width}), to * kStride, to * kStride);
  const Var pairs = net.reshape(image, {to, kStride, to, kStride, width});
  const Var few = net.reshape(net.slice(net.slice(pairs, 2, 0, 1), 4, 0, 1), {to * to, width});
  const Var q = net.reshape(dense(net, p + "queries", few), {to * to, h.count, h.key});
  const VisionNet::Bias bias = distance_bias(net, p + "attention_biases", h.count, to, from, kStride);
  *side = to;
  return projected(net, p, net.attend(q, k, v, 1 / std::sqrt(double(h.key)), {bias}));
}

Var fed(VisionNet& net, const std::string& p, const Var& x) {
  return dense(net, p + "linear_down", net.hard_swish(dense(net, p + "linear_up", x)));
}

Var classified(VisionNet& net, const std::string& p, const Var& x) {
  return net.linear(net.batch_norm(x, p + "batch_norm", kEps), p + "linear");
}

Var encoded(VisionNet& net, const Facts& f, const Image& image) {
  constexpr int64_t kRatio = 4;  // of values between stages
  const Window window =
      square(f.integer("kernel_size", 1, 63, 3), f.integer("stride", 1, 16, 2), f.integer("padding", 0, 31, 1));
  Var x = net.pixels(image);
  for (int i = 1; i <= 4; ++i) {
    const std::string p = "patch_embeddings.embedding_layer_" + std::to_string(i);
    x = net.conv_norm(x, p + ".convolution", p + ".batch_norm", kEps, window);
    if (i < 4) x = net.hard_swish(x);
  }
  int64_t side = x.dims[0];
  if (x.dims[1] != side || side != image.height / f.integer("patch_size", 1, 4096, 16))
    f.refuse("image_size", "gives an image of patches that the biases are not for");
  x = net.reshape(x, {side * side, x.dims[2]});
  const Json* depths = f.find("depths");
  const size_t stages = depths && depths->is_array() ? depths->size() : 0;
  const std::vector<int64_t> heads = f.integers("num_attention_heads", stages, 1, 65536),
                             keys = f.integers("key_dim", stages, 1, 65536),
                             ratios = f.integers("attention_ratio", stages, 1, 64);
  for (size_t i = 0; i < stages; ++i)
    for (int64_t k = 0;; ++k) {
      const std::string p = "encoder.stages." + std::to_string(i) + ".layers." + std::to_string(k) + ".",
                        m = p + "module.";
      if (net.has(m + "queries_keys_values.linear.weight"))
        x = net.add(x, attended(net, m, {heads[i], keys[i], ratios[i] * keys[i]}, x, side));
      else if (net.has(m + "linear_up.linear.weight")) x = net.add(x, fed(net, m, x));
      else if (net.has(p + "keys_values.linear.weight"))
        x = subsampled(net, p, {x.dims[1] / keys[0], keys[0], kRatio * keys[0]}, x, &side);
      else break;
    }
  return x;
}

void build_levit(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  f.pass_over({"hidden_sizes", "mlp_ratio", "drop_path_rate", "down_ops"});
  const std::string name = class_of(c, "Levit");
  VisionNet net(c, b, {"levit.", "", {}});
  const Var x = encoded(net, f, image_of(c, f)), pooled = net.mean(x, 1);
  if (name == "Model") {
    net.give(x, "last_hidden_state");
    net.give(pooled, "pooler_output");
  } else if (name == "ForImageClassification") {
    net.give(classified(net, "/classifier.", pooled), "logits");
  } else if (name == "ForImageClassificationWithTeacher") {
    const Var own = classified(net, "/classifier.", pooled),
              distilled = classified(net, "/classifier_distill.", pooled);
    net.give(net.scale(net.add(own, distilled), 0.5), "logits");
    net.give(own, "cls_logits");
    net.give(distilled, "distillation_logits");
  } else {
    refuse_class(f, name);
  }
}

}  // namespace

extern const Recipe levit_recipe;
const Recipe levit_recipe = {"levit", {}, {"levit"}, build_levit};

}  // namespace runnel::convert
