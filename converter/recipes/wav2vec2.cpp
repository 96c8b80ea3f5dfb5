// wav2vec 2.0 (arXiv 2006.11477) and its relatives: HuBERT, WavLM, data2vec-audio, UniSpeech. Convolutions make frames
// of samples, an encoder sees all frames.
//
// Inputs: input_values [batch, samples]; attention_mask [batch, samples], 0 behind a sound that is shorter, else 1.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;
using format::UnaryKind;

class Builder {
 public:
  Builder(Checkpoint& c, ModelBuilder& b, const Facts& facts, const std::string& root)
      : f(facts),
        family(f.text("model_type", "")),
        hidden(f.integer("hidden_size", 1, 1 << 20, 768)),
        ffn(f.integer("intermediate_size", 1, 1 << 20, 3072)),
        layers(f.integer("num_hidden_layers", 1, 4096, 12)),
        heads(f.integer("num_attention_heads", 1, 65536, 12)),
        eps(f.number("layer_norm_eps", 1e-5)),
        activation(activation_named(f, "hidden_act", "gelu")),
        features_activation(activation_named(f, "feat_extract_activation", "gelu")),
        is_stable(f.boolean("do_stable_layer_norm", false)),
        net(c, b, {root, "", {}}, 1500, kSoundsAtOnce) {
    if (hidden % heads) f.refuse("num_attention_heads", "does not divide hidden_size");
    read_windows();
    int64_t stride = 1;
    for (const Slide& w : windows) stride *= w.stride;
    net.axis("samples", std::to_string(stride) + "*context");
    pass_over_training();
  }

  void build(Checkpoint& c) {
    const Var mask = find_frames();
    Var x = net.linear(features, "feature_projection.projection", hidden);
    Var visible = net.compared(format::ArithmeticKind::less, net.view(net.counted(frames), {"1", frames}), lengths);
    visible = net.of_type(visible, format::DType::f32);
    x = net.by(x, net.view(visible, {"batch", frames, "1"}));
    unseen = net.unseen(visible);
    x = net.plus(x, positions(x));
    if (!is_stable) x = net.norm(x, "encoder.layer_norm", eps);
    for (int64_t i = 0; i < layers; ++i) {
      states.push_back(x);
      x = layer(x, "encoder.layers." + std::to_string(i) + ".", i == 0);
    }
    states.push_back(x);
    if (is_stable) x = net.norm(x, "encoder.layer_norm", eps);
    head(c, adapted(x));
    c.ignore_containing("masked_spec_embed");
  }

 private:
  void read_windows() {
    const auto list = [&](const char* key, std::vector<int64_t> otherwise) {
      return f.has(key) ? f.integers(key, otherwise_count(key), 1, 1 << 20) : otherwise;
    };
    widths = list("conv_dim", {512, 512, 512, 512, 512, 512, 512});
    const std::vector<int64_t> kernels = list("conv_kernel", {10, 3, 3, 3, 3, 2, 2}),
                               strides = list("conv_stride", {5, 2, 2, 2, 2, 2, 2});
    if (kernels.size() != widths.size() || strides.size() != widths.size())
      f.refuse("conv_kernel", "has another length than conv_dim");
    f.expect("num_feat_extract_layers", int64_t(widths.size()));
    for (size_t i = 0; i < widths.size(); ++i) windows.push_back({kernels[i], strides[i]});
  }
  size_t otherwise_count(const char* key) const {
    const Json* list = f.find(key);
    return list && list->is_array() ? list->size() : 1;
  }
  void pass_over_training() {
    f.pass_over({"hidden_dropout",
                 "activation_dropout",
                 "attention_dropout",
                 "feat_proj_dropout",
                 "feat_quantizer_dropout",
                 "final_dropout",
                 "layerdrop",
                 "initializer_range",
                 "apply_spec_augment",
                 "mask_time_prob",
                 "mask_time_length",
                 "mask_time_min_masks",
                 "mask_feature_prob",
                 "mask_feature_length",
                 "mask_feature_min_masks",
                 "num_codevectors_per_group",
                 "num_codevector_groups",
                 "contrastive_logits_temperature",
                 "num_negatives",
                 "codevector_dim",
                 "proj_codevector_dim",
                 "diversity_loss_weight",
                 "ctc_loss_reduction",
                 "ctc_zero_infinity",
                 "classifier_proj_size",
                 "tdnn_dim",
                 "tdnn_kernel",
                 "tdnn_dilation",
                 "xvector_output_dim",
                 "num_feat_extract_layers",
                 "conv_bias",
                 "adapter_attn_dim",
                 "add_adapter",
                 "adapter_kernel_size",
                 "adapter_stride",
                 "num_adapter_layers",
                 "output_hidden_size",
                 "vocab_size",
                 "num_ctc_classes",
                 "max_speech_classes",
                 "replace_prob",
                 "feat_proj_layer_norm",
                 "conv_pos_batch_norm",
                 "use_weighted_layer_sum",
                 "feat_extract_norm",
                 "feat_extract_dropout",
                 "tokenizer_class",
                 "num_buckets",
                 "max_bucket_distance",
                 "num_clusters",
                 "conv_pos_kernel_size",
                 "mask_channel_length",
                 "mask_channel_min_space",
                 "mask_channel_other",
                 "mask_channel_prob",
                 "mask_channel_selection",
                 "mask_time_min_space",
                 "mask_time_other",
                 "mask_time_selection",
                 "use_relative_position_bias"});
  }

  // Frames of samples; lengths: how many of them belong to each sound, [batch, 1].
  Var find_frames() {
    const bool is_group = f.text("feat_extract_norm", family == "data2vec-audio" ? "layer" : "group") == "group";
    if (!is_group) f.expect("feat_extract_norm", "layer");
    Var x = net.view(net.given("input_values", {"batch", "samples"}), {"batch", "samples", "1"});
    const Var mask = net.filled("attention_mask", {"batch", "samples"}, 1);
    lengths = net.reduced(ReduceKind::sum, mask, 1, true);
    for (size_t i = 0; i < windows.size(); ++i) {
      const std::string p = "feature_extractor.conv_layers." + std::to_string(i) + ".";
      x = net.conv(x, p + "conv", widths[i], windows[i]);
      if (is_group && i == 0) x = group_norm(x, p + "layer_norm");
      if (!is_group) x = net.norm(x, p + "layer_norm", 1e-5);
      x = net.unary(features_activation, x);
      lengths = shortened(lengths, windows[i].kernel, windows[i].stride);
    }
    frames = Signal::sizes(x)[1];
    features = f.boolean("feat_proj_layer_norm", true) ? net.norm(x, "feature_projection.layer_norm", eps) : x;
    return mask;
  }
  Var shortened(const Var& n, int64_t kernel, int64_t stride) {
    const Var free = net.less(n, net.number(double(kernel)));
    return net.plus(net.unary(UnaryKind::floor, net.over(free, net.number(double(stride)))), net.number(1));
  }
  // Each channel over all frames.
  Var group_norm(const Var& x, const std::string& name) {
    const int64_t n = x.dims.back();
    format::GroupNormAttrsT attrs;
    attrs.groups = uint32_t(n);
    return net.apply("group_norm",
                     {x.name, net.tensor(name + ".weight", {n}).name, net.tensor(name + ".bias", {n}).name},
                     Signal::sizes(x), attrs);
  }

  // The weights of a convolution that stand apart as directions and sizes, a size for each place of the window.
  std::vector<float> joined_weights(const std::string& name, const std::vector<int64_t>& shape) {
    const bool is_newer = net.has(name + ".parametrizations.weight.original0");
    const std::string g = name + (is_newer ? ".parametrizations.weight.original0" : ".weight_g"),
                      v = name + (is_newer ? ".parametrizations.weight.original1" : ".weight_v");
    const std::vector<float> size = net.values(g, {1, 1, shape[2]});
    std::vector<float> weight = net.values(v, shape);
    std::vector<double> squares(size.size(), 0);
    for (size_t i = 0; i < weight.size(); ++i) squares[i % size.size()] += double(weight[i]) * double(weight[i]);
    for (size_t i = 0; i < weight.size(); ++i)
      weight[i] = float(double(weight[i]) * double(size[i % size.size()]) / std::sqrt(squares[i % size.size()]));
    return weight;
  }
  Var positions(Var x) {
    const std::string p = "encoder.pos_conv_embed.";
    const int64_t groups = f.integer("num_conv_pos_embedding_groups", 1, 65536, 16);
    if (hidden % groups) f.refuse("num_conv_pos_embedding_groups", "does not divide hidden_size");
    const auto window = [&](int64_t kernel) {
      return Slide{kernel, 1, 1, kernel / 2, kernel / 2 - (kernel % 2 == 0), groups};
    };
    if (family == "data2vec-audio") {
      const Slide w = window(f.integer("conv_pos_kernel_size", 1, 65536, 19));
      const int64_t count = f.integer("num_conv_pos_embeddings", 1, 4096, 5);
      for (int64_t i = 0; i < count; ++i) {
        x = net.conv(x, p + "layers." + std::to_string(i) + ".conv", hidden, w);
        x = net.unary(features_activation, net.layer_norm(x, "", "", 1e-5));
      }
      return x;
    }
    const Slide w = window(f.integer("num_conv_pos_embeddings", 1, 65536, 128));
    if (f.boolean("conv_pos_batch_norm", false)) {
      x = net.conv(net.batch_norm(x, p + "batch_norm", 1e-5), p + "conv", hidden, w);
    } else {
      const std::vector<float> weights = joined_weights(p + "conv", {hidden, hidden / groups, w.kernel});
      x = net.conv(x, p + "conv", hidden, w, &weights);
    }
    return net.unary(features_activation, x);
  }

  Var attention(const Var& x, const std::string& p, bool is_first) {
    SpeechAttention a;
    a.prefix = p + "attention.";
    a.heads = heads;
    a.how.unseen = unseen;
    if (family == "wavlm") a.how.bias = gated_distances(x, a.prefix, is_first);
    return speech_attention(net, a, x);
  }
  Var layer(const Var& x, const std::string& p, bool is_first) {
    const auto feed = [&](const Var& v) {
      return speech_mlp(net, v, p + "feed_forward.intermediate_dense", p + "feed_forward.output_dense", ffn,
                        activation);
    };
    if (!is_stable) {
      const Var y = net.norm(net.plus(x, attention(x, p, is_first)), p + "layer_norm", eps);
      return net.norm(net.plus(y, feed(y)), p + "final_layer_norm", eps);
    }
    Var y = net.plus(x, attention(net.norm(x, p + "layer_norm", eps), p, is_first));
    y = net.plus(y, feed(net.norm(y, p + "final_layer_norm", eps)));
    const std::string own = p + "adapter_layer.";
    if (!net.has(own + "norm.weight")) return y;
    return net.plus(y, speech_mlp(net, net.norm(y, own + "norm", 1e-5), own + "linear_1", own + "linear_2",
                                  f.integer("adapter_attn_dim"), UnaryKind::relu));
  }

  // WavLM: a bias by the distance between two frames, which each query weighs.
  Var gated_distances(const Var& x, const std::string& p, bool is_first) {
    if (is_first)
      distances = distance_bias(net, p + "rel_attn_embed.weight", f.integer("num_buckets", 4, 65536, 320),
                                f.integer("max_bucket_distance", 1, 1 << 16, 800), heads, frames, true);
    const int64_t head = hidden / heads;
    const Var in_heads = net.view(x, {"batch", frames, std::to_string(heads), std::to_string(head)});
    const Var both =
        net.view(net.linear(in_heads, p + "gru_rel_pos_linear", 8), {"batch", frames, std::to_string(heads), "2", "4"});
    const Var gates = net.turned(net.unary(UnaryKind::sigmoid, net.reduced(ReduceKind::sum, both, 4)), {0, 2, 1, 3});
    const Var factor = net.tensor(p + "gru_rel_pos_const", {1, heads, 1, 1}, {heads, 1, 1});
    const Var inner = net.less(net.by(net.cut(gates, 3, 1, "1"), factor), net.number(1));
    return net.by(net.plus(net.by(net.cut(gates, 3, 0, "1"), inner), net.number(2)), distances);
  }
  Var adapted(Var x) {
    if (!f.boolean("add_adapter", false)) return x;
    const int64_t out = f.integer("output_hidden_size", 1, 1 << 20, hidden),
                  count = f.integer("num_adapter_layers", 1, 4096, 3);
    if (out != hidden) x = net.norm(net.linear(x, "adapter.proj", out), "adapter.proj_layer_norm", 1e-5);
    const Slide w = {f.integer("adapter_kernel_size", 1, 65536, 3), f.integer("adapter_stride", 1, 65536, 2), 1, 1, 1};
    for (int64_t i = 0; i < count; ++i)
      x = gated_halves(net, net.conv(x, "adapter.layers." + std::to_string(i) + ".conv", 2 * out, w));
    return x;
  }
  Var all_states(const Var& x) {
    if (!f.boolean("use_weighted_layer_sum", false)) return x;
    const int64_t count = int64_t(states.size());
    std::vector<float> weights = net.values("/layer_weights", {count});
    double sum = 0;
    for (float& w : weights) sum += double(w = std::exp(w));
    Var all;
    for (size_t i = 0; i < states.size(); ++i) {
      const Var part = net.scale(states[i], double(weights[i]) / sum);
      all = i ? net.plus(all, part) : part;
    }
    return all;
  }
  // The mean of the places whose mask [batch, places] is set.
  Var mean_of(const Var& x, const Var& mask, const Var& count) {
    const Names n = Signal::sizes(x);
    return net.over(net.reduced(ReduceKind::sum, net.by(x, net.view(mask, {n[0], n[1], "1"})), 1), count);
  }
  Var first_places(const std::string& size, const Var& count) {
    const Var is_in = net.compared(format::ArithmeticKind::less, net.view(net.counted(size), {"1", size}), count);
    return net.of_type(is_in, format::DType::f32);
  }
  int64_t labels(const std::string& name) { return int64_t(net.find(name + ".weight").shape.at(0)); }

  void head(Checkpoint& c, const Var& x) {
    const std::string name = class_of(f, "Model");
    const auto is = [&](const char* end) { return name.ends_with(end); };
    if (is("ForCTC")) {
      net.output(net.linear(x, "/lm_head", labels("/lm_head")), "logits");
    } else if (is("ForSequenceClassification")) {
      const Var y = net.linear(all_states(x), "/projector", f.integer("classifier_proj_size", 1, 1 << 20, 256));
      const Var mean = mean_of(y, first_places(frames, lengths), lengths);
      net.output(net.linear(mean, "/classifier", labels("/classifier")), "logits");
    } else if (is("ForAudioFrameClassification")) {
      net.output(net.linear(all_states(x), "/classifier", labels("/classifier")), "logits");
    } else if (is("ForXVector")) {
      speaker(all_states(x));
    } else if (is("Model") || is("ForPreTraining")) {
      net.output(x, "last_hidden_state");
      if (family != "hubert") net.optional_output(features, "extract_features");
      c.leave_out({"quantizer", "project_q", "project_hid", "lm_head"}, "the head of the training");
    } else {
      f.refuse("architectures", "names " + printable(name) + ", which is not supported");
    }
    if (!is("Model") && !is("ForPreTraining")) c.ignore_containing("objective.");
  }
  // The mean and the deviation of all frames, as the voice of a person.
  void speaker(const Var& hidden_states) {
    const auto list = [&](const char* key, std::vector<int64_t> otherwise) {
      return f.has(key) ? f.integers(key, otherwise_count(key), 1, 1 << 20) : otherwise;
    };
    const std::vector<int64_t> width = list("tdnn_dim", {512, 512, 512, 512, 1500}),
                               kernel = list("tdnn_kernel", {5, 3, 3, 1, 1}),
                               dilation = list("tdnn_dilation", {1, 2, 3, 1, 1});
    if (width.empty() || kernel.size() != width.size() || dilation.size() != width.size())
      f.refuse("tdnn_kernel", "has another length than tdnn_dim");
    Var x = net.linear(hidden_states, "/projector", width[0]), count = lengths;
    for (size_t i = 0; i < width.size(); ++i) {
      const int64_t in = x.dims.back(), k = kernel[i];
      const std::string p = "/tdnn." + std::to_string(i) + ".kernel";
      const std::vector<float> rows = net.values(p + ".weight", {width[i], k * in});
      std::vector<float> weights(rows.size());
      for (int64_t o = 0; o < width[i]; ++o)
        for (int64_t at = 0; at < k; ++at)
          for (int64_t ch = 0; ch < in; ++ch)
            weights[size_t((o * in + ch) * k + at)] = rows[size_t((o * k + at) * in + ch)];
      x = net.unary(UnaryKind::relu, net.conv(x, p, width[i], {k, 1, dilation[i]}, &weights));
      count = shortened(count, k, 1);
    }
    const std::string size = Signal::sizes(x)[1];
    const Var mask = first_places(size, count), seen = net.reduced(ReduceKind::sum, mask, 1, true);
    const Var mean = mean_of(x, mask, seen);
    const Var centred = net.less(x, net.view(mean, {"batch", "1", std::to_string(width.back())}));
    const Var spread = mean_of(net.unary(UnaryKind::square, centred), mask, net.less(seen, net.number(1)));
    const Var both = net.joined({mean, net.unary(UnaryKind::sqrt, spread)}, 1);
    const Var y = net.linear(both, "/feature_extractor", f.integer("xvector_output_dim", 1, 1 << 20, 512));
    net.output(net.linear(y, "/classifier", labels("/classifier")), "logits");
    net.output(y, "embeddings");
  }

  Facts f;
  std::string family;
  int64_t hidden, ffn, layers, heads;
  double eps;
  UnaryKind activation, features_activation;
  bool is_stable;
  Signal net;
  std::vector<int64_t> widths;
  std::vector<Slide> windows;
  std::string frames;
  Var lengths, features, unseen, distances;
  std::vector<Var> states;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  std::string root = f.text("model_type", "");
  for (char& ch : root)
    if (ch == '-') ch = '_';
  Builder(c, b, f, root + ".").build(c);
}

}  // namespace

extern const Recipe wav2vec2_recipe;
const Recipe wav2vec2_recipe = {
    "wav2vec2", {}, {"wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat"}, build};

}  // namespace runnel::convert
