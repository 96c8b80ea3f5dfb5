#include "ops/expand/expand.h"

#include "ops/broadcast.h"
#include "ops/define.h"

namespace runnel {
namespace {

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("expand", "x", x));
  RNL_TRY(check_dense("expand", "y", y));
  int64_t steps[kMaxRank];
  RNL_CHECK_ARG((x.dtype == DType::kF32 || x.dtype == DType::kI32) && x.dtype == y.dtype &&
                    broadcast_steps(x, y, steps),
                "expand: x is %s and y is %s", describe(x, a, sizeof a), describe(y, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& y = c.out[0];
  int64_t steps[kMaxRank];
  broadcast_steps(c.in[0], y, steps);
  const int64_t n = element_count(y);
  for (int64_t i = 0; i < n; ++i)
    static_cast<int32_t*>(y.data)[i] = static_cast<const int32_t*>(c.in[0].data)[broadcast_at(i, y, steps)];
}

}  // namespace

extern constexpr OpDef expand_def = define_op(registry_row::expand, parse_nothing, check, reference);

}  // namespace runnel
