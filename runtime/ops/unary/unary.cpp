#include "ops/unary/unary.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {

double unary_reference(UnaryKind kind, double x, double alpha) {
  // x sigmoid(s); at -infinity the limit 0, not -infinity * 0.
  const auto gated = [x](double s) { return x < -1e300 ? -0.0 : x / (1 + std::exp(-s)); };
  switch (kind) {
    case UnaryKind::kNone: return x;
    case UnaryKind::kRelu: return x < 0 ? 0 : x;
    case UnaryKind::kSigmoid: return 1 / (1 + std::exp(-x));
    case UnaryKind::kTanh: return std::tanh(x);
    case UnaryKind::kSilu: return gated(x);
    case UnaryKind::kGelu: return x < -1e300 ? -0.0 : 0.5 * x * std::erfc(-x * 0.70710678118654752440);
    case UnaryKind::kGeluTanh: return gated(2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x));
    case UnaryKind::kExp: return std::exp(x);
    case UnaryKind::kLog: return std::log(x);
    case UnaryKind::kSqrt: return std::sqrt(x);
    case UnaryKind::kRsqrt: return 1 / std::sqrt(x);
    case UnaryKind::kSquare: return x * x;
    case UnaryKind::kNeg: return -x;
    case UnaryKind::kAbs: return std::fabs(x);
    case UnaryKind::kSoftplus: return (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x)));
    case UnaryKind::kReluSquared: return x < 0 ? 0 : x * x;
    case UnaryKind::kGeluQuick: return gated(1.702 * x);
    case UnaryKind::kScale: return alpha * x;
    case UnaryKind::kSoftcap: return alpha * std::tanh(x / alpha);
    case UnaryKind::kFloor: return std::floor(x);
  }
  return x;
}

namespace {

static_assert(int(format::UnaryKind::MAX) + 1 == kUnaryKinds &&
              int(format::UnaryKind::softcap) == int(UnaryKind::kSoftcap) &&
              int(format::UnaryKind::gelu_tanh) == int(UnaryKind::kGeluTanh) &&
              int(format::UnaryKind::softplus) == int(UnaryKind::kSoftplus));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::UnaryAttrs*>(attrs);
  const int kind = int(a.kind());
  const float alpha = a.alpha();
  RNL_CHECK_ARG(kind > 0 && kind < kUnaryKinds, "unary: kind %d is not known", kind);
  RNL_CHECK_ARG(std::isfinite(alpha), "unary: alpha is not finite");
  RNL_CHECK_ARG(alpha > 0 || UnaryKind(kind) != UnaryKind::kSoftcap, "unary: softcap by %g, want a positive value",
                double(alpha));
  *params_of<UnaryParams>(out) = {UnaryKind(kind), alpha};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("unary", "x", x));
  RNL_CHECK_ARG(x.dtype == DType::kF32, "unary: x is %s, want f32", describe(x, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(x, y), "unary: y is %s but x is %s", describe(y, a, sizeof a),
                describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const UnaryParams& p = params_of<UnaryParams>(c);
  const float* x = static_cast<const float*>(c.in[0].data);
  float* y = static_cast<float*>(c.out[0].data);
  const int64_t n = element_count(c.in[0]);
  for (int64_t i = 0; i < n; ++i) y[i] = float(unary_reference(p.kind, double(x[i]), double(p.alpha)));
}

}  // namespace

extern constexpr OpDef unary_def = define_op(registry_row::unary, parse, check, reference);

}  // namespace runnel
