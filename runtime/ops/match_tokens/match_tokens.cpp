#include "ops/match_tokens/match_tokens.h"

#include <cmath>
#include <new>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::MatchTokensAttrs*>(attrs);
  *params_of<MatchTokensParams>(out) = {a.merge(), a.keep()};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &groups = c.out[0];
  RNL_TRY(check_dense("match_tokens", "features", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank == 2 && x.dims[0] <= INT32_MAX && groups.dtype == DType::kI32 &&
                    groups.rank == 1 && groups.dims[0] == x.dims[0],
                "match_tokens: features are %s and groups %s, want f32 [tokens, width] and i32 [tokens]",
                describe(x, a, sizeof a), describe(groups, b, sizeof b));
  if (!has_input(c, 1)) return Status::ok();
  RNL_TRY(check_dense("match_tokens", "factor", c.in[1]));
  RNL_CHECK_ARG(c.in[1].dtype == DType::kF32 && c.in[1].rank == 1 && c.in[1].dims[0] == x.dims[0],
                "match_tokens: factor is %s for features of %s", describe(c.in[1], a, sizeof a),
                describe(x, b, sizeof b));
  return Status::ok();
}

// Sums in lanes, so that a compiler without leave to reorder them still takes several at once.
float dot(const float* a, const float* b, int64_t width) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {}, sum = 0;
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  for (; i < width; ++i) sum += a[i] * b[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

struct Match {
  float score, norm;  // minus infinity: none that is a number
  int32_t with;
};

void reference(const OpCall& c) {
  const auto& p = params_of<MatchTokensParams>(c);
  const auto* x = static_cast<const float*>(c.in[0].data);
  const float* factor = has_input(c, 1) ? static_cast<const float*>(c.in[1].data) : nullptr;
  auto* groups = static_cast<int32_t*>(c.out[0].data);
  const int64_t tokens = c.in[0].dims[0], width = c.in[0].dims[1], even = (tokens + 1) / 2;
  const int64_t merged = merged_tokens(p, tokens), alone = even - merged;
  // The first tokens that may be merged, and be merged with.
  const int64_t first = (int64_t(p.keep) + 1) / 2 * 2, first_odd = int64_t(p.keep) / 2 * 2 + 1;
  Match* matches = merged > 0 ? new (std::nothrow) Match[size_t(even)] : nullptr;
  if (merged > 0 && !matches) {
    for (int64_t i = 0; i < tokens; ++i) groups[i] = 0;
    return;
  }
  for (int64_t b = first_odd; matches && b < tokens; b += 2)
    matches[b / 2].norm = std::sqrt(dot(x + b * width, x + b * width, width));
  for (int64_t a = first; matches && a < tokens; a += 2) {
    const float norm = std::sqrt(dot(x + a * width, x + a * width, width));
    Match best{-INFINITY, 0, int32_t(first_odd)};
    for (int64_t b = first_odd; b < tokens; b += 2) {
      const float cosine = dot(x + a * width, x + b * width, width) / (norm * matches[b / 2].norm);
      const float score = (0.5f + 0.5f * cosine) * (factor ? factor[a] * factor[b] : 1.0f);
      if (score > best.score) best.score = score, best.with = int32_t(b);
    }
    matches[a / 2].score = best.score, matches[a / 2].with = best.with;
  }
  int64_t at = 0;
  for (int64_t a = 0; a < tokens; a += 2) {
    int64_t before = a < first ? merged : 0;
    for (int64_t other = first; before < merged && other < tokens; other += 2)
      before += matches[other / 2].score > matches[a / 2].score ||
                (other < a && matches[other / 2].score == matches[a / 2].score);
    groups[a] = before < merged ? int32_t(alone) + matches[a / 2].with / 2 : int32_t(at++);
  }
  for (int64_t b = 1; b < tokens; b += 2) groups[b] = int32_t(alone + b / 2);
  delete[] matches;
}

}  // namespace

extern constexpr OpDef match_tokens_def = define_op(registry_row::match_tokens, parse, check, reference);

}  // namespace runnel
