#include "ops/solve/solve.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SolveAttrs*>(attrs);
  const float ridge = a.ridge();
  RNL_CHECK_ARG(std::isfinite(ridge) && ridge >= 0, "solve: ridge %g is not a finite value >= 0", double(ridge));
  params_of<SolveParams>(out)->ridge = ridge;
  return Status::ok();
}

Status check(const OpCall& c) {
  char da[96], db[96], dx[96];
  const TensorView &a = c.in[0], &b = c.in[1], &x = c.out[0];
  RNL_TRY(check_dense("solve", "a", a));
  RNL_TRY(check_dense("solve", "b", b));
  RNL_TRY(check_dense("solve", "x", x));
  describe(a, da, sizeof da), describe(b, db, sizeof db), describe(x, dx, sizeof dx);
  bool fits = a.dtype == DType::kF32 && b.dtype == DType::kF32 && x.dtype == DType::kF32 && same_shape(b, x) &&
              a.rank == b.rank && a.rank >= 2;
  for (int i = 0; fits && i + 1 < a.rank; ++i) fits = a.dims[i] == b.dims[i];
  fits = fits && a.dims[a.rank - 1] == a.dims[a.rank - 2];
  RNL_CHECK_ARG(fits, "solve: a is %s, b is %s, x is %s, want [..., n, n] and twice [..., n, columns]", da, db, dx);
  RNL_CHECK_ARG(a.dims[a.rank - 1] <= kMaxSolveSize, "solve: a is %s, want at most %d rows", da, kMaxSolveSize);
  return Status::ok();
}

// Lower triangle of l l^T = a + ridge I, row by row, l packed. NaN spreads from a pivot that is not positive.
void decompose(const float* a, int64_t n, double ridge, double* l) {
  for (int64_t i = 0; i < n; ++i) {
    double* row = l + i * (i + 1) / 2;
    for (int64_t j = 0; j <= i; ++j) {
      const double* other = l + j * (j + 1) / 2;
      double v = double(a[i * n + j]) + (i == j ? ridge : 0);
      for (int64_t k = 0; k < j; ++k) v -= row[k] * other[k];
      row[j] = i == j ? (v > 0 ? std::sqrt(v) : NAN) : v / other[j];
    }
  }
}

void reference(const OpCall& c) {
  const TensorView &a = c.in[0], &b = c.in[1];
  const int64_t n = a.dims[a.rank - 1], columns = b.dims[b.rank - 1];
  if (n == 0 || columns == 0) return;
  // On the stack, so that a step never allocates.
  double l[kMaxSolveSize * (kMaxSolveSize + 1) / 2], x[kMaxSolveSize];
  const int64_t batch = element_count(b) / (n * columns);
  for (int64_t index = 0; index < batch; ++index) {
    decompose(static_cast<const float*>(a.data) + index * n * n, n, double(params_of<SolveParams>(c).ridge), l);
    for (int64_t col = 0; col < columns; ++col) {
      const float* from = static_cast<const float*>(b.data) + index * n * columns + col;
      float* to = static_cast<float*>(c.out[0].data) + index * n * columns + col;
      for (int64_t i = 0; i < n; ++i) {
        double v = double(from[i * columns]);
        for (int64_t k = 0; k < i; ++k) v -= l[i * (i + 1) / 2 + k] * x[k];
        x[i] = v / l[i * (i + 1) / 2 + i];
      }
      for (int64_t i = n - 1; i >= 0; --i) {
        double v = x[i];
        for (int64_t k = i + 1; k < n; ++k) v -= l[k * (k + 1) / 2 + i] * x[k];
        x[i] = v / l[i * (i + 1) / 2 + i];
        to[i * columns] = float(x[i]);
      }
    }
  }
}

}  // namespace

extern constexpr OpDef solve_def = define_op(registry_row::solve, parse, check, reference);

}  // namespace runnel
