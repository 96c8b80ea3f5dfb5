// Moonshine's streaming models: an encoder that hears frames of 5 ms in windows, and Moonshine's decoder.
//
// Inputs: input_values [batch, samples], whole frames; attention_mask [batch, samples], 0 behind a sound that is
// shorter, else 1; decoder_input_ids [batch, tokens]. As in the original there are no windows where no mask is given.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/moonshine.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::ReduceKind;
using format::UnaryKind;

constexpr int32_t kNoMask = 2;

class Encoder {
 public:
  Encoder(Signal& signal, const Facts& facts)
      : net(signal),
        f(facts),
        width(f.integer("hidden_size", 1, 1 << 20, 320)),
        ffn(f.integer("intermediate_size", 1, 1 << 20, 1280)),
        layers(f.integer("num_hidden_layers", 1, 4096, 6)),
        heads(f.integer("num_attention_heads", 1, 65536, 8)),
        activation(activation_named(f, "hidden_act", "gelu")),
        frame(std::llround(f.number("sample_rate", 16000) * f.number("frame_ms", 5) / 1000)) {
    if (frame < 1) f.refuse("frame_ms", "gives frames without samples");
    f.pass_over({"max_position_embeddings", "attention_dropout", "attention_bias", "initializer_range"});
  }

  Var encode() {
    Var x = embedded();
    SpeechAttention a;
    a.o = "o_proj";
    a.heads = heads, a.kv_heads = f.integer("num_key_value_heads", 1, 65536, heads);
    a.head = f.integer("head_dim", 1, 65536, width / heads);
    const Json* windows = f.find("sliding_windows");
    if (!windows || !windows->is_array() || windows->size() != size_t(layers))
      f.refuse("sliding_windows", "is no list of one pair a layer");
    const UnaryKind kind = activation;
    for (int64_t i = 0; i < layers; ++i) {
      const Json& pair = (*windows)[size_t(i)];
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number_integer())
        f.refuse("sliding_windows", "is no list of one pair a layer");
      const std::string p = "encoder.layers." + std::to_string(i) + ".";
      a.prefix = p + "self_attn.";
      a.how.bias = hidden(pair[0].get<double>(), pair[1].get<double>());
      x = net.plus(x, speech_attention(net, a, normed(x, p + "input_layernorm")));
      x = net.plus(x,
                   speech_mlp(net, normed(x, p + "post_attention_layernorm"), p + "mlp.fc1", p + "mlp.fc2", ffn, kind));
    }
    return normed(x, "encoder.final_norm");
  }
  Var unseen() { return net.unseen(visible); }
  int64_t samples_of_frame() const { return 4 * frame; }

 private:
  Var as_float(const Var& x) { return net.of_type(x, format::DType::f32); }
  Var is_below(const Var& x, const Var& y) { return as_float(net.compared(ArithmeticKind::less, x, y)); }
  Var normed(const Var& x, const std::string& name) {
    std::vector<float> weight = net.values(name + ".gamma", {width});
    for (float& w : weight) w += 1;
    return net.layer_norm(x, net.constant(name + ".gamma", weight, {width}), "", 1e-5);
  }
  // 1 in the first `count` places, [batch, places].
  Var first_places(const std::string& places) { return is_below(net.view(net.counted(places), {"1", places}), count); }
  Var embedded() {
    const std::string frames = "floordiv(samples," + std::to_string(frame) + ")", p = "encoder.embedder.";
    const Var samples = net.given("input_values", {"batch", "samples"});
    const Var mask = net.filled("attention_mask", {"batch", "samples"}, kNoMask);
    const Var most = net.reduced(ReduceKind::max, net.reduced(ReduceKind::max, mask, 1), 0);
    has_mask = net.less(net.number(1), is_below(net.number(1), net.view(most, {"1"})));
    const Var given = net.with(format::BinaryKind::min, mask, net.number(1));
    count = whole(net.over(net.reduced(ReduceKind::sum, given, 1, true), net.number(double(frame))));
    Var x = net.layer_norm(net.view(samples, {"batch", frames, std::to_string(frame)}), "", "", 1e-6);
    const double factor = std::exp(double(net.values(p + "comp.log_k", {})[0]));
    x = net.math(format::MathKind::asinh, net.scale(x, factor));
    x = shown(net.unary(UnaryKind::silu, net.linear(x, p + "linear", width)));
    const Slide w = {5, 2, 1, 4, 0};
    const auto halved = [&](const char* name, int64_t out) {
      x = net.conv(x, p + name, out, w);
      // A frame counts where its window holds one that does.
      count = whole(net.over(net.plus(count, net.number(5)), net.number(2)));
      x = shown(x);
    };
    halved("conv1", 2 * width);
    x = net.unary(UnaryKind::silu, x);
    halved("conv2", width);
    size = Signal::sizes(x)[1];
    visible = first_places(size);
    return x;
  }
  Var whole(const Var& x) { return net.unary(UnaryKind::floor, x); }
  Var shown(const Var& x) {
    const std::string n = Signal::sizes(x)[1];
    return net.by(x, net.view(first_places(n), {"batch", n, "1"}));
  }
  // Added to the scores of those that are no frames of the sound, or stand outside of the window of this many frames
  // before (the own one included) and this many behind (not included).
  Var hidden(double before, double behind) {
    const Var place = net.counted(size);
    const Var back = net.less(net.view(place, {size, "1"}), net.view(place, {"1", size})), zero = net.number(0);
    const Var ahead = is_below(back, zero);
    const Var near = net.plus(net.by(ahead, is_below(net.unary(UnaryKind::neg, back), net.number(behind))),
                              net.by(net.less(net.number(1), ahead), is_below(back, net.number(before))));
    const Var seen = net.by(near, net.view(visible, {"batch", "1", "1", size}));
    return net.by(net.unseen(seen), has_mask);
  }

  Signal& net;
  Facts f;
  int64_t width, ffn, layers, heads;
  UnaryKind activation;
  int64_t frame;
  std::string size;
  Var count, visible, has_mask;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = outer_facts(c);
  const std::optional<Facts> inner = f.inside("encoder_config");
  if (!inner) f.refuse("encoder_config", "is missing");
  Signal net(c, b, {"model.", "", {}}, 1500, kSoundsAtOnce);
  Encoder encoder(net, *inner);
  const int64_t places = f.integer("max_position_embeddings", 1, 1 << 24, 4096);
  const std::string most = "*min(context," + std::to_string(places) + ")";
  net.axis("samples", std::to_string(encoder.samples_of_frame()) + most);
  MoonshineText d;
  d.width = f.integer("hidden_size", 1, 1 << 20, 320);
  d.ffn = f.integer("intermediate_size", 1, 1 << 20, 1280);
  d.vocab = f.integer("vocab_size", 1, 1 << 26, 32768);
  d.layers = f.integer("num_hidden_layers", 1, 4096, 6);
  d.heads = f.integer("num_attention_heads", 1, 65536, 8);
  if (f.integer("num_key_value_heads", 1, 65536, d.heads) != d.heads)
    f.refuse("num_key_value_heads", "is another number than that of query heads");
  d.head = f.integer("head_dim", 2, 65536, d.width / d.heads);
  d.activation = activation_named(f, "hidden_act", "silu");
  Var encoded = encoder.encode();
  const int64_t width = encoded.dims.back();
  const Var positions = net.tensor("decoder.pos_emb.weight", {places, width});
  encoded = net.plus(encoded, net.cut(positions, 0, 0, Signal::sizes(encoded)[1]));
  const Var heard = width == d.width ? encoded : net.linear(encoded, "decoder.proj", d.width);
  moonshine_text(net, f, d, turning_heads(net, f, d.heads, d.head, 0.8), heard, encoder.unseen(), encoded);
}

}  // namespace

extern const Recipe moonshine_streaming_recipe;
const Recipe moonshine_streaming_recipe = {"moonshine_streaming", {}, {"moonshine_streaming"}, build};

}  // namespace runnel::convert
