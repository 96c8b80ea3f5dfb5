#include "converter/recipes/vision_encoder.h"

#include <cmath>
#include <optional>

#include "converter/program/pruning.h"
#include "converter/recipes/decoder.h"
#include "converter/recipes/vision_pruning.h"

namespace runnel::convert {

VisionEncoder vit_like(const Checkpoint& c, const Facts& f, const std::string& root) {
  VisionEncoder e;
  e.naming = {root, "", {}};
  e.image = image_of(c, f);
  const std::vector<int64_t> patch = f.integers("patch_size", 2, 1, 1 << 14);
  e.patch[0] = patch[0], e.patch[1] = patch[1];
  if (e.image.height < patch[0] || e.image.width < patch[1]) f.refuse("patch_size", "is larger than the image");
  e.hidden = f.integer("hidden_size");
  e.heads = f.integer("num_attention_heads", 1, 65536);
  if (e.hidden % e.heads) f.refuse("num_attention_heads", "does not divide hidden_size");
  e.layers = f.integer("num_hidden_layers", 1, 4096);
  e.eps = f.number("layer_norm_eps", 1e-12);
  e.activation = activation_named(f, "hidden_act", "gelu");
  f.pass_over({"intermediate_size", "encoder_stride", "drop_path_rate", "qkv_bias", "pooler_output_size"});
  return e;
}

Var encoder_norm(VisionNet& net, const VisionEncoder& e, const Var& x, const std::string& name) {
  return e.is_rms ? net.rms(x, name, e.eps) : net.norm(x, name, e.eps);
}

namespace {

// Patches and tokens before them; positions of those are added while converting.
Var embedded(VisionNet& net, const VisionEncoder& e) {
  const int64_t n = e.rows() * e.columns(), width = e.hidden;
  const Window window = {{e.patch[0], e.patch[1]}, {e.step(0), e.step(1)}, e.patch_pad};
  Var x = net.conv(e.picture ? e.picture(net) : net.pixels(e.image), e.patches, window);
  if (x.dims[0] * x.dims[1] != n)
    fail("%s: image_size gives more patches than there are positions", net.checkpoint().path.c_str());
  x = net.reshape(x, {n, width});
  if (!e.patch_norm.empty()) x = encoder_norm(net, e, x, e.patch_norm);
  if (!e.places.empty()) x = net.plus_numbers(x, "/places", e.places, {n, width});
  std::vector<float> first;
  for (const std::string& name : e.tokens) {
    const std::vector<float> own = net.numbers(name, int64_t(net.find(name).count()));
    first.insert(first.end(), own.begin(), own.end());
  }
  if (!e.positions.empty()) {
    std::vector<float> table = net.numbers(e.positions, (e.tokens_with_position + n) * width);
    const size_t before = size_t(e.tokens_with_position * width);
    if (e.adds_first_position) {
      for (size_t i = before; i < table.size(); ++i) table[i] += table[i % size_t(width)];
    } else {
      for (size_t i = 0; i < before; ++i) first.at(i) += table[i];
    }
    x = net.plus_numbers(x, e.positions, {table.begin() + long(before), table.end()}, {n, width});
  }
  if (e.choose) x = e.choose(x);
  return net.with_tokens(x, "embeddings.tokens", first);
}

Var feed_forward(VisionNet& net, const VisionEncoder& e, const std::string& prefix, const Var& x) {
  Var y;
  if (!e.gate_up.empty()) {
    const int64_t rows = int64_t(net.find(prefix + e.gate_up + ".weight").shape.at(0)) / 2;
    const std::string name = prefix + e.gate_up;
    const std::vector<Var> both = net.parts(x, name + ".weight", name + ".bias", 2 * rows, {{0, rows}, {rows, rows}});
    y = net.glu(e.activation, both[0], both[1]);
  } else if (!e.gate.empty()) {
    const std::vector<Var> both = net.linears(x, {prefix + e.gate, prefix + e.up});
    y = net.glu(e.activation, both[0], both[1]);
  } else {
    y = net.unary(e.activation, net.linear(x, prefix + e.up));
  }
  return net.linear(y, prefix + e.down);
}

Var scaled(VisionNet& net, const std::string& name, const Var& x) {
  return net.times_numbers(x, name, net.values(name, {x.dims.back()}), {x.dims.back()});
}

}  // namespace

Var encoder_layer(VisionNet& net, const VisionEncoder& e, int64_t number, const std::string& p, const Var& x) {
  const int64_t head = e.hidden / e.heads;
  std::vector<Var> qkv = net.linears(encoder_norm(net, e, x, p + e.attn_norm), {p + e.q, p + e.k, p + e.v});
  std::vector<int64_t> by_head(x.dims.begin(), x.dims.end() - 1);
  by_head.insert(by_head.end(), {e.heads, head});
  for (Var& part : qkv) part = net.reshape(part, by_head);
  if (e.rotate) qkv[0] = e.rotate(net, qkv[0]), qkv[1] = e.rotate(net, qkv[1]);
  std::vector<VisionNet::Bias> biases;
  if (e.biases) biases = e.biases(net, number);
  const double scale = 1 / std::sqrt(double(head));
  Var y = e.attend ? e.attend(net, qkv, scale) : net.attend(qkv[0], qkv[1], qkv[2], scale, biases);
  y = net.linear(y, p + e.o);
  if (!e.attn_scale.empty()) y = scaled(net, p + e.attn_scale, y);
  Var middle = net.add(x, y);
  if (e.thin) middle = e.thin(number, qkv, scale, middle);
  y = feed_forward(net, e, p, encoder_norm(net, e, middle, p + e.ffn_norm));
  if (!e.ffn_scale.empty()) y = scaled(net, p + e.ffn_scale, y);
  return net.add(middle, y);
}

Var encode_image(VisionNet& net, const VisionEncoder& given, const std::vector<int64_t>& taps,
                 std::vector<Var>* tapped) {
  VisionEncoder e = given;
  Var x = embedded(net, e);
  std::optional<VisionPruner> pruner;
  if (const std::string& method = net.builder().prune; !method.empty() && thins_tokens(method)) {
    if (!taps.empty()) prune_options(method).refuse("this model takes the tokens of layers on the way");
    if (e.choose) prune_options(method).refuse("this model leaves out patches by itself");
    pruner.emplace(net, e, x.dims[0] - e.rows() * e.columns());
    e.attend = [&](VisionNet&, const std::vector<Var>& qkv, double scale) { return pruner->attend(qkv, scale); };
    e.thin = [&](int64_t layer, const std::vector<Var>& qkv, double scale, const Var& tokens) {
      return pruner->thinned(layer, qkv, scale, tokens);
    };
  }
  if (!e.first_norm.empty()) x = encoder_norm(net, e, x, e.first_norm);
  for (int64_t i = 0; i < e.layers; ++i) {
    x = encoder_layer(net, e, i, e.layer + std::to_string(i) + ".", x);
    for (int64_t tap : taps)
      if (tap == i + 1) tapped->push_back(x);
  }
  if (pruner) x = pruner->given_back(x);
  return e.last_norm.empty() ? x : encoder_norm(net, e, x, e.last_norm);
}

}  // namespace runnel::convert
