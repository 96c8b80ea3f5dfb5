// PatchTSMixer (arXiv 2306.09364): pieces of time series mixed by layers of plain products.
#include <algorithm>

#include "converter/recipes/recipe.h"
#include "converter/recipes/series.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;
using format::UnaryKind;

struct Sizes {
  int64_t channels = 1, width = 0, expansion = 2, heads = 0;  // heads 0: no attention
  bool is_batch_norm = false, is_gated = true, mixes_channels = false;
  double eps = 1e-5;
  Patches patches;
};

Sizes sizes_of(const Facts& f) {
  Sizes s;
  s.channels = f.integer("num_input_channels", 1, 65536, 1);
  s.width = f.integer("d_model", 1, 1 << 20, 8);
  s.expansion = f.integer("expansion_factor", 1, 1024, 2);
  std::string norm = f.text("norm_mlp", "LayerNorm");
  std::transform(norm.begin(), norm.end(), norm.begin(), [](unsigned char ch) { return char(std::tolower(ch)); });
  s.is_batch_norm = norm.find("batch") != std::string::npos;
  s.is_gated = f.boolean("gated_attn", true);
  const int64_t heads = f.integer("self_attn_heads", 1, 65536, 1);
  if (f.boolean("self_attn", false)) s.heads = heads;
  if (s.heads && s.width % s.heads) f.refuse("self_attn_heads", "does not divide d_model");
  s.mixes_channels = f.text("mode", "common_channel") == "mix_channel";
  s.eps = f.number("norm_eps", 1e-5);
  s.patches = patches_of(f);
  f.expect("num_patches", s.patches.count());
  f.pass_over({"positional_encoding_type",
               "post_init",
               "init_std",
               "dropout",
               "head_dropout",
               "num_parallel_samples",
               "patch_last",
               "masked_loss",
               "prediction_length",
               "num_targets",
               "mask_type",
               "random_mask_ratio",
               "num_forecast_mask_patches",
               "channel_consistent_masking",
               "unmasked_channel_indices",
               "mask_value",
               "loss",
               "distribution_output",
               "output_range",
               "scaling",
               "head_aggregation",
               "prediction_channel_indices"});
  return s;
}

Var mlp(Signal& net, const Sizes& s, const Var& x, const std::string& p) {
  const int64_t n = x.dims.back();
  return net.linear(net.unary(UnaryKind::gelu, net.linear(x, p + "fc1", n * s.expansion)), p + "fc2", n);
}
Var gated(Signal& net, const Sizes& s, const Var& x, const std::string& p) {
  if (!s.is_gated) return x;
  const Var scores = net.linear(x, p + "gating_block.attn_layer", x.dims.back());
  return net.by(x, net.apply("softmax", {scores.name}, Signal::sizes(scores), format::SoftmaxAttrsT()));
}
Var normed(Signal& net, const Sizes& s, const Var& x, const std::string& name) {
  return series_norm(net, x, name + ".norm", s.is_batch_norm, s.eps);
}

// x [batch, channels, patches, width]
Var layer(Signal& net, const Sizes& s, Var x, const std::string& prefix) {
  if (s.mixes_channels) {
    const std::string p = prefix + "channel_feature_mixer.";
    const Var y = net.turned(normed(net, s, x, p + "norm"), {0, 3, 2, 1});
    x = net.plus(net.turned(mlp(net, s, gated(net, s, y, p), p + "mlp."), {0, 3, 2, 1}), x);
  }
  std::string p = prefix + "patch_mixer.";
  Var y = normed(net, s, x, p + "norm");
  const Var attended = s.heads ? series_attention(net, y, p + "self_attn_layer.", s.heads) : Var{};
  y = gated(net, s, mlp(net, s, net.turned(y, {0, 1, 3, 2}), p + "mlp."), p);
  y = net.turned(y, {0, 1, 3, 2});
  if (s.heads) y = normed(net, s, net.plus(y, attended), p + "norm_attn");
  x = net.plus(y, x);
  p = prefix + "feature_mixer.";
  y = gated(net, s, mlp(net, s, normed(net, s, x, p + "norm"), p + "mlp."), p);
  return net.plus(y, x);
}

// x and what its scaling was, through two small products.
Var with_scale(Signal& net, const Sizes& s, const Var& x, const Scaled& scale) {
  const std::string p = "/inject_scale.";
  const auto for_each = [&](const Var& v) {
    return net.expanded(net.view(v, {"batch", std::to_string(s.channels), "1", "1"}),
                        {"batch", std::to_string(s.channels), std::to_string(s.patches.count()), "1"});
  };
  const Var both = net.joined({for_each(scale.loc), for_each(scale.scale)}, 3);
  const Var known = net.linear(net.linear(both, p + "map_scale_expansion", 4), p + "map_scale_compression", 2);
  return net.linear(net.linear(net.joined({x, known}, 3), p + "inverse_trans_expansion", 2 * s.width),
                    p + "inverse_trans_compression", s.width);
}

// [batch, all that is left], in the order channels, width, patches.
Var aggregated(Signal& net, const Facts& f, const Sizes& s, const Var& x) {
  const std::string how = f.is_null("head_aggregation") ? "" : f.text("head_aggregation", "max_pool");
  const int64_t flat = s.channels * s.width;
  Var y;
  if (how == "use_last") y = net.cut(x, 2, s.patches.count() - 1, "1");
  else if (how == "max_pool" || how == "avg_pool")
    y = net.reduced(how == "max_pool" ? ReduceKind::max : ReduceKind::mean, x, 2);
  else if (how.empty())
    return net.view(net.turned(x, {0, 1, 3, 2}), {"batch", std::to_string(flat * s.patches.count())});
  else f.refuse("head_aggregation", "is \"" + printable(how) + "\", which is not supported");
  return net.view(y, {"batch", std::to_string(flat)});
}

void predict(Signal& net, const Facts& f, const Sizes& s, const Var& x, Scaled scale) {
  const int64_t length = f.integer("prediction_length", 1, 1 << 20, 16);
  const Var flat = net.view(x, {"batch", std::to_string(s.channels), std::to_string(s.patches.count() * s.width)});
  std::vector<int32_t> chosen;
  if (const Json* indices = f.find("prediction_channel_indices"))
    for (const Json& i : *indices) {
      if (!i.is_number_integer() || i < 0 || i >= s.channels)
        f.refuse("prediction_channel_indices", "names a channel that is not there");
      chosen.push_back(i.get<int32_t>());
    }
  std::sort(chosen.begin(), chosen.end());
  const auto of_chosen = [&](const Var& v) {
    if (chosen.empty()) return v;
    const int64_t count = int64_t(chosen.size());
    Names n = Signal::sizes(v);
    n.back() = std::to_string(count);
    format::GatherAttrsT attrs;
    attrs.axis = 2;
    return net.apply("gather", {v.name, net.places_of("prediction_channels", chosen, {count})}, n, attrs);
  };
  scale.loc = of_chosen(scale.loc), scale.scale = of_chosen(scale.scale);
  const Distribution d = distribution_of(f);
  const std::vector<Var> all = parameters(net, d, flat, "/head.base_forecast_block", length);
  for (size_t i = 0; i < all.size(); ++i)
    net.output(of_chosen(net.turned(all[i], {0, 2, 1})), std::string("prediction_outputs.") + d.parameters[i]);
  if (all.empty()) {
    const Var y = of_chosen(net.turned(net.linear(flat, "/head.base_forecast_block", length), {0, 2, 1}));
    net.output(net.plus(net.by(y, scale.scale), scale.loc), "prediction_outputs");
  }
  net.optional_output(x, "last_hidden_state");
  net.optional_output(scale.loc, "loc");
  net.optional_output(scale.scale, "scale");
}

void regress(Signal& net, const Facts& f, const Sizes& s, const Var& x, bool is_classes) {
  const int64_t targets = f.integer("num_targets", 1, 1 << 20, 3);
  const Var flat = aggregated(net, f, s, x);
  const Distribution d = is_classes ? Distribution{} : distribution_of(f);
  const std::vector<Var> all = parameters(net, d, flat, "/head.projection", targets);
  for (size_t i = 0; i < all.size(); ++i)
    net.output(targets == 1 ? net.view(all[i], {"batch"}) : all[i],
               std::string("regression_outputs.") + d.parameters[i]);
  if (all.empty())
    net.output(within_range(net, f, net.linear(flat, "/head.projection", targets)),
               is_classes ? "prediction_outputs" : "regression_outputs");
  net.optional_output(x, "last_hidden_state");
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Sizes s = sizes_of(f);
  const std::string task = class_of(f, "PatchTSMixerModel");
  Signal net(c, b, {"model.", "", {}}, s.patches.context, 64);
  const Names shape = {"batch", std::to_string(s.patches.context), std::to_string(s.channels)};
  const Scaling how = scaling_of(f, Scaling::kStd);
  const Var values = net.given("past_values", shape);
  const Scaled scale = scaled(net, how, values, net.filled("observed_mask", shape, 1));
  const Var input = patches(net, s.patches, scale.values);
  const bool is_pretraining = task == "PatchTSMixerForPretraining";
  Var x = net.linear(is_pretraining ? with_gaps(net, f, s.patches, input) : input, "encoder.patcher", s.width);
  if (f.boolean("use_positional_encoding", false))
    x = net.plus(x, net.tensor("encoder.positional_encoder.position_enc", {s.patches.count(), s.width}));
  const int64_t layers = f.integer("num_layers", 1, 4096, 3);
  for (int64_t i = 0; i < layers; ++i)
    x = layer(net, s, x, "encoder.mlp_mixer_encoder.mixers." + std::to_string(i) + ".");
  if (task == "PatchTSMixerForPrediction") return predict(net, f, s, x, scale);
  const bool is_classes = task == "PatchTSMixerForTimeSeriesClassification";
  if (is_classes || task == "PatchTSMixerForRegression")
    return regress(net, f, s, how == Scaling::kNone ? x : with_scale(net, s, x, scale), is_classes);
  if (is_pretraining) {
    net.output(net.linear(x, "/head.base_pt_block", s.patches.length), "prediction_outputs");
    return net.optional_output(x, "last_hidden_state");
  }
  if (task != "PatchTSMixerModel") f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  net.output(x, "last_hidden_state");
  net.optional_output(scale.loc, "loc");
  net.optional_output(scale.scale, "scale");
  net.optional_output(input, "patch_input");
}

}  // namespace

extern const Recipe patchtsmixer_recipe;
const Recipe patchtsmixer_recipe = {"patchtsmixer", {}, {"patchtsmixer"}, build};

}  // namespace runnel::convert
