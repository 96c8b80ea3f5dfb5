#include "ops/index/index.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::IndexAttrs*>(attrs);
  const float begin = a.begin(), step = a.step();
  RNL_CHECK_ARG(std::isfinite(begin) && std::isfinite(step), "index: begin or step is not finite");
  *params_of<IndexParams>(out) = {begin, step};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96];
  const TensorView& y = c.out[0];
  const IndexParams& p = params_of<IndexParams>(c);
  RNL_TRY(check_dense("index", "y", y));
  RNL_CHECK_ARG((y.dtype == DType::kF32 || y.dtype == DType::kI32) && y.rank == 1,
                "index: y is %s, want [n] f32 or i32", describe(y, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kF32 || (p.begin == std::floor(p.begin) && p.step == std::floor(p.step)),
                "index: begin %g and step %g of integers", double(p.begin), double(p.step));
  return Status::ok();
}

void reference(const OpCall& c) {
  const IndexParams& p = params_of<IndexParams>(c);
  for (int64_t i = 0; i < c.out[0].dims[0]; ++i) {
    const double v = double(p.begin) + double(p.step) * double(i);
    if (c.out[0].dtype == DType::kF32) static_cast<float*>(c.out[0].data)[i] = float(v);
    else
      static_cast<int32_t*>(c.out[0].data)[i] = v >= 2147483647.0    ? INT32_MAX
                                                : v <= -2147483648.0 ? INT32_MIN
                                                                     : int32_t(v);
  }
}

}  // namespace

extern constexpr OpDef index_def = define_op(registry_row::index, parse, check, reference);

}  // namespace runnel
