#include "ops/batch_matmul/batch_matmul.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::BatchMatmulAttrs*>(attrs);
  const BatchMatmulParams p{a.transpose_a(), a.transpose_b(), a.scale()};
  RNL_CHECK_ARG(std::isfinite(p.scale), "batch_matmul: scale is not finite");
  *params_of<BatchMatmulParams>(out) = p;
  return Status::ok();
}

// Size of batch axis i of y (of its rank - 2) in t, 1 where t has no such axis.
int64_t batch_dim(const TensorView& t, const TensorView& y, int i) {
  const int at = i - (y.rank - t.rank);
  return at < 0 ? 1 : t.dims[at];
}

Status check(const OpCall& c) {
  char da[96], db[96], dy[96];
  const BatchMatmulParams& p = params_of<BatchMatmulParams>(c);
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  RNL_TRY(check_dense("batch_matmul", "a", a));
  RNL_TRY(check_dense("batch_matmul", "b", b));
  RNL_TRY(check_dense("batch_matmul", "y", y));
  describe(a, da, sizeof da), describe(b, db, sizeof db), describe(y, dy, sizeof dy);
  bool fits = a.dtype == DType::kF32 && b.dtype == DType::kF32 && y.dtype == DType::kF32 && a.rank >= 2 &&
              b.rank >= 2 && y.rank == (a.rank > b.rank ? a.rank : b.rank);
  if (fits) {
    const int64_t m = a.dims[a.rank - 2 + p.transpose_a], k = a.dims[a.rank - 1 - p.transpose_a];
    fits = y.dims[y.rank - 2] == m && y.dims[y.rank - 1] == b.dims[b.rank - 1 - p.transpose_b] &&
           b.dims[b.rank - 2 + p.transpose_b] == k;
  }
  for (int i = 0; fits && i < y.rank - 2; ++i) {
    const int64_t u = batch_dim(a, y, i), v = batch_dim(b, y, i);
    fits = (u == v || u == 1 || v == 1) && y.dims[i] == (u == 1 ? v : u);
  }
  RNL_CHECK_ARG(fits, "batch_matmul: %s%s times %s%s does not give %s", da, p.transpose_a ? " transposed" : "", db,
                p.transpose_b ? " transposed" : "", dy);
  return Status::ok();
}

// Where matrix `index` of y's batch begins in t, in elements.
int64_t batch_offset(const TensorView& t, const TensorView& y, int64_t index) {
  int64_t at = 0, step = t.dims[t.rank - 1] * t.dims[t.rank - 2];
  for (int i = y.rank - 3; i >= 0; --i) {
    const int64_t n = batch_dim(t, y, i);
    at += n == 1 ? 0 : index % y.dims[i] * step;
    step *= n;
    index /= y.dims[i];
  }
  return at;
}

void reference(const OpCall& c) {
  const BatchMatmulParams& p = params_of<BatchMatmulParams>(c);
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  const int64_t m = y.dims[y.rank - 2], n = y.dims[y.rank - 1], k = a.dims[a.rank - 1 - p.transpose_a];
  if (m * n == 0) return;
  const int64_t batch = element_count(y) / (m * n);
  for (int64_t index = 0; index < batch; ++index) {
    const float* pa = static_cast<const float*>(a.data) + batch_offset(a, y, index);
    const float* pb = static_cast<const float*>(b.data) + batch_offset(b, y, index);
    float* py = static_cast<float*>(y.data) + index * m * n;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t d = 0; d < k; ++d)
          sum += double(pa[p.transpose_a ? d * m + i : i * k + d]) * double(pb[p.transpose_b ? j * k + d : d * n + j]);
        py[i * n + j] = float(sum * double(p.scale));
      }
  }
}

}  // namespace

extern constexpr OpDef batch_matmul_def = define_op(registry_row::batch_matmul, parse, check, reference);

}  // namespace runnel
