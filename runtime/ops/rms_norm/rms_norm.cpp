#include "ops/rms_norm/rms_norm.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::NormAttrs*>(attrs);
  const float eps = a.eps();
  RNL_CHECK_ARG(eps > 0 && eps < 1, "rms_norm: eps %g is not in (0, 1)", double(eps));
  params_of<RmsNormParams>(out)->eps = eps;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("rms_norm", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 1, "rms_norm: x is %s, want f32 [..., channels]",
                describe(x, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(x, y), "rms_norm: y is %s but x is %s", describe(y, a, sizeof a),
                describe(x, b, sizeof b));
  if (has_input(c, 1)) {
    const TensorView& w = c.in[1];
    RNL_CHECK_ARG(w.dtype == DType::kF32 && w.rank == 1 && w.dims[0] == x.dims[x.rank - 1],
                  "rms_norm: weight is %s but x is %s", describe(w, a, sizeof a), describe(x, b, sizeof b));
  }
  if (has_input(c, 2))
    RNL_CHECK_ARG(c.in[2].dtype == DType::kF32 && same_shape(x, c.in[2]), "rms_norm: residual is %s but x is %s",
                  describe(c.in[2], a, sizeof a), describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const float eps = params_of<RmsNormParams>(c).eps;
  const TensorView& x = c.in[0];
  const int64_t channels = x.dims[x.rank - 1];
  const int64_t rows = channels ? element_count(x) / channels : 0;
  const float* weight = has_input(c, 1) ? static_cast<const float*>(c.in[1].data) : nullptr;
  const float* residual = has_input(c, 2) ? static_cast<const float*>(c.in[2].data) : nullptr;
  for (int64_t t = 0; t < rows; ++t) {
    const float* in = static_cast<const float*>(x.data) + t * channels;
    float* out = static_cast<float*>(c.out[0].data) + t * channels;
    double sum = 0;
    for (int64_t i = 0; i < channels; ++i) sum += double(in[i]) * in[i];
    const double inv = 1.0 / std::sqrt(sum / double(channels) + double(eps));
    for (int64_t i = 0; i < channels; ++i) {
      const double r = residual ? double(residual[t * channels + i]) : 0.0;
      out[i] = float(double(in[i]) * inv * (weight ? double(weight[i]) : 1.0) + r);
    }
  }
}

}  // namespace

extern constexpr OpDef rms_norm_def = define_op(registry_row::rms_norm, parse, check, reference);

}  // namespace runnel
