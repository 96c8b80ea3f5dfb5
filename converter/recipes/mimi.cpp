// Mimi (arXiv 2410.00037): sound as a few small numbers a second, and back. Causal convolutions and a transformer on
// both sides of a residual quantiser.
//
// Program "main": input_values [batch, channels, samples] to audio_codes [batch, quantisers, codes] and audio_values as
// the input; "encode" and "decode" are its halves.
#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;
using format::UnaryKind;

struct Sizes {
  int64_t channels, width, filters, residuals, kernel, last_kernel, residual_kernel, growth, compress;
  int64_t codes, code_width, quantisers, semantic, layers, ffn, heads, kv_heads, head, window;
  int64_t latent_stride = 1;  // 1: no convolution between the transformers and the quantiser
  std::vector<int64_t> ratios;
  double trim, eps, rope_base;
  bool has_shortcut, is_replicated;
  UnaryKind activation;
  int64_t hop() const {
    int64_t n = latent_stride;
    for (int64_t r : ratios) n *= r;
    return n;
  }
};

Sizes sizes_of(const Facts& f, Checkpoint& c) {
  Sizes s{};
  s.channels = f.integer("audio_channels", 1, 2, 1);
  s.width = f.integer("hidden_size", 1, 1 << 20, 512);
  s.filters = f.integer("num_filters", 1, 1 << 20, 64);
  s.residuals = f.integer("num_residual_layers", 0, 64, 1);
  s.kernel = f.integer("kernel_size", 1, 65536, 7);
  s.last_kernel = f.integer("last_kernel_size", 1, 65536, 3);
  s.residual_kernel = f.integer("residual_kernel_size", 1, 65536, 3);
  s.growth = f.integer("dilation_growth_rate", 1, 64, 2);
  s.compress = f.integer("compress", 1, 1 << 20, 2);
  s.codes = f.integer("codebook_size", 1, 1 << 22, 2048);
  s.code_width = f.integer("vector_quantization_hidden_dimension", 1, 1 << 20, 256);
  f.expect("codebook_dim", s.code_width);
  s.quantisers = f.integer("num_quantizers", 1, 1024, 32);
  s.semantic = f.integer("num_semantic_quantizers", 1, 1024, 1);
  s.layers = f.integer("num_hidden_layers", 1, 4096, 8);
  s.ffn = f.integer("intermediate_size", 1, 1 << 20, 2048);
  s.heads = f.integer("num_attention_heads", 1, 65536, 8);
  s.kv_heads = f.integer("num_key_value_heads", 1, 65536, 8);
  s.head = f.integer("head_dim", 2, 65536, s.width / s.heads);
  s.window = f.integer("sliding_window", 1, 1 << 30, 250);
  const size_t ratios =
      f.has("upsampling_ratios") && f.find("upsampling_ratios")->is_array() ? f.find("upsampling_ratios")->size() : 4;
  s.ratios = f.has("upsampling_ratios") ? f.integers("upsampling_ratios", ratios) : std::vector<int64_t>{8, 6, 5, 4};
  s.trim = f.number("trim_right_ratio", 1);
  s.eps = f.number("norm_eps", 1e-5);
  s.has_shortcut = f.boolean("use_conv_shortcut", false);
  const std::string padding = f.text("pad_mode", "constant");
  s.is_replicated = padding == "replicate";
  if (!s.is_replicated && padding != "constant")
    f.refuse("pad_mode", "is \"" + printable(padding) + "\", which is not supported");
  s.activation = activation_named(f, "hidden_act", "gelu");
  s.rope_base = f.number("rope_theta", 10000);
  if (const auto rope = f.inside("rope_parameters")) {
    rope->expect("rope_type", "default");
    s.rope_base = rope->number("rope_theta", s.rope_base);
  }
  f.expect("use_causal_conv", true);
  if (s.quantisers < s.semantic) f.refuse("num_semantic_quantizers", "is more than num_quantizers");
  if (const SourceTensor* t = c.peek("downsample.conv.weight"); t && t->shape.size() == 3)
    s.latent_stride = std::max<int64_t>(int64_t(t->shape[2]) / 2, 1);
  f.pass_over({"upsample_groups", "sampling_rate", "frame_rate", "_frame_rate", "max_position_embeddings",
               "initializer_range", "use_streaming", "attention_dropout", "layer_scale_initial_scale", "attention_bias",
               "tie_word_embeddings", "frame_size", "encodec_frame_rate", "num_codebooks", "normalize",
               "chunk_length_s", "overlap", "use_cache"});
  return s;
}

class Half {
 public:
  Half(Signal& signal, const Sizes& sizes) : net(signal), s(sizes) {}

  // [batch, channels, samples] to [batch, frames, width].
  Var encode(const Var& samples) {
    Var x = conv(net.turned(samples, {0, 2, 1}), "encoder.layers.0", s.filters, {s.kernel});
    int64_t at = 1, width = s.filters;
    for (size_t r = s.ratios.size(); r-- > 0;) {
      for (int64_t j = 0; j < s.residuals; ++j) x = residual(x, "encoder.layers." + std::to_string(at++), j);
      const std::string name = "encoder.layers." + std::to_string(at + 1);
      x = conv(elu(x), name, width *= 2, {2 * s.ratios[r], s.ratios[r]});
      at += 2;
    }
    x = conv(elu(x), "encoder.layers." + std::to_string(at + 1), s.width, {s.last_kernel});
    x = transformer(x, "encoder_transformer.");
    if (s.latent_stride == 1) return x;
    return conv(x, "downsample", s.width, {2 * s.latent_stride, s.latent_stride}, true);
  }
  // [batch, frames, width] to [batch, channels, samples].
  Var decode(Var x) {
    if (s.latent_stride > 1) x = longer(x, "upsample", s.width, s.latent_stride, s.width);
    x = transformer(x, "decoder_transformer.");
    int64_t width = s.filters << s.ratios.size(), at = 1;
    x = conv(x, "decoder.layers.0", width, {s.kernel});
    for (int64_t ratio : s.ratios) {
      x = longer(elu(x), "decoder.layers." + std::to_string(at + 1), width /= 2, ratio, 1);
      at += 2;
      for (int64_t j = 0; j < s.residuals; ++j) x = residual(x, "decoder.layers." + std::to_string(at++), j);
    }
    x = conv(elu(x), "decoder.layers." + std::to_string(at + 1), s.channels, {s.last_kernel});
    return net.turned(x, {0, 2, 1});
  }
  // [batch, frames, width] to [batch, quantisers, frames] of i32: of each quantiser the nearest row of its table to
  // what those before it left over.
  Var codes_of(const Var& x) {
    std::vector<Var> all;
    each_part([&](const std::string& p, int64_t count) {
      Var rest = x;
      if (s.code_width != s.width) rest = net.conv(x, p + "input_proj", s.code_width, {});
      for (int64_t i = 0; i < count; ++i) {
        const Names n = Signal::sizes(rest);
        const Var code = nearest(rest, p, i);
        all.push_back(net.view(code, {n[0], "1", n[1]}));
        rest = net.less(rest, looked_up(code, p, i));
      }
    });
    const Var codes = net.joined(all, 1), out = net.make("codes", codes.axis, codes.dims, false, format::DType::i32);
    net.graph().op("cast", {codes.name}, {out.name});
    return out;
  }
  Var values_of(const Var& codes) {
    int64_t at = 0;
    Var sum;
    const Names n = Signal::sizes(codes);
    const Var numbers = net.of_type(codes, format::DType::f32);
    each_part([&](const std::string& p, int64_t count) {
      Var part;
      for (int64_t i = 0; i < count; ++i) {
        const Var row = looked_up(net.view(net.cut(numbers, 1, at++, "1"), {n[0], n[2]}), p, i);
        part = i ? net.plus(part, row) : row;
      }
      if (s.code_width != s.width) part = net.conv(part, p + "output_proj", s.width, {});
      sum = sum.name.empty() ? part : net.plus(sum, part);
    });
    return sum;
  }

 private:
  template <class Fn>
  void each_part(Fn fn) {
    fn("quantizer.semantic_residual_vector_quantizer.", s.semantic);
    if (s.quantisers > s.semantic) fn("quantizer.acoustic_residual_vector_quantizer.", s.quantisers - s.semantic);
  }
  std::string part_name(const std::string& p, int64_t i) { return p + "layers." + std::to_string(i) + ".codebook"; }
  std::vector<float> table(const std::string& name) {
    std::vector<float> rows = net.values(name + ".embed_sum", {s.codes, s.code_width});
    const std::vector<float> usage = net.values(name + ".cluster_usage", {s.codes});
    net.find(name + ".initialized");
    for (size_t i = 0; i < rows.size(); ++i) rows[i] /= std::max(usage[i / size_t(s.code_width)], 1e-5f);
    return rows;
  }
  // The row with the largest x . row - |row|^2 / 2, as f32 numbers [batch, frames].
  Var nearest(const Var& x, const std::string& p, int64_t i) {
    const std::string name = part_name(p, i);
    const std::vector<float> rows = table(name);
    std::vector<float> halves(size_t(s.codes), 0);
    for (size_t k = 0; k < rows.size(); ++k) halves[k / size_t(s.code_width)] -= rows[k] * rows[k] / 2;
    const Var scores = net.times(x, net.made_matrix(name + ".rows", rows, s.codes, s.code_width),
                                 net.numbers(name + ".halves", halves, {s.codes}).name, {s.codes});
    const Var best = net.reduced(ReduceKind::max, scores, 2, true);
    std::vector<float> places;
    for (int64_t k = 0; k < s.codes; ++k) places.push_back(float(k));
    const Var place = net.chosen(net.compared(format::ArithmeticKind::at_most, best, scores),
                                 net.numbers("places", places, {s.codes}), net.number(double(s.codes - 1)));
    return net.reduced(ReduceKind::min, place, 2);
  }
  Var looked_up(const Var& code, const std::string& p, int64_t i) {
    const std::string name = part_name(p, i);
    const Var ids = net.of_type(code, format::DType::i32);
    Names n = Signal::sizes(code);
    n.push_back(std::to_string(s.code_width));
    const std::string rows = net.numbers(name + ".table", table(name), {s.codes, s.code_width}).name;
    return net.apply("embedding", {ids.name, rows}, n, format::EmbeddingAttrsT());
  }

  Var elu(const Var& x) { return net.math(format::MathKind::elu, x, 1); }
  // Sees the past alone; the end is filled up so that every sample counts.
  Var conv(const Var& x, const std::string& name, int64_t out, Slide w, bool is_replicated = false) {
    w.before = w.reach() - w.stride, w.behind = w.stride - 1;
    if (!is_replicated && !s.is_replicated) return net.conv(x, name + ".conv", out, w);
    const std::string all = more(Signal::sizes(x)[1], w.before + w.behind);
    const Var padded = net.padded(x, 1, w.before, all, format::PadKind::edge);
    w.before = w.behind = 0;
    return net.conv(padded, name + ".conv", out, w);
  }
  Var longer(const Var& x, const std::string& name, int64_t out, int64_t stride, int64_t groups) {
    const int64_t right = int64_t(std::ceil(double(stride) * s.trim));
    Slide w = {2 * stride, stride};
    w.groups = groups;
    return net.conv_transposed(x, name + ".conv", out, w, stride - right, multiple(Signal::sizes(x)[1], stride));
  }
  Var residual(const Var& x, const std::string& name, int64_t j) {
    const int64_t width = x.dims.back();
    int64_t dilation = 1;
    for (int64_t i = 0; i < j; ++i) dilation *= s.growth;
    Var y = conv(elu(x), name + ".block.1", width / s.compress, {s.residual_kernel, 1, dilation});
    y = conv(elu(y), name + ".block.3", width, {});
    return net.plus(s.has_shortcut ? conv(x, name + ".shortcut", width, {}) : x, y);
  }
  Var transformer(Var x, const std::string& prefix) {
    const std::string rope = net.constant("/rope", rope_frequencies(s.rope_base, s.head), {-1});
    SpeechAttention a;
    a.o = "o_proj", a.heads = s.heads, a.kv_heads = s.kv_heads, a.head = s.head;
    a.how.causal = true, a.how.window = s.window;
    a.rotate = [&](const Var& v) { return net.rotated(v, rope); };
    const auto scaled = [&](const Var& y, const std::string& name) {
      return net.by(y, net.tensor(name + ".scale", {s.width}));
    };
    for (int64_t i = 0; i < s.layers; ++i) {
      const std::string p = prefix + "layers." + std::to_string(i) + ".";
      a.prefix = p + "self_attn.";
      const Var mixed = speech_attention(net, a, net.norm(x, p + "input_layernorm", s.eps));
      x = net.plus(x, scaled(mixed, p + "self_attn_layer_scale"));
      const Var y = net.norm(x, p + "post_attention_layernorm", s.eps);
      x = net.plus(x, scaled(speech_mlp(net, y, p + "mlp.fc1", p + "mlp.fc2", s.ffn, s.activation),
                             p + "mlp_layer_scale"));
    }
    return x;
  }

  Signal& net;
  const Sizes& s;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  if (const std::string task = class_of(f, "MimiModel"); task != "MimiModel")
    f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  const Sizes s = sizes_of(f, c);
  const Naming naming = {"", "", {}};
  // The context counts frames of codes.
  Signal all(c, b, naming, 250, kSoundsAtOnce);
  all.axis("samples", std::to_string(s.hop()) + "*context");
  all.axis("codes", "context");
  const Names sound = {"batch", std::to_string(s.channels), "samples"},
              codes = {"batch", std::to_string(s.quantisers), "codes"};
  Half both(all, s);
  const Var found = both.codes_of(both.encode(all.given("input_values", sound)));
  all.output(found, "audio_codes", format::DType::i32);
  all.output(all.cut(both.decode(both.values_of(found)), 2, 0, "samples"), "audio_values");
  Signal front(c, b, naming, 0, 0, "encode");
  Half encoder(front, s);
  front.output(encoder.codes_of(encoder.encode(front.given("input_values", sound))), "audio_codes", format::DType::i32);
  Signal back(c, b, naming, 0, 0, "decode");
  Half decoder(back, s);
  back.output(decoder.decode(decoder.values_of(back.given("audio_codes", codes, format::DType::i32))), "audio_values");
}

}  // namespace

extern const Recipe mimi_recipe;
const Recipe mimi_recipe = {"mimi", {}, {"mimi"}, build};

}  // namespace runnel::convert
