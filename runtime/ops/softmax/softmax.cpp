#include "ops/softmax/softmax.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SoftmaxAttrs*>(attrs);
  const float scale = a.scale();
  RNL_CHECK_ARG(std::isfinite(scale), "softmax: scale is not finite");
  params_of<SoftmaxParams>(out)->scale = scale;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("softmax", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 1, "softmax: x is %s, want f32 [..., channels]",
                describe(x, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(x, y), "softmax: y is %s but x is %s", describe(y, a, sizeof a),
                describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const double scale = params_of<SoftmaxParams>(c).scale;
  const TensorView& x = c.in[0];
  const int64_t channels = x.dims[x.rank - 1];
  const int64_t rows = channels ? element_count(x) / channels : 0;
  for (int64_t t = 0; t < rows; ++t) {
    const float* in = static_cast<const float*>(x.data) + t * channels;
    float* out = static_cast<float*>(c.out[0].data) + t * channels;
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < channels; ++i) {
      const double v = scale * in[i];
      if (!(v <= largest)) largest = v;  // NaN sticks
    }
    for (int64_t i = 0; i < channels; ++i) sum += largest == -INFINITY ? 0 : std::exp(scale * in[i] - largest);
    for (int64_t i = 0; i < channels; ++i)
      out[i] = largest == -INFINITY ? 0 : float(std::exp(scale * in[i] - largest) / sum);
  }
}

}  // namespace

extern constexpr OpDef softmax_def = define_op(registry_row::softmax, parse, check, reference);

}  // namespace runnel
