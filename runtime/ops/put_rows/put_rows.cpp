#include "ops/put_rows/put_rows.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

bool has_shape_behind(const TensorView& t, const TensorView& base) {
  bool fits = t.dtype == base.dtype && t.rank == base.rank;
  for (int i = 1; fits && i < base.rank; ++i) fits = t.dims[i] == base.dims[i];
  return fits;
}

Status check(const OpCall& c) {
  char a[96], b[96], d[96], e[96];
  const TensorView &base = c.in[0], &rows = c.in[1], &values = c.in[2], &y = c.out[0];
  RNL_TRY(check_dense("put_rows", "base", base));
  RNL_TRY(check_dense("put_rows", "rows", rows));
  RNL_TRY(check_dense("put_rows", "values", values));
  RNL_TRY(check_dense("put_rows", "y", y));
  describe(base, a, sizeof a), describe(rows, b, sizeof b), describe(values, d, sizeof d), describe(y, e, sizeof e);
  RNL_CHECK_ARG(base.rank >= 1 && rows.dtype == DType::kI32 && rows.rank == 1,
                "put_rows: base is %s and rows are %s, want an axis and i32 [count]", a, b);
  RNL_CHECK_ARG(has_shape_behind(values, base) && values.dims[0] == rows.dims[0],
                "put_rows: values are %s for base %s and rows %s", d, a, b);
  RNL_CHECK_ARG(has_shape_behind(y, base) && y.dims[0] == base.dims[0], "put_rows: y is %s but base is %s", e, a);
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const int32_t* rows = static_cast<const int32_t*>(c.in[1].data);
  const int64_t n = c.in[0].dims[0];
  for (int64_t i = 0; i < c.in[1].dims[0]; ++i)
    RNL_CHECK_ARG(rows[i] >= 0 && rows[i] < n, "put_rows: row %d (index %" PRId64 ") is not in [0, %" PRId64 ")",
                  int(rows[i]), i, n);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView &base = c.in[0], &values = c.in[2];
  size_t bytes = dtype_bytes(base.dtype);
  for (int i = 1; i < base.rank; ++i) bytes *= size_t(base.dims[i]);
  if (bytes == 0 || base.dims[0] == 0) return;
  const int32_t* rows = static_cast<const int32_t*>(c.in[1].data);
  char* y = static_cast<char*>(c.out[0].data);
  std::memcpy(y, base.data, bytes * size_t(base.dims[0]));
  for (int64_t i = 0; i < values.dims[0]; ++i)
    std::memcpy(y + size_t(rows[i]) * bytes, static_cast<const char*>(values.data) + size_t(i) * bytes, bytes);
}

}  // namespace

extern constexpr OpDef put_rows_def = define_op(registry_row::put_rows, parse_nothing, check, reference, check_data);

}  // namespace runnel
