#include "ops/binary/binary.h"

#include <cmath>

#include "ops/broadcast.h"
#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::BinaryKind::MAX) == int(BinaryKind::kMin) &&
              int(format::BinaryKind::div) == int(BinaryKind::kDiv));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::BinaryAttrs*>(attrs);
  const int kind = int(a.kind());
  RNL_CHECK_ARG(kind >= 0 && kind <= int(BinaryKind::kMin), "binary: kind %d is not known", kind);
  params_of<BinaryParams>(out)->kind = BinaryKind(kind);
  return Status::ok();
}

Status check(const OpCall& c) {
  char da[96], db[96], dy[96];
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  RNL_TRY(check_dense("binary", "a", a));
  RNL_TRY(check_dense("binary", "b", b));
  RNL_TRY(check_dense("binary", "y", y));
  describe(a, da, sizeof da), describe(b, db, sizeof db), describe(y, dy, sizeof dy);
  RNL_CHECK_ARG(a.dtype == DType::kF32 && b.dtype == DType::kF32 && y.dtype == DType::kF32,
                "binary: a is %s, b is %s, y is %s, want f32", da, db, dy);
  RNL_CHECK_ARG(is_broadcast_of(c.in, 2, y), "binary: %s and %s do not broadcast to %s", da, db, dy);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  const BinaryKind kind = params_of<BinaryParams>(c).kind;
  int64_t steps_a[kMaxRank], steps_b[kMaxRank];
  broadcast_steps(a, y, steps_a);
  broadcast_steps(b, y, steps_b);
  const int64_t n = element_count(y);
  for (int64_t at = 0; at < n; ++at) {
    const float u = static_cast<const float*>(a.data)[broadcast_at(at, y, steps_a)],
                v = static_cast<const float*>(b.data)[broadcast_at(at, y, steps_b)];
    float r = 0;
    switch (kind) {
      case BinaryKind::kAdd: r = u + v; break;
      case BinaryKind::kSub: r = u - v; break;
      case BinaryKind::kMul: r = u * v; break;
      case BinaryKind::kDiv: r = u / v; break;
      case BinaryKind::kMax: r = std::isnan(u) ? u : std::isnan(v) ? v : u > v ? u : v; break;
      case BinaryKind::kMin: r = std::isnan(u) ? u : std::isnan(v) ? v : u < v ? u : v; break;
    }
    static_cast<float*>(y.data)[at] = r;
  }
}

}  // namespace

extern constexpr OpDef binary_def = define_op(registry_row::binary, parse, check, reference);

}  // namespace runnel
