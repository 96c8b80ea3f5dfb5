#include "ops/select_tokens/select_tokens.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/define.h"

namespace runnel {

uint32_t rank_of_score(float x) {
  x += 0.0f;  // one zero
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return std::isnan(x) ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
}

namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SelectTokensAttrs*>(attrs);
  const float threshold = a.threshold();
  RNL_CHECK_ARG(!std::isnan(threshold), "select_tokens: threshold is NaN");
  *params_of<SelectTokensParams>(out) = {threshold, a.least()};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &scores = c.in[0], &ids = c.out[0];
  RNL_TRY(check_dense("select_tokens", "scores", scores));
  RNL_CHECK_ARG(scores.dtype == DType::kF32 && scores.rank == 1 && ids.dtype == DType::kI32 && ids.rank == 1,
                "select_tokens: scores are %s and ids %s, want f32 [n] and i32 [capacity]",
                describe(scores, a, sizeof a), describe(ids, b, sizeof b));
  RNL_CHECK_ARG(scores.dims[0] <= INT32_MAX && ids.dims[0] <= INT32_MAX, "select_tokens: more scores than i32 counts");
  const bool has_count = c.out_count > 1 && c.out[1].dtype != DType::kNone;
  RNL_CHECK_ARG(!has_count || (c.out[1].dtype == DType::kI32 && c.out[1].rank == 1 && c.out[1].dims[0] == 1),
                "select_tokens: count is %s, want i32 [1]", describe(c.out[1], a, sizeof a));
  return Status::ok();
}

void reference(const OpCall& c) {
  const auto& p = params_of<SelectTokensParams>(c);
  const auto* scores = static_cast<const float*>(c.in[0].data);
  auto* ids = static_cast<int32_t*>(c.out[0].data);
  const int64_t n = c.in[0].dims[0], capacity = c.out[0].dims[0];
  const auto count_from = [&](uint32_t rank) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += rank_of_score(scores[i]) >= rank;
    return count;
  };
  const int64_t numbers = count_from(1), wanted = std::max(count_from(std::max(1u, rank_of_score(p.threshold))),
                                                           std::min(numbers, int64_t(p.least)));
  const int64_t taken = std::min(wanted, capacity);
  // The rank of the last one taken, bit by bit from the highest.
  uint32_t last = 0;
  for (uint32_t bit = 0x80000000u; bit; bit >>= 1)
    if (count_from(last | bit) >= taken) last |= bit;
  int64_t equal = taken - (last == UINT32_MAX ? 0 : count_from(last + 1)), at = 0;
  for (int64_t i = 0; i < n && at < taken; ++i) {
    const uint32_t rank = rank_of_score(scores[i]);
    if (rank > last || (rank == last && equal-- > 0)) ids[at++] = int32_t(i);
  }
  for (; at < capacity; ++at) ids[at] = -1;
  if (c.out_count > 1 && c.out[1].dtype != DType::kNone) *static_cast<int32_t*>(c.out[1].data) = int32_t(taken);
}

}  // namespace

extern constexpr OpDef select_tokens_def = define_op(registry_row::select_tokens, parse, check, reference);

}  // namespace runnel
