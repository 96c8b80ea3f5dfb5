#include "ops/math/math.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::MathKind::MAX) + 1 == kMathKinds && int(format::MathKind::clip) == int(MathKind::kClip) &&
              int(format::MathKind::elu) == int(MathKind::kElu) && int(format::MathKind::sin) == int(MathKind::kSin));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::MathAttrs*>(attrs);
  const int kind = int(a.kind());
  const float alpha = a.alpha(), beta = a.beta();
  RNL_CHECK_ARG(kind >= 0 && kind < kMathKinds, "math: kind %d is not known", kind);
  RNL_CHECK_ARG(!std::isnan(alpha) && !std::isnan(beta), "math: alpha or beta is NaN");
  *params_of<MathParams>(out) = {MathKind(kind), alpha, beta};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("math", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && y.dtype == DType::kF32 && same_shape(x, y),
                "math: x is %s and y is %s, want f32 of one shape", describe(x, a, sizeof a), describe(y, b, sizeof b));
  return Status::ok();
}

double clipped(double x, double low, double high) {
  const double raised = x < low ? low : x;
  return raised > high ? high : raised;
}

double apply(const MathParams& p, double x) {
  const double alpha = double(p.alpha), beta = double(p.beta);
  switch (p.kind) {
    case MathKind::kCeil: return std::ceil(x);
    case MathKind::kRound: return std::nearbyint(x);
    case MathKind::kSign: return x > 0 ? 1 : x < 0 ? -1 : x;
    case MathKind::kErf: return std::erf(x);
    case MathKind::kSin: return std::sin(x);
    case MathKind::kCos: return std::cos(x);
    case MathKind::kTan: return std::tan(x);
    case MathKind::kAsin: return std::asin(x);
    case MathKind::kAcos: return std::acos(x);
    case MathKind::kAtan: return std::atan(x);
    case MathKind::kSinh: return std::sinh(x);
    case MathKind::kCosh: return std::cosh(x);
    case MathKind::kAsinh: return std::asinh(x);
    case MathKind::kAcosh: return std::acosh(x);
    case MathKind::kAtanh: return std::atanh(x);
    case MathKind::kElu: return x < 0 ? alpha * std::expm1(x) : x;
    case MathKind::kLeakyRelu: return x < 0 ? alpha * x : x;
    case MathKind::kHardSigmoid: return clipped(alpha * x + beta, 0, 1);
    case MathKind::kHardSwish: return x * clipped(alpha * x + beta, 0, 1);
    case MathKind::kClip: return clipped(x, alpha, beta);
  }
  return x;
}

void reference(const OpCall& c) {
  const float* x = static_cast<const float*>(c.in[0].data);
  float* y = static_cast<float*>(c.out[0].data);
  const int64_t n = element_count(c.in[0]);
  for (int64_t i = 0; i < n; ++i) y[i] = float(apply(params_of<MathParams>(c), double(x[i])));
}

}  // namespace

extern constexpr OpDef math_def = define_op(registry_row::math, parse, check, reference);

}  // namespace runnel
