// PatchTST (arXiv 2211.14730): pieces of each channel of a time series are the tokens of an encoder.
#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/series.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;

struct Sizes {
  int64_t channels = 1, width = 0, heads = 1, ffn = 0;
  bool is_batch_norm = true, is_pre_norm = true, has_class = false, attends_channels = false;
  double eps = 1e-5;
  format::UnaryKind activation = format::UnaryKind::gelu;
  Patches patches;
  int64_t tokens() const { return patches.count() + has_class; }
};

Sizes sizes_of(const Facts& f) {
  Sizes s;
  s.channels = f.integer("num_input_channels", 1, 65536, 1);
  s.width = f.integer("d_model", 1, 1 << 20, 128);
  s.heads = f.integer("num_attention_heads", 1, 65536, 4);
  s.ffn = f.integer("ffn_dim", 1, 1 << 20, 512);
  s.is_batch_norm = f.text("norm_type", "batchnorm") == "batchnorm";
  if (!s.is_batch_norm) f.expect("norm_type", "layernorm");
  s.is_pre_norm = f.boolean("pre_norm", true);
  s.has_class = f.boolean("use_cls_token", false);
  s.attends_channels = f.boolean("channel_attention", false);
  s.eps = f.number("norm_eps", 1e-5);
  s.activation = activation_named(f, "activation_function", "gelu");
  s.patches = patches_of(f);
  if (s.width % s.heads) f.refuse("num_attention_heads", "does not divide d_model");
  f.pass_over({"positional_encoding_type",
               "bias",
               "attention_dropout",
               "positional_dropout",
               "path_dropout",
               "ff_dropout",
               "head_dropout",
               "init_std",
               "num_parallel_samples",
               "prediction_length",
               "num_targets",
               "share_embedding",
               "share_projection",
               "do_mask_input",
               "mask_type",
               "random_mask_ratio",
               "num_forecast_mask_patches",
               "channel_consistent_masking",
               "unmasked_channel_indices",
               "mask_value",
               "pooling_type",
               "loss",
               "distribution_output",
               "output_range",
               "scaling"});
  return s;
}

Var embedded(Signal& net, const Facts& f, const Sizes& s, const Var& patches) {
  const std::string name = "encoder.embedder.input_embedding";
  if (f.boolean("share_embedding", true)) return net.linear(patches, name, s.width);
  std::vector<Var> parts;
  for (int64_t c = 0; c < s.channels; ++c)
    parts.push_back(net.linear(net.cut(patches, 1, c, "1"), name + "." + std::to_string(c), s.width));
  return net.joined(parts, 1);
}

Var positioned(Signal& net, const Sizes& s, const Var& x) {
  const std::string prefix = "encoder.positional_encoder.";
  const Var positions = net.tensor(prefix + "position_enc", {s.tokens(), s.width});
  if (!s.has_class) return net.plus(x, positions);
  const Var first = net.plus(net.tensor(prefix + "cls_token", {1, 1, 1, s.width}), net.cut(positions, 0, 0, "1"));
  const Names n = Signal::sizes(x);
  const Var rest = net.plus(x, net.cut(positions, 0, 1, std::to_string(s.patches.count())));
  return net.joined({net.expanded(first, {n[0], n[1], "1", n[3]}), rest}, 2);
}

Var layer(Signal& net, const Sizes& s, const Var& x, const std::string& p) {
  const auto half = [&](const Var& y, const std::string& norm, auto part) {
    const auto normed = [&](const Var& v) { return series_norm(net, v, p + norm, s.is_batch_norm, s.eps); };
    return s.is_pre_norm ? net.plus(y, part(normed(y))) : normed(net.plus(y, part(y)));
  };
  const auto mix = [&](const Var& y) { return series_attention(net, y, p + "self_attn.", s.heads); };
  Var y = half(x, "norm_sublayer1", mix);
  if (s.attends_channels) y = net.turned(half(net.turned(y, {0, 2, 1, 3}), "norm_sublayer2", mix), {0, 2, 1, 3});
  return half(y, "norm_sublayer3", [&](const Var& v) {
    return net.linear(net.unary(s.activation, net.linear(v, p + "ff.0", s.ffn)), p + "ff.3", s.width);
  });
}

// [batch, channels, width]
Var pooled(Signal& net, const Facts& f, const Sizes& s, const Var& x) {
  if (s.has_class)
    return net.view(net.cut(x, 2, 0, "1"), {"batch", std::to_string(s.channels), std::to_string(s.width)});
  const std::string pool = f.is_null("pooling_type") ? "" : f.text("pooling_type", "mean");
  if (pool != "mean" && pool != "max")
    f.refuse("pooling_type", "is \"" + printable(pool) + "\", which this head has not");
  return net.reduced(pool == "mean" ? ReduceKind::mean : ReduceKind::max, x, 2);
}

void predict(Signal& net, const Facts& f, const Sizes& s, const Var& x, const Scaled& scale) {
  f.expect("share_projection", true);  // of others, transformers' own code fails
  const int64_t length = f.integer("prediction_length", 1, 1 << 20, 24);
  const bool is_pooled = s.has_class || !(f.is_null("pooling_type") || f.text("pooling_type", "mean").empty());
  const Var flat = is_pooled ? pooled(net, f, s, x)
                             : net.view(x, {"batch", std::to_string(s.channels), std::to_string(s.tokens() * s.width)});
  const Distribution d = distribution_of(f);
  const std::vector<Var> all = parameters(net, d, flat, "/head.projection", length);
  for (size_t i = 0; i < all.size(); ++i)
    net.output(net.turned(all[i], {0, 2, 1}), std::string("prediction_outputs.") + d.parameters[i]);
  if (all.empty()) {
    const Var y = net.turned(net.linear(flat, "/head.projection", length), {0, 2, 1});
    net.output(net.plus(net.by(y, scale.scale), scale.loc), "prediction_outputs");
  }
  net.optional_output(scale.loc, "loc");
  net.optional_output(scale.scale, "scale");
}

void regress(Signal& net, const Facts& f, const Sizes& s, const Var& x) {
  const int64_t targets = f.integer("num_targets", 1, 1 << 20, 1);
  const Var flat = net.view(pooled(net, f, s, x), {"batch", std::to_string(s.channels * s.width)});
  const Distribution d = distribution_of(f);
  const std::vector<Var> all = parameters(net, d, flat, "/head.projection", targets);
  for (size_t i = 0; i < all.size(); ++i)
    net.output(targets == 1 ? net.view(all[i], {"batch"}) : all[i],
               std::string("regression_outputs.") + d.parameters[i]);
  if (all.empty())
    net.output(within_range(net, f, net.linear(flat, "/head.projection", targets)), "regression_outputs");
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Sizes s = sizes_of(f);
  const std::string task = class_of(f, "PatchTSTModel");
  Signal net(c, b, {"model.", "", {}}, s.patches.context, 64);
  const Names shape = {"batch", std::to_string(s.patches.context), std::to_string(s.channels)};
  const Var values = net.given("past_values", shape);
  const Scaled scale = scaled(net, scaling_of(f, Scaling::kMean), values, net.filled("past_observed_mask", shape, 1));
  const Var input = patches(net, s.patches, scale.values);
  Var x = input;
  const bool is_plain = task == "PatchTSTModel" || task == "PatchTSTForPretraining";
  if (is_plain && (task != "PatchTSTModel" || f.boolean("do_mask_input", false))) x = with_gaps(net, f, s.patches, x);
  x = positioned(net, s, embedded(net, f, s, x));
  const int64_t layers = f.integer("num_hidden_layers", 1, 4096, 3);
  for (int64_t i = 0; i < layers; ++i) x = layer(net, s, x, "encoder.layers." + std::to_string(i) + ".");
  if (task == "PatchTSTForPrediction") return predict(net, f, s, x, scale);
  if (task == "PatchTSTForRegression") return regress(net, f, s, x);
  if (task == "PatchTSTForClassification") {
    const Var flat = net.view(pooled(net, f, s, x), {"batch", std::to_string(s.channels * s.width)});
    return net.output(net.linear(flat, "/head.linear", f.integer("num_targets", 1, 1 << 20, 1)), "prediction_logits");
  }
  if (task == "PatchTSTForPretraining") {
    const Var y = net.linear(x, "/head.linear", s.patches.length);
    return net.output(net.cut(y, 2, s.has_class, std::to_string(s.patches.count())), "prediction_output");
  }
  if (task != "PatchTSTModel") f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  net.output(x, "last_hidden_state");
  net.optional_output(scale.loc, "loc");
  net.optional_output(scale.scale, "scale");
  net.optional_output(input, "patch_input");
}

}  // namespace

extern const Recipe patchtst_recipe;
const Recipe patchtst_recipe = {"patchtst", {}, {"patchtst"}, build};

}  // namespace runnel::convert
