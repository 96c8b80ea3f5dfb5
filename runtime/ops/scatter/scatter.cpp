#include "ops/scatter/scatter.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::ScatterKind::MAX) == int(ScatterKind::kMin));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ScatterAttrs*>(attrs);
  RNL_CHECK_ARG(a.kind() <= format::ScatterKind::MAX, "scatter: kind %d is not known", int(a.kind()));
  params_of<ScatterParams>(out)->kind = ScatterKind(a.kind());
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96], d[96];
  const TensorView &x = c.in[0], &ids = c.in[1], &updates = c.in[2], &y = c.out[0];
  RNL_TRY(check_dense("scatter", "x", x));
  RNL_TRY(check_dense("scatter", "ids", ids));
  RNL_TRY(check_dense("scatter", "updates", updates));
  RNL_TRY(check_dense("scatter", "y", y));
  bool fits = (x.dtype == DType::kF32 || x.dtype == DType::kI32) && ids.dtype == DType::kI32 && ids.rank == 1 &&
              updates.dtype == x.dtype && y.dtype == x.dtype && x.rank >= 1 && updates.rank == x.rank &&
              y.rank == x.rank && y.dims[0] == x.dims[0] && updates.dims[0] == ids.dims[0];
  for (int i = 1; fits && i < x.rank; ++i) fits = updates.dims[i] == x.dims[i] && y.dims[i] == x.dims[i];
  RNL_CHECK_ARG(fits, "scatter: x is %s, ids are %s and updates %s", describe(x, a, sizeof a),
                describe(ids, b, sizeof b), describe(updates, d, sizeof d));
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const int32_t* ids = static_cast<const int32_t*>(c.in[1].data);
  const int64_t n = c.in[1].dims[0], rows = c.in[0].dims[0];
  for (int64_t i = 0; i < n; ++i)
    RNL_CHECK_ARG(ids[i] >= -rows && ids[i] < rows, "scatter: id %d (index %" PRId64 ") of %" PRId64 " rows",
                  int(ids[i]), i, rows);
  return Status::ok();
}

float met(ScatterKind kind, float a, float b) {
  if (kind == ScatterKind::kAdd) return a + b;
  if (kind == ScatterKind::kMul) return a * b;
  if (a != a) return a;
  return kind == ScatterKind::kMax ? (a > b ? a : b) : (a < b ? a : b);
}
int32_t met(ScatterKind kind, int32_t a, int32_t b) {
  if (kind == ScatterKind::kAdd) return int32_t(uint32_t(a) + uint32_t(b));
  if (kind == ScatterKind::kMul) return int32_t(uint32_t(a) * uint32_t(b));
  return kind == ScatterKind::kMax ? (a > b ? a : b) : (a < b ? a : b);
}

template <class T>
void meet(const OpCall& c, ScatterKind kind, int64_t row) {
  const int32_t* ids = static_cast<const int32_t*>(c.in[1].data);
  const T* from = static_cast<const T*>(c.in[2].data);
  T* y = static_cast<T*>(c.out[0].data);
  for (int64_t i = 0; i < c.in[1].dims[0]; ++i) {
    T* to = y + (ids[i] < 0 ? ids[i] + c.in[0].dims[0] : ids[i]) * row;
    for (int64_t k = 0; k < row; ++k, ++from) to[k] = kind == ScatterKind::kSet ? *from : met(kind, to[k], *from);
  }
}

void reference(const OpCall& c) {
  const TensorView& x = c.in[0];
  const int64_t n = element_count(x);
  if (n == 0) return;
  if (c.out[0].data != x.data) std::memcpy(c.out[0].data, x.data, size_t(n) * 4);
  const ScatterKind kind = params_of<ScatterParams>(c).kind;
  if (x.dtype == DType::kF32) meet<float>(c, kind, n / x.dims[0]);
  else meet<int32_t>(c, kind, n / x.dims[0]);
}

}  // namespace

extern constexpr OpDef scatter_def = define_op(registry_row::scatter, parse, check, reference, check_data);

}  // namespace runnel
