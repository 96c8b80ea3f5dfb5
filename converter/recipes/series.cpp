#include "converter/recipes/series.h"

#include <algorithm>
#include <cmath>

namespace runnel::convert {

using format::BinaryKind;
using format::ReduceKind;
using format::UnaryKind;

Scaling scaling_of(const Facts& f, Scaling otherwise) {
  const Json* how = f.find("scaling");
  if (!how) return f.is_null("scaling") ? Scaling::kNone : Scaling::kStd;
  if (*how == "mean") return Scaling::kMean;
  if (*how == "std") return Scaling::kStd;
  return *how == true ? otherwise : Scaling::kNone;
}

Scaled scaled(Signal& net, Scaling how, const Var& values, const Var& observed) {
  const Var count = net.reduced(ReduceKind::sum, observed, 1, true);
  const Var none = net.scale(count, 0), at_least_one = net.with(BinaryKind::max, count, net.number(1));
  const auto sum = [&](const Var& x) { return net.reduced(ReduceKind::sum, x, 1, true); };
  if (how == Scaling::kNone) return {values, none, net.with(BinaryKind::add, none, net.number(1))};
  if (how == Scaling::kStd) {
    const Var loc = net.over(sum(net.by(values, observed)), at_least_one), centred = net.less(values, loc);
    const Var variance = net.over(sum(net.unary(UnaryKind::square, net.by(centred, observed))), at_least_one);
    const Var scale = net.unary(UnaryKind::sqrt, net.plus(variance, net.number(1e-5)));
    return {net.over(centred, scale), loc, scale};
  }
  // A channel that nobody observed has the scale of its like in the batch.
  const Var sizes = sum(net.unary(UnaryKind::abs, net.by(values, observed))), own = net.over(sizes, at_least_one);
  const auto of_batch = [&](const Var& x) { return net.reduced(ReduceKind::sum, x, 0, true); };
  const Var common = net.over(of_batch(sizes), net.with(BinaryKind::max, of_batch(count), net.number(1)));
  const Var is_seen = net.compared(format::ArithmeticKind::less, none, count);
  const Var scale = net.with(BinaryKind::max, net.chosen(is_seen, own, common), net.number(1e-10));
  return {net.over(values, scale), none, scale};
}

Patches patches_of(const Facts& f) {
  Patches p;
  p.context = f.integer("context_length", 1, 1 << 24, 32);
  p.length = f.integer("patch_length", 1, 1 << 20, f.text("model_type", "") == "patchtst" ? 1 : 8);
  p.stride = f.integer("patch_stride", 1, 1 << 20, f.text("model_type", "") == "patchtst" ? 1 : 8);
  if (p.context <= p.length) f.refuse("context_length", "is not larger than patch_length");
  if (p.count() * p.length > int64_t(1) << 24) f.refuse("context_length", "makes too many patches");
  return p;
}

Var patches(Signal& net, const Patches& p, const Var& values) {
  const int64_t first = p.context - (p.length + p.stride * (p.count() - 1));
  std::vector<int32_t> places;
  for (int64_t i = 0; i < p.count(); ++i)
    for (int64_t j = 0; j < p.length; ++j) places.push_back(int32_t(first + i * p.stride + j));
  const Var by_channel = net.turned(values, {0, 2, 1});
  const Names n = Signal::sizes(by_channel);
  format::GatherAttrsT attrs;
  attrs.axis = 2;
  return net.apply("gather", {by_channel.name, net.places_of("patches", places, {p.count(), p.length})},
                   {n[0], n[1], std::to_string(p.count()), std::to_string(p.length)}, attrs);
}

Var with_gaps(Signal& net, const Facts& f, const Patches& p, const Var& x) {
  const Json* hidden = f.find("num_forecast_mask_patches");
  if (hidden && hidden->is_array() && hidden->size() == 1) hidden = &(*hidden)[0];
  const double value = f.number("mask_value", 0);
  const Json* seen_channels = f.find("unmasked_channel_indices");
  f.pass_over({"random_mask_ratio", "channel_consistent_masking"});
  if (f.text("mask_type", "random") != "forecast" || (hidden && !hidden->is_number_integer())) {
    if (f.number("random_mask_ratio", 0.5) > 0) net.note("patches that the original hides by chance are all seen");
    return x;
  }
  const int64_t count = hidden ? hidden->get<int64_t>() : 2, channels = x.dims[0];
  if (count <= 0 || count >= p.count()) f.refuse("num_forecast_mask_patches", "is no number of patches to hide");
  std::vector<float> seen(size_t(channels * p.count()), 1);
  for (int64_t c = 0; c < channels; ++c) {
    const bool is_hidden =
        !seen_channels || std::find(seen_channels->begin(), seen_channels->end(), c) == seen_channels->end();
    for (int64_t i = p.count() - count; is_hidden && i < p.count(); ++i) seen[size_t(c * p.count() + i)] = 0;
  }
  std::vector<float> instead;
  for (float s : seen) instead.push_back(float(value) * (1 - s));
  const std::vector<int64_t> shape = {channels, p.count(), 1};
  return net.plus(net.by(x, net.numbers("seen", seen, shape)), net.numbers("instead", instead, shape));
}

Var last_place(Signal& net, const std::string& size) {
  return net.reduced(ReduceKind::max, net.view(net.counted(size), {size, "1"}), 0);
}

InFront room_in_front(Signal& net, const std::string& size, const std::string& whole) {
  const Var number = net.less(net.counted(whole), net.less(last_place(net, whole), last_place(net, size)));
  return {whole, number, net.of_type(net.with(BinaryKind::max, number, net.number(0)), format::DType::i32)};
}

Var moved(Signal& net, const InFront& room, const Var& series) {
  format::GatherAttrsT attrs;
  attrs.axis = 1;
  return net.apply("gather", {series.name, room.source.name}, {Signal::sizes(series)[0], room.whole}, attrs);
}

Observed observed(Signal& net, const Var& series) {
  const Var is_there = net.compared(format::ArithmeticKind::equal, series, series);  // NaN is not
  const Var there = net.of_type(is_there, format::DType::f32), x = net.chosen(is_there, series, net.number(0));
  const auto sum = [&](const Var& v) { return net.reduced(ReduceKind::sum, v, 1, true); };
  const Var count = sum(there), some = net.with(BinaryKind::max, count, net.number(1));
  const Var loc = net.over(sum(x), some), centred = net.by(net.less(x, loc), there);
  const Var deviation = net.unary(UnaryKind::sqrt, net.over(sum(net.unary(UnaryKind::square, centred)), some));
  const Var has_any = net.compared(format::ArithmeticKind::less, net.number(0), count);
  return {there, loc, net.chosen(has_any, deviation, net.number(1)), centred};
}

Distribution distribution_of(const Facts& f) {
  const std::string loss = f.text("loss", "mse"), name = f.text("distribution_output", "student_t");
  if (loss == "mse") return {};
  if (name == "student_t") return {{"df", "loc", "scale"}};
  if (name == "normal") return {{"loc", "scale"}};
  if (name == "negative_binomial") return {{"total_count", "logits"}};
  f.refuse("distribution_output", "is \"" + printable(name) + "\", which is not supported");
}

std::vector<Var> parameters(Signal& net, const Distribution& d, const Var& x, const std::string& name, int64_t out) {
  std::vector<Var> all;
  for (size_t i = 0; i < d.parameters.size(); ++i) {
    Var y = net.linear(x, name + ".proj." + std::to_string(i), out);
    const std::string what = d.parameters[i];
    if (what != "loc" && what != "logits") {  // squareplus
      const Var root = net.unary(UnaryKind::sqrt, net.plus(net.unary(UnaryKind::square, y), net.number(4)));
      y = net.scale(net.plus(y, root), 0.5);
      if (what == "df") y = net.plus(y, net.number(2));
      if (what == "scale") y = net.with(BinaryKind::max, y, net.number(0x1p-23));
    }
    all.push_back(y);
  }
  return all;
}

Var within_range(Signal& net, const Facts& f, const Var& x) {
  const Json* range = f.find("output_range");
  if (!range) return x;
  if (!range->is_array() || range->size() != 2 || !(*range)[0].is_number() || !(*range)[1].is_number())
    f.refuse("output_range", "is no pair of numbers");
  const double low = (*range)[0].get<double>(), high = (*range)[1].get<double>();
  return net.plus(net.scale(net.unary(UnaryKind::sigmoid, x), high - low), net.number(low));
}

Var series_norm(Signal& net, const Var& x, const std::string& name, bool is_batch, double eps) {
  return is_batch ? net.batch_norm(x, name + ".batchnorm", eps) : net.norm(x, name, eps);
}

Var series_attention(Signal& net, const Var& x, const std::string& prefix, int64_t heads) {
  const int64_t width = x.dims.back();
  Names n = Signal::sizes(x);
  n.back() = std::to_string(heads);
  n.push_back(std::to_string(width / heads));
  const auto part = [&](const char* name) { return net.view(net.linear(x, prefix + name, width), n); };
  Attending how;
  how.scale = 1 / std::sqrt(double(width / heads));
  return net.linear(net.attend(how, part("q_proj"), part("k_proj"), part("v_proj")), prefix + "out_proj", width);
}

}  // namespace runnel::convert
