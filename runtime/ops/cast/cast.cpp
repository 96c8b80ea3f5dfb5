#include "ops/cast/cast.h"

#include "ops/define.h"

namespace runnel {
namespace {

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("cast", "x", x));
  const bool fits =
      (x.dtype == DType::kF32 && y.dtype == DType::kI32) || (x.dtype == DType::kI32 && y.dtype == DType::kF32);
  RNL_CHECK_ARG(fits && same_shape(x, y), "cast: x is %s and y is %s, want f32 and i32 of one shape",
                describe(x, a, sizeof a), describe(y, b, sizeof b));
  return Status::ok();
}

int32_t whole(float x) {
  if (!(x > -2147483648.0f)) return x == x ? INT32_MIN : 0;
  return x >= 2147483648.0f ? INT32_MAX : int32_t(x);
}

void reference(const OpCall& c) {
  const int64_t n = element_count(c.in[0]);
  for (int64_t i = 0; i < n; ++i)
    if (c.in[0].dtype == DType::kF32)
      static_cast<int32_t*>(c.out[0].data)[i] = whole(static_cast<const float*>(c.in[0].data)[i]);
    else static_cast<float*>(c.out[0].data)[i] = float(static_cast<const int32_t*>(c.in[0].data)[i]);
}

}  // namespace

extern constexpr OpDef cast_def = define_op(registry_row::cast, parse_nothing, check, reference);

}  // namespace runnel
