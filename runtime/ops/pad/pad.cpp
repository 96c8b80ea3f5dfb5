#include "ops/pad/pad.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::PadKind::MAX) == int(PadKind::kWrap));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::PadAttrs*>(attrs);
  PadParams p{};
  p.rank = a.begin() ? int32_t(a.begin()->size()) : 0;
  RNL_CHECK_ARG(p.rank >= 1 && p.rank <= kMaxRank, "pad: begin has %d axes", int(p.rank));
  for (int i = 0; i < p.rank; ++i) {
    p.begin[i] = a.begin()->Get(unsigned(i));
    RNL_CHECK_ARG(std::abs(int64_t(p.begin[i])) < (int64_t(1) << 30), "pad: %d places before axis %d", int(p.begin[i]),
                  i);
  }
  const float value = a.value();
  RNL_CHECK_ARG(int(a.kind()) <= int(PadKind::kWrap), "pad: kind %d is not known", int(a.kind()));
  p.kind = PadKind(a.kind()), p.value = value;
  *params_of<PadParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const PadParams& p = params_of<PadParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("pad", "x", x));
  RNL_TRY(check_dense("pad", "y", y));
  RNL_CHECK_ARG((x.dtype == DType::kF32 || x.dtype == DType::kI32) && x.dtype == y.dtype && x.rank == p.rank &&
                    y.rank == p.rank,
                "pad: x is %s and y is %s", describe(x, a, sizeof a), describe(y, b, sizeof b));
  for (int i = 0; i < p.rank; ++i) {
    RNL_CHECK_ARG(p.kind == PadKind::kConstant || x.dims[i] > 0 || y.dims[i] == 0, "pad: axis %d of x is empty", i);
    RNL_CHECK_ARG(x.dims[i] < (int64_t(1) << 30) && y.dims[i] < (int64_t(1) << 30), "pad: axis %d is too long", i);
  }
  RNL_CHECK_ARG(x.dtype == DType::kF32 || std::fabs(p.value) < 2147483648.0f, "pad: value %g of integers",
                double(p.value));
  return Status::ok();
}

// Where place `at` of an axis comes from; below 0: the value.
int64_t source_of(PadKind kind, int64_t at, int64_t size) {
  if (at >= 0 && at < size) return at;
  if (kind == PadKind::kConstant) return -1;
  if (kind == PadKind::kEdge) return at < 0 ? 0 : size - 1;
  const int64_t period = kind == PadKind::kWrap ? size : size > 1 ? 2 * size - 2 : 1;
  const int64_t r = (at % period + period) % period;
  return r < size ? r : period - r;
}

void reference(const OpCall& c) {
  const PadParams& p = params_of<PadParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t n = element_count(y);
  for (int64_t i = 0; i < n; ++i) {
    int64_t rest = i, from = 0, step = 1;
    bool is_inside = true;
    for (int d = y.rank - 1; d >= 0; --d) {
      const int64_t at = source_of(p.kind, rest % y.dims[d] - p.begin[d], x.dims[d]);
      rest /= y.dims[d];
      is_inside = is_inside && at >= 0;
      from += at * step;
      step *= x.dims[d];
    }
    if (x.dtype == DType::kF32)
      static_cast<float*>(y.data)[i] = is_inside ? static_cast<const float*>(x.data)[from] : p.value;
    else static_cast<int32_t*>(y.data)[i] = is_inside ? static_cast<const int32_t*>(x.data)[from] : int32_t(p.value);
  }
}

}  // namespace

extern constexpr OpDef pad_def = define_op(registry_row::pad, parse, check, reference);

}  // namespace runnel
