#include "ops/group_norm/group_norm.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::GroupNormAttrs*>(attrs);
  const float eps = a.eps();
  RNL_CHECK_ARG(eps > 0 && eps < 1, "group_norm: eps %g is not in (0, 1)", double(eps));
  RNL_CHECK_ARG(a.groups() >= 1, "group_norm: no groups");
  *params_of<GroupNormParams>(out) = {int64_t(a.groups()), eps};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t groups = params_of<GroupNormParams>(c).groups;
  RNL_TRY(check_dense("group_norm", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 2 && y.dtype == DType::kF32 && same_shape(x, y),
                "group_norm: x is %s and y is %s, want f32 [batch, ..., channels]", describe(x, a, sizeof a),
                describe(y, b, sizeof b));
  const int64_t channels = x.dims[x.rank - 1];
  RNL_CHECK_ARG(channels % groups == 0, "group_norm: %" PRId64 " groups of %s", groups, a);
  for (int i = 1; i < 3; ++i)
    if (has_input(c, i))
      RNL_CHECK_ARG(c.in[i].dtype == DType::kF32 && c.in[i].rank == 1 && c.in[i].dims[0] == channels,
                    "group_norm: %s is %s but x is %s", i == 1 ? "weight" : "bias", describe(c.in[i], b, sizeof b), a);
  return Status::ok();
}

void reference(const OpCall& c) {
  const GroupNormParams& p = params_of<GroupNormParams>(c);
  const TensorView& x = c.in[0];
  const int64_t channels = x.dims[x.rank - 1], total = element_count(x), batch = x.dims[0];
  if (total == 0) return;
  const int64_t places = total / batch / channels, each = channels / p.groups;
  const float* weight = has_input(c, 1) ? static_cast<const float*>(c.in[1].data) : nullptr;
  const float* bias = has_input(c, 2) ? static_cast<const float*>(c.in[2].data) : nullptr;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t g = 0; g < p.groups; ++g) {
      const float* in = static_cast<const float*>(x.data) + b * places * channels + g * each;
      float* out = static_cast<float*>(c.out[0].data) + b * places * channels + g * each;
      double mean = 0, square = 0;
      const auto for_all = [&](auto fn) {
        for (int64_t i = 0; i < places; ++i)
          for (int64_t k = 0; k < each; ++k) fn(i * channels + k, g * each + k);
      };
      for_all([&](int64_t at, int64_t) { mean += double(in[at]); });
      mean /= double(places * each);
      for_all([&](int64_t at, int64_t) { square += (double(in[at]) - mean) * (double(in[at]) - mean); });
      const double inverse = 1 / std::sqrt(square / double(places * each) + double(p.eps));
      for_all([&](int64_t at, int64_t ch) {
        out[at] = float((double(in[at]) - mean) * inverse * (weight ? double(weight[ch]) : 1.0) +
                        (bias ? double(bias[ch]) : 0.0));
      });
    }
}

}  // namespace

extern constexpr OpDef group_norm_def = define_op(registry_row::group_norm, parse, check, reference);

}  // namespace runnel
