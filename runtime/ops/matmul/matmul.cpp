#include "ops/matmul/matmul.h"

#include "format/packed.h"
#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void*, OpParams*) { return Status::ok(); }

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView& x = c.in[0];
  const int count = c.out_count;
  RNL_TRY(check_dense("matmul", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank >= 1, "matmul: x is %s, want f32 [..., K]", describe(x, a, sizeof a));
  RNL_CHECK_ARG(c.in_count >= 1 + count, "matmul: %d outputs need as many weights, but there are %d inputs", count,
                c.in_count);
  RNL_CHECK_ARG(c.in_count <= 1 + 2 * count, "matmul: %d inputs are too many for %d outputs", c.in_count, count);
  const int64_t k = x.dims[x.rank - 1];
  for (int i = 0; i < count; ++i) {
    const TensorView &w = c.in[1 + i], &y = c.out[i];
    RNL_CHECK_ARG(w.dtype == DType::kPacked && w.rank == 2 && w.dims[1] == k, "matmul: weight %d is %s but x is %s",
                  i + 1, describe(w, a, sizeof a), describe(x, b, sizeof b));
    RNL_TRY(check_dense("matmul", "an output", y));
    bool fits = y.dtype == DType::kF32 && y.rank >= x.rank;
    int64_t n = 1;
    for (int d = 0; fits && d < y.rank; ++d) {
      if (d + 1 < x.rank) fits = y.dims[d] == x.dims[d];
      else n *= y.dims[d];
    }
    RNL_CHECK_ARG(fits && n == w.dims[0], "matmul: output %d is %s but x is %s and the weight has %" PRId64 " rows",
                  i + 1, describe(y, a, sizeof a), describe(x, b, sizeof b), w.dims[0]);
    if (has_input(c, RNL_MATMUL_BIAS(count, i))) {
      const TensorView& bias = c.in[RNL_MATMUL_BIAS(count, i)];
      RNL_CHECK_ARG(bias.dtype == DType::kF32 && bias.rank == 1 && bias.dims[0] == w.dims[0],
                    "matmul: bias %d is %s but its weight has %" PRId64 " rows", i + 1, describe(bias, a, sizeof a),
                    w.dims[0]);
    }
  }
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& x = c.in[0];
  const int64_t k = x.dims[x.rank - 1];
  int64_t tokens = 1;
  for (int d = 0; d + 1 < x.rank; ++d) tokens *= x.dims[d];
  // Rows are unpacked in pieces and tokens taken in groups, so that nothing is allocated.
  constexpr int64_t kPiece = 1024, kGroup = 64;
  float row[kPiece];
  for (int i = 0; i < c.out_count; ++i) {
    const TensorView& w = c.in[1 + i];
    const int bias_at = RNL_MATMUL_BIAS(c.out_count, i);
    const float* bias = has_input(c, bias_at) ? static_cast<const float*>(c.in[bias_at].data) : nullptr;
    const int64_t rows = w.dims[0];
    float* y = static_cast<float*>(c.out[i].data);
    for (int64_t t0 = 0; t0 < tokens; t0 += kGroup) {
      const int64_t group = t0 + kGroup < tokens ? kGroup : tokens - t0;
      for (int64_t n = 0; n < rows; ++n) {
        double sum[kGroup];
        for (int64_t t = 0; t < group; ++t) sum[t] = bias ? double(bias[n]) : 0.0;
        for (int64_t first = 0; first < k; first += kPiece) {
          const int64_t size = first + kPiece < k ? kPiece : k - first;
          unpack_columns(*w.packed, w.data, k, n, first, first + size, row);
          for (int64_t t = 0; t < group; ++t) {
            const float* in = static_cast<const float*>(x.data) + (t0 + t) * k + first;
            for (int64_t j = 0; j < size; ++j) sum[t] += double(in[j]) * double(row[j]);
          }
        }
        for (int64_t t = 0; t < group; ++t) y[(t0 + t) * rows + n] = float(sum[t]);
      }
    }
  }
}

}  // namespace

extern constexpr OpDef matmul_def = define_op(registry_row::matmul, parse, check, reference);

}  // namespace runnel
