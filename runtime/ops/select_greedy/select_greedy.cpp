#include "ops/select_greedy/select_greedy.h"

#include <algorithm>
#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

enum Input { kRows, kScores, kLimit, kThreshold };

bool has(const OpCall& c, int i) { return i < c.in_count && c.in[i].dtype != DType::kNone; }

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &rows = c.in[kRows], &ids = c.out[0], &keys = c.out[1];
  for (int i = 0; i < c.in_count; ++i)
    if (has(c, i)) RNL_TRY(check_dense("select_greedy", "an input", c.in[i]));
  for (int i = 0; i < 2; ++i) RNL_TRY(check_dense("select_greedy", "an output", c.out[i]));
  RNL_CHECK_ARG(rows.dtype == DType::kF32 && rows.rank == 3 && rows.dims[1] <= INT32_MAX,
                "select_greedy: rows are %s, want f32 [batch, n, width]", describe(rows, a, sizeof a));
  const auto is_keys = [&](const TensorView& t) {
    return t.dtype == DType::kF32 && t.rank == 3 && t.dims[0] == rows.dims[0] && t.dims[2] == rows.dims[1];
  };
  RNL_CHECK_ARG(is_keys(keys) && (has(c, kScores) || keys.dims[1] == 1), "select_greedy: keys are %s of rows %s",
                describe(keys, a, sizeof a), describe(rows, b, sizeof b));
  RNL_CHECK_ARG(!has(c, kScores) || (is_keys(c.in[kScores]) && c.in[kScores].dims[1] == keys.dims[1]),
                "select_greedy: scores are %s but keys %s", describe(c.in[kScores], a, sizeof a),
                describe(keys, b, sizeof b));
  RNL_CHECK_ARG(ids.dtype == DType::kI32 && ids.rank == 3 && ids.dims[0] == keys.dims[0] &&
                    ids.dims[1] == keys.dims[1] && ids.dims[2] <= INT32_MAX,
                "select_greedy: ids are %s but keys %s", describe(ids, a, sizeof a), describe(keys, b, sizeof b));
  for (const int i : {kLimit, kThreshold})
    RNL_CHECK_ARG(!has(c, i) || (c.in[i].dtype == DType::kF32 && c.in[i].rank == 1 && c.in[i].dims[0] == 1),
                  "select_greedy: a limit is %s, want f32 [1]", describe(c.in[i], a, sizeof a));
  RNL_CHECK_ARG(!has(c, kLimit) || rows.dims[2] == 4, "select_greedy: boxes are %s, want [batch, n, 4]",
                describe(rows, a, sizeof a));
  return Status::ok();
}

// Length of what two ranges share, each between two numbers in any order.
float shared(float a, float b, float c, float d) {
  return std::max(0.0f, std::min(std::max(a, b), std::max(c, d)) - std::max(std::min(a, b), std::min(c, d)));
}

bool overlap(const float* a, const float* b, float limit) {
  const float area_a = std::fabs((a[2] - a[0]) * (a[3] - a[1])), area_b = std::fabs((b[2] - b[0]) * (b[3] - b[1]));
  if (!(area_a > 0 && area_b > 0)) return false;
  const float both = shared(a[0], a[2], b[0], b[2]) * shared(a[1], a[3], b[1], b[3]);
  return both / (area_a + area_b - both) > limit;
}

float squared_distance(const float* a, const float* b, int64_t width) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
  return float(sum);
}

void reference(const OpCall& c) {
  const TensorView &rows = c.in[kRows], &ids = c.out[0];
  const int64_t n = rows.dims[1], width = rows.dims[2], groups = ids.dims[1], capacity = ids.dims[2];
  const auto number = [&](int i, float otherwise) {
    return has(c, i) ? *static_cast<const float*>(c.in[i].data) : otherwise;
  };
  const bool suppresses = has(c, kLimit);
  const float limit = number(kLimit, 0), threshold = number(kThreshold, -INFINITY);
  for (int64_t g = 0; g < ids.dims[0] * groups; ++g) {
    const float* points = static_cast<const float*>(rows.data) + g / groups * n * width;
    const float* scores = has(c, kScores) ? static_cast<const float*>(c.in[kScores].data) + g * n : nullptr;
    float* keys = static_cast<float*>(c.out[1].data) + g * n;
    int32_t* taken = static_cast<int32_t*>(ids.data) + g * capacity;
    for (int64_t i = 0; i < n; ++i) {
      keys[i] = scores ? scores[i] : 0;
      if (!(keys[i] > threshold)) keys[i] = -INFINITY;
    }
    int64_t count = 0;
    for (; count < capacity; ++count) {
      int64_t best = -1;
      for (int64_t i = 0; i < n; ++i)
        if (keys[i] > (best < 0 ? -INFINITY : keys[best])) best = i;
      if (best < 0) break;
      taken[count] = int32_t(best);
      keys[best] = -INFINITY;
      const float* chosen = points + best * width;
      for (int64_t i = 0; i < n; ++i) {
        if (!(keys[i] > -INFINITY)) continue;
        if (suppresses) {
          if (overlap(chosen, points + i * width, limit)) keys[i] = -INFINITY;
        } else {
          const float far = squared_distance(chosen, points + i * width, width);
          if (count == 0 || !(far >= keys[i])) keys[i] = far;
        }
      }
    }
    std::fill(taken + count, taken + capacity, -1);
  }
}

}  // namespace

extern constexpr OpDef select_greedy_def = define_op(registry_row::select_greedy, parse_nothing, check, reference);

}  // namespace runnel
