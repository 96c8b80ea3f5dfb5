#include "ops/merge_tokens/merge_tokens.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

enum Input { kX, kGroups, kWeight };

bool wants_total(const OpCall& c) { return c.out_count > 1 && c.out[1].dtype != DType::kNone; }

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[kX], &groups = c.in[kGroups], &y = c.out[0];
  RNL_TRY(check_dense("merge_tokens", "x", x));
  RNL_TRY(check_dense("merge_tokens", "groups", groups));
  RNL_TRY(check_dense("merge_tokens", "y", y));
  bool fits = x.dtype == DType::kF32 && y.dtype == DType::kF32 && x.rank >= 1 && y.rank == x.rank;
  for (int i = 1; fits && i < x.rank; ++i) fits = x.dims[i] == y.dims[i];
  RNL_CHECK_ARG(fits, "merge_tokens: y is %s but x is %s", describe(y, a, sizeof a), describe(x, b, sizeof b));
  RNL_CHECK_ARG(groups.dtype == DType::kI32 && groups.rank == 1 && groups.dims[0] == x.dims[0],
                "merge_tokens: groups are %s for x of %s", describe(groups, a, sizeof a), describe(x, b, sizeof b));
  if (has_input(c, kWeight)) {
    RNL_TRY(check_dense("merge_tokens", "weight", c.in[kWeight]));
    RNL_CHECK_ARG(c.in[kWeight].dtype == DType::kF32 && c.in[kWeight].rank == 1 && c.in[kWeight].dims[0] == x.dims[0],
                  "merge_tokens: weight is %s for x of %s", describe(c.in[kWeight], a, sizeof a),
                  describe(x, b, sizeof b));
  }
  RNL_CHECK_ARG(!wants_total(c) ||
                    (c.out[1].dtype == DType::kF32 && c.out[1].rank == 1 && c.out[1].dims[0] == y.dims[0]),
                "merge_tokens: total is %s for y of %s", describe(c.out[1], a, sizeof a), describe(y, b, sizeof b));
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const auto* groups = static_cast<const int32_t*>(c.in[kGroups].data);
  const int64_t rows = c.out[0].dims[0];
  for (int64_t t = 0; t < c.in[kGroups].dims[0]; ++t)
    RNL_CHECK_ARG(groups[t] >= 0 && groups[t] < rows,
                  "merge_tokens: group %d of token %" PRId64 " is not in [0, %" PRId64 ")", int(groups[t]), t, rows);
  return Status::ok();
}

// Each row of y holds its total beside it only where that is wanted; without, a pass over the tokens finds it again.
void reference(const OpCall& c) {
  const auto* x = static_cast<const float*>(c.in[kX].data);
  const auto* groups = static_cast<const int32_t*>(c.in[kGroups].data);
  const float* weight = has_input(c, kWeight) ? static_cast<const float*>(c.in[kWeight].data) : nullptr;
  auto* y = static_cast<float*>(c.out[0].data);
  auto* total = wants_total(c) ? static_cast<float*>(c.out[1].data) : nullptr;
  const int64_t tokens = c.in[kX].dims[0], rows = c.out[0].dims[0];
  int64_t inner = 1;
  for (int i = 1; i < c.in[kX].rank; ++i) inner *= c.in[kX].dims[i];
  std::memset(y, 0, size_t(rows * inner) * sizeof(float));
  for (int64_t t = 0; t < tokens; ++t) {
    const float w = weight ? weight[t] : 1.0f;
    float* to = y + groups[t] * inner;
    for (int64_t i = 0; i < inner; ++i) to[i] += w * x[t * inner + i];
  }
  for (int64_t g = 0; g < rows; ++g) {
    float sum = 0;
    for (int64_t t = 0; t < tokens; ++t)
      if (groups[t] == g) sum += weight ? weight[t] : 1.0f;
    if (total) total[g] = sum;
    for (int64_t i = 0; i < inner; ++i) y[g * inner + i] = sum == 0 ? 0.0f : y[g * inner + i] / sum;
  }
}

}  // namespace

extern constexpr OpDef merge_tokens_def =
    define_op(registry_row::merge_tokens, parse_nothing, check, reference, check_data);

}  // namespace runnel
