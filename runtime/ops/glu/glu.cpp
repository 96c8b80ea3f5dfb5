#include "ops/glu/glu.h"

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::GluAttrs*>(attrs);
  const int kind = int(a.activation());
  RNL_CHECK_ARG(kind >= 0 && kind < kUnaryKinds, "glu: activation %d is not known", kind);
  RNL_CHECK_ARG(UnaryKind(kind) != UnaryKind::kScale && UnaryKind(kind) != UnaryKind::kSoftcap,
                "glu: %s is not an activation for gates", UnaryKind(kind) == UnaryKind::kScale ? "scale" : "softcap");
  params_of<GluParams>(out)->activation = UnaryKind(kind);
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &gate = c.in[0], &up = c.in[1], &y = c.out[0];
  RNL_TRY(check_dense("glu", "gate", gate));
  RNL_CHECK_ARG(gate.dtype == DType::kF32, "glu: gate is %s, want f32", describe(gate, a, sizeof a));
  RNL_CHECK_ARG(up.dtype == DType::kF32 && same_shape(gate, up), "glu: up is %s but gate is %s",
                describe(up, a, sizeof a), describe(gate, b, sizeof b));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(gate, y), "glu: y is %s but gate is %s", describe(y, a, sizeof a),
                describe(gate, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const UnaryKind kind = params_of<GluParams>(c).activation;
  const float* gate = static_cast<const float*>(c.in[0].data);
  const float* up = static_cast<const float*>(c.in[1].data);
  float* y = static_cast<float*>(c.out[0].data);
  const int64_t n = element_count(c.in[0]);
  for (int64_t i = 0; i < n; ++i) y[i] = float(unary_reference(kind, double(gate[i]), 1.0) * double(up[i]));
}

}  // namespace

extern constexpr OpDef glu_def = define_op(registry_row::glu, parse, check, reference);

}  // namespace runnel
