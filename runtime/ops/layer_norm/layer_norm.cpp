#include "ops/layer_norm/layer_norm.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::NormAttrs*>(attrs);
  const float eps = a.eps();
  RNL_CHECK_ARG(eps > 0 && eps < 1, "layer_norm: eps %g is not in (0, 1)", double(eps));
  params_of<LayerNormParams>(out)->eps = eps;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("layer_norm", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 1, "layer_norm: x is %s, want f32 [..., channels]",
                describe(x, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(x, y), "layer_norm: y is %s but x is %s", describe(y, a, sizeof a),
                describe(x, b, sizeof b));
  for (int i = 1; i < 3; ++i)
    if (has_input(c, i))
      RNL_CHECK_ARG(c.in[i].dtype == DType::kF32 && c.in[i].rank == 1 && c.in[i].dims[0] == x.dims[x.rank - 1],
                    "layer_norm: %s is %s but x is %s", i == 1 ? "weight" : "bias", describe(c.in[i], a, sizeof a),
                    describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const double eps = params_of<LayerNormParams>(c).eps;
  const TensorView& x = c.in[0];
  const int64_t channels = x.dims[x.rank - 1];
  const int64_t rows = channels ? element_count(x) / channels : 0;
  const float* weight = has_input(c, 1) ? static_cast<const float*>(c.in[1].data) : nullptr;
  const float* bias = has_input(c, 2) ? static_cast<const float*>(c.in[2].data) : nullptr;
  for (int64_t t = 0; t < rows; ++t) {
    const float* in = static_cast<const float*>(x.data) + t * channels;
    float* out = static_cast<float*>(c.out[0].data) + t * channels;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < channels; ++i) mean += double(in[i]);
    mean /= double(channels);
    for (int64_t i = 0; i < channels; ++i) square += (in[i] - mean) * (in[i] - mean);
    const double inv = 1.0 / std::sqrt(square / double(channels) + eps);
    for (int64_t i = 0; i < channels; ++i)
      out[i] = float((in[i] - mean) * inv * (weight ? double(weight[i]) : 1.0) + (bias ? double(bias[i]) : 0.0));
  }
}

}  // namespace

extern constexpr OpDef layer_norm_def = define_op(registry_row::layer_norm, parse, check, reference);

}  // namespace runnel
