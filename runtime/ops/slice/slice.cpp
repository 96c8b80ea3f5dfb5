#include "ops/slice/slice.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SliceAttrs*>(attrs);
  const int axis = int(a.axis());
  RNL_CHECK_ARG(axis < kMaxRank, "slice: axis %d is above the largest rank %d", axis, kMaxRank);
  *params_of<SliceParams>(out) = {a.begin(), axis};
  return Status::ok();
}

// First index of the slice; only meaningful when begin is within the axis.
int64_t first_index(const SliceParams& p, const TensorView& x) {
  return p.begin < 0 ? p.begin + x.dims[p.axis] : p.begin;
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const SliceParams& p = params_of<SliceParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("slice", "x", x));
  RNL_TRY(check_dense("slice", "y", y));
  RNL_CHECK_ARG(p.axis < x.rank, "slice: axis %d of %s", p.axis, describe(x, a, sizeof a));
  bool fits = x.dtype == y.dtype && x.rank == y.rank;
  for (int i = 0; fits && i < x.rank; ++i) fits = i == p.axis || x.dims[i] == y.dims[i];
  RNL_CHECK_ARG(fits, "slice: y is %s but x is %s", describe(y, a, sizeof a), describe(x, b, sizeof b));
  const int64_t size = x.dims[p.axis], begin = first_index(p, x);
  RNL_CHECK_ARG(begin >= 0 && begin <= size && y.dims[p.axis] <= size - begin,
                "slice: %" PRId64 " from %" PRId64 " on of an axis of %" PRId64, y.dims[p.axis], p.begin, size);
  return Status::ok();
}

void reference(const OpCall& c) {
  const SliceParams& p = params_of<SliceParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  size_t inner = dtype_bytes(x.dtype), outer = 1;
  for (int i = 0; i < p.axis; ++i) outer *= size_t(x.dims[i]);
  for (int i = p.axis + 1; i < x.rank; ++i) inner *= size_t(x.dims[i]);
  const size_t from = inner * size_t(x.dims[p.axis]), to = inner * size_t(y.dims[p.axis]);
  if (to == 0) return;
  const char* source = static_cast<const char*>(x.data) + inner * size_t(first_index(p, x));
  for (size_t i = 0; i < outer; ++i) std::memcpy(static_cast<char*>(y.data) + i * to, source + i * from, to);
}

}  // namespace

extern constexpr OpDef slice_def = define_op(registry_row::slice, parse, check, reference);

}  // namespace runnel
