// Parakeet (FastConformer, arXiv 2305.05084) with a CTC head: attention by relative positions and convolutions over
// frames of a spectrum.
//
// Inputs: input_features [batch, frames, mel bins]; attention_mask [batch, frames], 0 behind a sound that is shorter,
// else 1.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;
using format::UnaryKind;

constexpr double kEps = 1e-5;

class Builder {
 public:
  Builder(Signal& signal, const Facts& facts, int64_t sides)
      : net(signal),
        f(facts),
        halvings(sides),
        width(f.integer("hidden_size", 2, 1 << 20, 1024)),
        ffn(f.integer("intermediate_size", 1, 1 << 20, 4096)),
        layers(f.integer("num_hidden_layers", 1, 4096, 24)),
        heads(f.integer("num_attention_heads", 1, 65536, 8)),
        kernel(f.integer("conv_kernel_size", 1, 65536, 9)),
        activation(activation_named(f, "hidden_act", "silu")) {
    if (f.integer("num_key_value_heads", 1, 65536, heads) != heads)
      f.refuse("num_key_value_heads", "is another number than that of query heads");
    head = f.integer("head_dim", 1, 65536, width / heads);
    f.pass_over({"attention_bias", "convolution_bias", "dropout", "dropout_positions", "layerdrop",
                 "activation_dropout", "attention_dropout", "max_position_embeddings", "initializer_range",
                 "subsampling_factor"});
  }

  Var encode() {
    Var x = subsampled();
    if (f.boolean("scale_input", true)) x = net.scale(x, std::sqrt(double(width)));
    frames = Signal::sizes(x)[1];
    visible = net.view(first_places(), {"batch", frames, "1"});
    const Var of_keys = net.view(visible, {"batch", "1", "1", frames}),
              of_queries = net.view(visible, {"batch", "1", frames, "1"});
    hidden = net.unseen(net.by(of_keys, of_queries));
    distances = by_distance();
    for (int64_t i = 0; i < layers; ++i) x = layer(x, "layers." + std::to_string(i) + ".");
    return x;
  }

 private:
  // 1 in the places that belong to the sound, [batch, frames].
  Var first_places() {
    const Var place = net.view(net.counted(frames), {"1", frames});
    return net.of_type(net.compared(format::ArithmeticKind::less, place, lengths), format::DType::f32);
  }
  Var shown(const Var& x) {
    frames = Signal::sizes(x)[1];
    return net.by(x, net.view(first_places(), {"batch", frames, "1", "1"}));
  }
  // Convolutions over the spectrum as an image, each with half as many frames.
  Var subsampled() {
    const int64_t bins = f.integer("num_mel_bins", 1, 65536, 80),
                  side = f.integer("subsampling_conv_kernel_size", 1, 255, 3),
                  stride = f.integer("subsampling_conv_stride", 1, 255, 2),
                  channels = f.integer("subsampling_conv_channels", 1, 65536, 256), pad = (side - 1) / 2;
    Var x = net.given("input_features", {"batch", "frames", std::to_string(bins)});
    lengths = net.reduced(ReduceKind::sum, net.filled("attention_mask", {"batch", "frames"}, 1), 1, true);
    x = net.view(x, {"batch", "frames", std::to_string(bins), "1"});
    Slide w = {side, stride, 1, pad, pad, 1};
    const auto name = [](int64_t i) { return "subsampling.layers." + std::to_string(i); };
    const auto strided = [&](int64_t i) {
      x = net.conv_of_images(x, name(i), channels, w);
      const Var free = net.plus(lengths, net.number(double(2 * pad - side)));
      lengths = net.plus(net.unary(UnaryKind::floor, net.over(free, net.number(double(stride)))), net.number(1));
      x = shown(x);
    };
    strided(0);
    x = net.unary(UnaryKind::relu, x);
    w.groups = channels;
    for (int64_t i = 1; i < halvings; ++i) {
      strided(3 * i - 1);
      x = net.unary(UnaryKind::relu, shown(net.conv_of_images(x, name(3 * i), channels, {})));
    }
    x = net.turned(x, {0, 1, 3, 2});
    const Names n = Signal::sizes(x);
    x = net.view(x, {n[0], n[1], std::to_string(x.dims[0] * x.dims[1])});
    return net.linear(x, "subsampling.linear", width);
  }
  // Sines and cosines in turns of the distances frames - 1 .. 1 - frames, [2 * frames - 1, width].
  Var by_distance() {
    const std::string all = more(multiple(frames, 2), -1), half = std::to_string(width / 2);
    const Var last = net.reduced(ReduceKind::max, net.view(net.counted(frames), {frames, "1"}), 0);
    const Var distance = net.view(net.less(last, net.counted(all)), {all, "1"});
    const std::vector<float> frequencies = rope_frequencies(10000, width);
    const Var angles = net.by(distance, net.numbers("frequencies", frequencies, {width / 2}));
    const auto part = [&](format::MathKind kind) { return net.view(net.math(kind, angles), {all, half, "1"}); };
    return net.view(net.joined({part(format::MathKind::sin), part(format::MathKind::cos)}, 2),
                    {all, std::to_string(width)});
  }
  Var attention(const Var& x, const std::string& p) {
    const std::string h = std::to_string(heads), d = std::to_string(head), all = Signal::sizes(distances)[0];
    const auto in_heads = [&](const char* name) {
      return net.view(net.linear(x, p + name, heads * head), {"batch", frames, h, d});
    };
    const Var q = in_heads("q_proj");
    const Var keys =
        net.turned(net.view(net.linear(distances, p + "relative_k_proj", heads * head), {all, h, d}), {1, 0, 2});
    const Var turned = net.turned(net.plus(q, net.tensor(p + "bias_v", {heads, head})), {0, 2, 1, 3});
    Attending how;
    how.scale = 1 / std::sqrt(double(head));
    // A row is moved by one place against the row before: key j of query i then stands at their distance.
    const Var scores = net.product(turned, keys, true, how.scale);
    const std::string longer = multiple(frames, 2);
    const Var padded = net.view(net.padded(scores, 3, 1, longer), {"batch", h, longer, frames});
    const Var moved = net.view(net.cut(padded, 2, 1, all), {"batch", h, frames, all});
    how.bias = net.plus(net.cut(moved, 3, 0, frames), hidden);
    const Var y =
        net.attend(how, net.plus(q, net.tensor(p + "bias_u", {heads, head})), in_heads("k_proj"), in_heads("v_proj"));
    return net.linear(y, p + "o_proj", width);
  }
  Var convolution(const Var& x, const std::string& p) {
    const Var y = net.by(gated_halves(net, net.conv(x, p + "pointwise_conv1", 2 * width, {})), visible);
    const int64_t pad = (kernel - 1) / 2;
    const Var z = net.conv(y, p + "depthwise_conv", width, {kernel, 1, 1, pad, pad, width});
    return net.conv(net.unary(activation, net.batch_norm(z, p + "norm", kEps)), p + "pointwise_conv2", width, {});
  }
  Var layer(Var x, const std::string& p) {
    const auto half = [&](const char* norm, const char* name) {
      const Var y =
          speech_mlp(net, net.norm(x, p + norm, kEps), p + name + ".linear1", p + name + ".linear2", ffn, activation);
      return net.plus(x, net.scale(y, 0.5));
    };
    x = half("norm_feed_forward1", "feed_forward1");
    x = net.plus(x, attention(net.norm(x, p + "norm_self_att", kEps), p + "self_attn."));
    x = net.plus(x, convolution(net.norm(x, p + "norm_conv", kEps), p + "conv."));
    x = half("norm_feed_forward2", "feed_forward2");
    return net.norm(x, p + "norm_out", kEps);
  }

  Signal& net;
  Facts f;
  int64_t halvings, width, ffn, layers, heads, kernel, head = 0;
  UnaryKind activation;
  std::string frames;
  Var lengths, visible, hidden, distances;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts outer = outer_facts(c);
  const std::string task = class_of(outer, "ParakeetEncoder");
  const bool is_ctc = task == "ParakeetForCTC";
  if (!is_ctc && task != "ParakeetEncoder")
    outer.refuse("architectures", "names " + printable(task) + ", which is not supported");
  const std::optional<Facts> inner = outer.inside("encoder_config");
  const Facts& f = inner ? *inner : outer;
  const int64_t factor = f.integer("subsampling_factor", 2, 1 << 20, 8);
  int64_t halvings = 0;
  while ((int64_t(2) << halvings) <= factor) ++halvings;
  Signal net(c, b, {"encoder.", "", {}}, 750, kSoundsAtOnce);
  net.axis("frames", std::to_string(factor) + "*context");
  const Var x = Builder(net, f, halvings).encode();
  outer.pass_over({"ctc_loss_reduction", "ctc_zero_infinity", "vocab_size", "initializer_range"});
  if (!is_ctc) return net.output(x, "last_hidden_state");
  net.output(net.conv(x, "/ctc_head", outer.integer("vocab_size", 1, 1 << 26, 1025), {}), "logits");
  net.optional_output(x, "last_hidden_state");
}

}  // namespace

extern const Recipe parakeet_recipe;
const Recipe parakeet_recipe = {"parakeet", {}, {"parakeet_ctc", "parakeet_encoder"}, build};

}  // namespace runnel::convert
