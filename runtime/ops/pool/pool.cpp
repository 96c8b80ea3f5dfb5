#include "ops/pool/pool.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  WindowParams* p = params_of<WindowParams>(out);
  RNL_TRY(parse_window("pool", attrs, p));
  RNL_CHECK_ARG(p->groups == 1 && p->activation == 0 && std::isinf(p->least) && std::isinf(p->most),
                "pool: groups, activation or limits of a convolution");
  return Status::ok();
}

Status check(const OpCall& c) {
  RNL_TRY(check_window("pool", params_of<WindowParams>(c), c.in[0], c.out[0]));
  RNL_CHECK_ARG(c.in[0].dims[3] == c.out[0].dims[3], "pool: y has %" PRId64 " channels, x %" PRId64, c.out[0].dims[3],
                c.in[0].dims[3]);
  return Status::ok();
}

void reference(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  const bool is_max = PoolKind(p.pool) == PoolKind::kMax;
  const int64_t n = element_count(y), channels = y.dims[3];
  for (int64_t at = 0; at < n; ++at) {
    const int64_t pixel = at / channels, b = pixel / (y.dims[1] * y.dims[2]), i = pixel / y.dims[2] % y.dims[1],
                  j = pixel % y.dims[2];
    double best = -INFINITY, sum = 0;
    int64_t count = 0;
    for (int64_t k = 0; k < int64_t(p.kernel[0]) * p.kernel[1]; ++k) {
      const int64_t row = i * p.stride[0] - p.before[0] + k / p.kernel[1] * p.dilation[0],
                    column = j * p.stride[1] - p.before[1] + k % p.kernel[1] * p.dilation[1];
      if (row < 0 || row >= x.dims[1] || column < 0 || column >= x.dims[2]) continue;
      const double v =
          static_cast<const float*>(x.data)[((b * x.dims[1] + row) * x.dims[2] + column) * channels + at % channels];
      best = std::isnan(best) ? best : std::isnan(v) || v > best ? v : best;
      sum += v;
      ++count;
    }
    if (p.count_padding) count = int64_t(p.kernel[0]) * p.kernel[1];
    static_cast<float*>(y.data)[at] = float(is_max ? best : count ? sum / double(count) : 0.0);
  }
}

}  // namespace

extern constexpr OpDef pool_def = define_op(registry_row::pool, parse, check, reference);

}  // namespace runnel
