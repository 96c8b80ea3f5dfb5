#include "ops/reduce/reduce.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ReduceAttrs*>(attrs);
  const int kind = int(a.kind()), axis = int(a.axis());
  RNL_CHECK_ARG(kind <= int(ReduceKind::kMin) && axis < kMaxRank, "reduce: kind %d of axis %d is not known", kind,
                axis);
  *params_of<ReduceParams>(out) = {ReduceKind(kind), axis};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  const int axis = params_of<ReduceParams>(c).axis;
  RNL_TRY(check_dense("reduce", "x", x));
  RNL_TRY(check_dense("reduce", "y", y));
  bool fits = x.dtype == DType::kF32 && y.dtype == DType::kF32 && axis < x.rank && y.rank == x.rank - 1;
  for (int i = 0; fits && i < y.rank; ++i) fits = y.dims[i] == x.dims[i < axis ? i : i + 1];
  RNL_CHECK_ARG(fits, "reduce: y is %s but x is %s, without axis %d", describe(y, a, sizeof a),
                describe(x, b, sizeof b), axis);
  return Status::ok();
}

void reference(const OpCall& c) {
  const ReduceParams& p = params_of<ReduceParams>(c);
  const TensorView& x = c.in[0];
  int64_t outer = 1, inner = 1;
  const int64_t n = x.dims[p.axis];
  for (int i = 0; i < x.rank; ++i) (i < p.axis ? outer : inner) *= i == p.axis ? 1 : x.dims[i];
  const float* in = static_cast<const float*>(x.data);
  float* out = static_cast<float*>(c.out[0].data);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      double acc = p.kind == ReduceKind::kMax ? -INFINITY : p.kind == ReduceKind::kMin ? INFINITY : 0;
      for (int64_t k = 0; k < n; ++k) {
        const double v = in[(o * n + k) * inner + i];
        if (p.kind == ReduceKind::kMax) acc = v > acc || std::isnan(v) ? v : acc;
        else if (p.kind == ReduceKind::kMin) acc = v < acc || std::isnan(v) ? v : acc;
        else acc += v;
      }
      out[o * inner + i] = float(p.kind == ReduceKind::kMean ? acc / double(n) : acc);
    }
}

}  // namespace

extern constexpr OpDef reduce_def = define_op(registry_row::reduce, parse, check, reference);

}  // namespace runnel
