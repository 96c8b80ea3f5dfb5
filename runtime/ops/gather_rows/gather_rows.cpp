#include "ops/gather_rows/gather_rows.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &rows = c.in[1], &y = c.out[0];
  RNL_TRY(check_dense("gather_rows", "x", x));
  RNL_TRY(check_dense("gather_rows", "rows", rows));
  RNL_TRY(check_dense("gather_rows", "y", y));
  RNL_CHECK_ARG(x.rank >= 1, "gather_rows: x is a scalar");
  RNL_CHECK_ARG(rows.dtype == DType::kI32 && rows.rank == 1, "gather_rows: rows is %s, want i32 [rows]",
                describe(rows, a, sizeof a));
  bool fits = y.dtype == x.dtype && y.rank == x.rank && y.dims[0] == rows.dims[0];
  for (int i = 1; fits && i < x.rank; ++i) fits = x.dims[i] == y.dims[i];
  RNL_CHECK_ARG(fits, "gather_rows: y is %s but x is %s and there are %" PRId64 " rows", describe(y, a, sizeof a),
                describe(x, b, sizeof b), rows.dims[0]);
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const int32_t* rows = static_cast<const int32_t*>(c.in[1].data);
  const int64_t tokens = c.in[0].dims[0];
  for (int64_t i = 0; i < c.in[1].dims[0]; ++i)
    RNL_CHECK_ARG(rows[i] >= 0 && rows[i] < tokens,
                  "gather_rows: row %d (index %" PRId64 ") is not in [0, %" PRId64 ")", int(rows[i]), i, tokens);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& x = c.in[0];
  size_t bytes = dtype_bytes(x.dtype);
  for (int i = 1; i < x.rank; ++i) bytes *= size_t(x.dims[i]);
  const int32_t* rows = static_cast<const int32_t*>(c.in[1].data);
  if (bytes == 0) return;
  for (int64_t i = 0; i < c.in[1].dims[0]; ++i)
    std::memcpy(static_cast<char*>(c.out[0].data) + size_t(i) * bytes,
                static_cast<const char*>(x.data) + size_t(rows[i]) * bytes, bytes);
}

}  // namespace

extern constexpr OpDef gather_rows_def =
    define_op(registry_row::gather_rows, parse_nothing, check, reference, check_data);

}  // namespace runnel
