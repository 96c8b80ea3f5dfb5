#include "ops/top_k/top_k.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::TopKAttrs*>(attrs);
  *params_of<TopKParams>(out) = {a.smallest(), a.last()};
  return Status::ok();
}

bool has_ids(const OpCall& c) { return c.out_count > 1 && c.out[1].dtype != DType::kNone; }

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &values = c.out[0];
  RNL_TRY(check_dense("top_k", "x", x));
  RNL_TRY(check_dense("top_k", "values", values));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 1 && x.dims[x.rank - 1] <= INT32_MAX,
                "top_k: x is %s, want f32 [..., n]", describe(x, a, sizeof a));
  const auto fits = [&x](const TensorView& t, DType type) {
    bool same = t.dtype == type && t.rank == x.rank && t.dims[x.rank - 1] <= x.dims[x.rank - 1];
    for (int i = 0; same && i + 1 < x.rank; ++i) same = t.dims[i] == x.dims[i];
    return same;
  };
  RNL_CHECK_ARG(fits(values, DType::kF32), "top_k: values are %s of x %s", describe(values, a, sizeof a),
                describe(x, b, sizeof b));
  if (!has_ids(c)) return Status::ok();
  RNL_TRY(check_dense("top_k", "ids", c.out[1]));
  RNL_CHECK_ARG(fits(c.out[1], DType::kI32) && c.out[1].dims[x.rank - 1] == values.dims[x.rank - 1],
                "top_k: ids are %s but values %s", describe(c.out[1], a, sizeof a), describe(values, b, sizeof b));
  return Status::ok();
}

// Whether a, which stands behind b in the row, comes before it.
bool is_before(const TopKParams& p, float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? std::isnan(b) && p.last : true;
  return (p.smallest ? a < b : a > b) || (p.last && a == b);
}

// The results are the memory in which they are sorted.
void reference(const OpCall& c) {
  const auto& p = params_of<TopKParams>(c);
  const TensorView &x = c.in[0], &values = c.out[0];
  const int64_t n = x.dims[x.rank - 1], k = values.dims[x.rank - 1], rows = n == 0 || k == 0 ? 0 : element_count(x) / n;
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = static_cast<const float*>(x.data) + row * n;
    float* best = static_cast<float*>(values.data) + row * k;
    int32_t* ids = has_ids(c) ? static_cast<int32_t*>(c.out[1].data) + row * k : nullptr;
    for (int64_t i = 0, count = 0; i < n; ++i) {
      if (count == k && !is_before(p, from[i], best[k - 1])) continue;
      int64_t at = count < k ? count++ : k - 1;
      for (; at > 0 && is_before(p, from[i], best[at - 1]); --at) {
        best[at] = best[at - 1];
        if (ids) ids[at] = ids[at - 1];
      }
      best[at] = from[i];
      if (ids) ids[at] = int32_t(i);
    }
  }
}

}  // namespace

extern constexpr OpDef top_k_def = define_op(registry_row::top_k, parse, check, reference);

}  // namespace runnel
