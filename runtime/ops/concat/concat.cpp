#include "ops/concat/concat.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ConcatAttrs*>(attrs);
  const int axis = int(a.axis());
  RNL_CHECK_ARG(axis < kMaxRank, "concat: axis %d is above the largest rank %d", axis, kMaxRank);
  params_of<ConcatParams>(out)->axis = axis;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const int axis = params_of<ConcatParams>(c).axis;
  const TensorView& y = c.out[0];
  RNL_TRY(check_dense("concat", "y", y));
  RNL_CHECK_ARG(axis < y.rank, "concat: axis %d of %s", axis, describe(y, a, sizeof a));
  int64_t sum = 0;
  for (int k = 0; k < c.in_count; ++k) {
    const TensorView& x = c.in[k];
    RNL_TRY(check_dense("concat", "an input", x));
    bool fits = x.dtype == y.dtype && x.rank == y.rank;
    for (int i = 0; fits && i < y.rank; ++i) fits = i == axis || x.dims[i] == y.dims[i];
    RNL_CHECK_ARG(fits, "concat: input %d is %s but y is %s", k, describe(x, a, sizeof a), describe(y, b, sizeof b));
    sum += x.dims[axis];  // below 2^40 each, at most 16 of them
  }
  RNL_CHECK_ARG(sum == y.dims[axis], "concat: the inputs' axis %d adds up to %" PRId64 " but y is %s", axis, sum,
                describe(y, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const int axis = params_of<ConcatParams>(c).axis;
  const TensorView& y = c.out[0];
  size_t inner = dtype_bytes(y.dtype), outer = 1;
  for (int i = 0; i < axis; ++i) outer *= size_t(y.dims[i]);
  for (int i = axis + 1; i < y.rank; ++i) inner *= size_t(y.dims[i]);
  const size_t stride = inner * size_t(y.dims[axis]);
  size_t at = 0;
  for (int k = 0; k < c.in_count; ++k) {
    const size_t bytes = inner * size_t(c.in[k].dims[axis]);
    if (bytes == 0) continue;
    for (size_t i = 0; i < outer; ++i)
      std::memcpy(static_cast<char*>(y.data) + i * stride + at, static_cast<const char*>(c.in[k].data) + i * bytes,
                  bytes);
    at += bytes;
  }
}

}  // namespace

extern constexpr OpDef concat_def = define_op(registry_row::concat, parse, check, reference);

}  // namespace runnel
