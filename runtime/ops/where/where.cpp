#include "ops/where/where.h"

#include "ops/broadcast.h"
#include "ops/define.h"

namespace runnel {
namespace {

Status check(const OpCall& c) {
  char a[96], b[96], d[96];
  RNL_TRY(check_dense("where", "condition", c.in[0]));
  RNL_TRY(check_dense("where", "a", c.in[1]));
  RNL_TRY(check_dense("where", "b", c.in[2]));
  RNL_TRY(check_dense("where", "y", c.out[0]));
  const DType type = c.in[1].dtype;
  RNL_CHECK_ARG(c.in[0].dtype == DType::kI32, "where: condition is %s, want i32", describe(c.in[0], a, sizeof a));
  describe(c.in[1], a, sizeof a), describe(c.in[2], b, sizeof b), describe(c.out[0], d, sizeof d);
  RNL_CHECK_ARG((type == DType::kF32 || type == DType::kI32) && c.in[2].dtype == type && c.out[0].dtype == type,
                "where: a is %s, b is %s, y is %s, want f32 or i32", a, b, d);
  RNL_CHECK_ARG(is_broadcast_of(c.in, 3, c.out[0]), "where: the condition, %s and %s do not broadcast to %s", a, b, d);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& y = c.out[0];
  int64_t steps[3][kMaxRank];
  for (int i = 0; i < 3; ++i) broadcast_steps(c.in[i], y, steps[i]);
  const int64_t n = element_count(y);
  for (int64_t i = 0; i < n; ++i) {
    const int from = static_cast<const int32_t*>(c.in[0].data)[broadcast_at(i, y, steps[0])] ? 1 : 2;
    // Elements of either type are moved as they are.
    static_cast<int32_t*>(y.data)[i] = static_cast<const int32_t*>(c.in[from].data)[broadcast_at(i, y, steps[from])];
  }
}

}  // namespace

extern constexpr OpDef where_def = define_op(registry_row::where, parse_nothing, check, reference);

}  // namespace runnel
