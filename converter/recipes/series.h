// What models of time series share.
#pragma once

#include "converter/recipes/signal.h"

namespace runnel::convert {

// How the values of each channel are scaled before the model sees them. mean: by the mean of their sizes; std: less
// their mean, by their deviation.
enum class Scaling { kNone, kMean, kStd };
// The value of `scaling`; `otherwise` stands for true.
Scaling scaling_of(const Facts& facts, Scaling otherwise);

struct Scaled {
  Var values, loc, scale;  // loc and scale: of axis 1 one
};
// Of values [batch, length, channels], of which `observed` (1 or 0) tells those that count.
Scaled scaled(Signal& net, Scaling how, const Var& values, const Var& observed);

// Pieces of `length` values, `stride` apart, that end with the last one: [batch, channels, pieces, length] of values
// [batch, context, channels].
struct Patches {
  int64_t context = 0, length = 0, stride = 0;
  int64_t count() const { return (std::max(context, length) - length) / stride + 1; }
};
Patches patches_of(const Facts& facts);
Var patches(Signal& net, const Patches& p, const Var& values);
// What a model that was trained to fill gaps sees: patches of which the newest are hidden, where the configuration
// says which; those that are drawn by chance are all seen, and a notice says so.
Var with_gaps(Signal& net, const Facts& facts, const Patches& p, const Var& patches);

// Series [batch, size] with places in front of them, as many in all as `whole` says. number: of each place that the
// series holds, less than 0 of those in front, [whole]; source: the same at least 0, of i32.
struct InFront {
  std::string whole;
  Var number, source;
};
InFront room_in_front(Signal& net, const std::string& size, const std::string& whole);
Var moved(Signal& net, const InFront& room, const Var& series);
// The number of the last place on an axis, [1].
Var last_place(Signal& net, const std::string& size);

// What was observed of series [batch, length], NaN where nothing was: 1 or 0 for each value, mean and deviation [batch,
// 1] (0 and 1 of a series without values), and the values less the mean, 0 where there are none.
struct Observed {
  Var there, loc, deviation, centred;
};
Observed observed(Signal& net, const Var& series);

// The parameters of a distribution, by the heads "{name}.proj.{i}", each as wide as `out`, and their names.
struct Distribution {
  std::vector<const char*> parameters;
};
// What `distribution_output` names where `loss` is no "mse"; else no parameters.
Distribution distribution_of(const Facts& facts);
std::vector<Var> parameters(Signal& net, const Distribution& d, const Var& x, const std::string& name, int64_t out);

// sigmoid(x) between the two numbers of `output_range`, where it has them.
Var within_range(Signal& net, const Facts& facts, const Var& x);
// Layer norm, or batch norm where `is_batch`.
Var series_norm(Signal& net, const Var& x, const std::string& name, bool is_batch, double eps);
// Attention among x [.., places, width], with products q_proj, k_proj, v_proj and out_proj.
Var series_attention(Signal& net, const Var& x, const std::string& prefix, int64_t heads);

}  // namespace runnel::convert
