#include "ops/gather/gather.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::GatherAttrs*>(attrs);
  RNL_CHECK_ARG(a.axis() < kMaxRank, "gather: axis %u", unsigned(a.axis()));
  params_of<GatherParams>(out)->axis = a.axis();
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96], d[96];
  const TensorView &x = c.in[0], &ids = c.in[1], &y = c.out[0];
  const int axis = params_of<GatherParams>(c).axis;
  RNL_TRY(check_dense("gather", "x", x));
  RNL_TRY(check_dense("gather", "ids", ids));
  RNL_TRY(check_dense("gather", "y", y));
  describe(x, a, sizeof a), describe(ids, b, sizeof b), describe(y, d, sizeof d);
  RNL_CHECK_ARG(axis < x.rank && ids.dtype == DType::kI32, "gather: x is %s, ids is %s, axis %d", a, b, axis);
  bool fits = y.dtype == x.dtype && y.rank == x.rank - 1 + ids.rank;
  for (int i = 0; fits && i < y.rank; ++i)
    fits = y.dims[i] == (i < axis ? x.dims[i] : i < axis + ids.rank ? ids.dims[i - axis] : x.dims[i - ids.rank + 1]);
  RNL_CHECK_ARG(fits, "gather: x is %s and ids is %s but y is %s", a, b, d);
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const int32_t* ids = static_cast<const int32_t*>(c.in[1].data);
  const int64_t n = element_count(c.in[1]), size = c.in[0].dims[params_of<GatherParams>(c).axis];
  for (int64_t i = 0; i < n; ++i)
    RNL_CHECK_ARG(ids[i] >= -size && ids[i] < size, "gather: id %d (index %" PRId64 ") of an axis of %" PRId64,
                  int(ids[i]), i, size);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& x = c.in[0];
  const int axis = params_of<GatherParams>(c).axis;
  int64_t outer = 1;
  size_t bytes = dtype_bytes(x.dtype);
  for (int i = 0; i < axis; ++i) outer *= x.dims[i];
  for (int i = axis + 1; i < x.rank; ++i) bytes *= size_t(x.dims[i]);
  const int32_t* ids = static_cast<const int32_t*>(c.in[1].data);
  const int64_t n = element_count(c.in[1]), size = x.dims[axis];
  char* to = static_cast<char*>(c.out[0].data);
  if (bytes == 0) return;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < n; ++i, to += bytes)
      std::memcpy(to,
                  static_cast<const char*>(x.data) + size_t(o * size + (ids[i] < 0 ? ids[i] + size : ids[i])) * bytes,
                  bytes);
}

}  // namespace

extern constexpr OpDef gather_def = define_op(registry_row::gather, parse, check, reference, check_data);

}  // namespace runnel
