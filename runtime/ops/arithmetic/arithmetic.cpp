#include "ops/arithmetic/arithmetic.h"

#include <cmath>

#include "ops/broadcast.h"
#include "ops/define.h"

namespace runnel {
namespace {

static_assert(int(format::ArithmeticKind::MAX) == int(ArithmeticKind::kXor) &&
              int(format::ArithmeticKind::equal) == int(ArithmeticKind::kEqual));

Status parse(const void* attrs, OpParams* out) {
  const int kind = int(static_cast<const format::ArithmeticAttrs*>(attrs)->kind());
  RNL_CHECK_ARG(kind >= 0 && kind <= int(ArithmeticKind::kXor), "arithmetic: kind %d is not known", kind);
  params_of<ArithmeticParams>(out)->kind = ArithmeticKind(kind);
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96], d[96];
  const ArithmeticKind kind = params_of<ArithmeticParams>(c).kind;
  RNL_TRY(check_dense("arithmetic", "a", c.in[0]));
  RNL_TRY(check_dense("arithmetic", "b", c.in[1]));
  RNL_TRY(check_dense("arithmetic", "y", c.out[0]));
  describe(c.in[0], a, sizeof a), describe(c.in[1], b, sizeof b), describe(c.out[0], d, sizeof d);
  const DType type = c.in[0].dtype;
  const bool is_float = type == DType::kF32, is_bits = kind >= ArithmeticKind::kAnd;
  RNL_CHECK_ARG((is_float || type == DType::kI32) && c.in[1].dtype == type &&
                    c.out[0].dtype == (is_comparison(kind) ? DType::kI32 : type),
                "arithmetic: a is %s, b is %s, y is %s, want f32 or i32", a, b, d);
  RNL_CHECK_ARG(!(is_bits && is_float) && !(kind == ArithmeticKind::kPow && !is_float), "arithmetic: kind %d of %s",
                int(kind), a);
  RNL_CHECK_ARG(is_broadcast_of(c.in, 2, c.out[0]), "arithmetic: %s and %s do not broadcast to %s", a, b, d);
  return Status::ok();
}

float of_floats(ArithmeticKind kind, float u, float v) {
  switch (kind) {
    case ArithmeticKind::kAdd: return u + v;
    case ArithmeticKind::kSub: return u - v;
    case ArithmeticKind::kMul: return u * v;
    case ArithmeticKind::kDiv: return u / v;
    case ArithmeticKind::kMax: return std::isnan(u) ? u : std::isnan(v) ? v : u > v ? u : v;
    case ArithmeticKind::kMin: return std::isnan(u) ? u : std::isnan(v) ? v : u < v ? u : v;
    case ArithmeticKind::kMod: {
      const float r = std::fmod(u, v);
      return r != 0 && (r < 0) != (v < 0) ? r + v : r;
    }
    case ArithmeticKind::kFmod: return std::fmod(u, v);
    default: return float(std::pow(double(u), double(v)));
  }
}

int32_t of_integers(ArithmeticKind kind, int32_t u, int32_t v) {
  const int64_t a = u, b = v;
  switch (kind) {
    case ArithmeticKind::kAdd: return int32_t(uint32_t(u) + uint32_t(v));
    case ArithmeticKind::kSub: return int32_t(uint32_t(u) - uint32_t(v));
    case ArithmeticKind::kMul: return int32_t(uint32_t(u) * uint32_t(v));
    case ArithmeticKind::kDiv: return b ? int32_t(a / b) : 0;
    case ArithmeticKind::kMax: return u > v ? u : v;
    case ArithmeticKind::kMin: return u < v ? u : v;
    case ArithmeticKind::kMod: return b ? int32_t((a % b + b) % b) : 0;
    case ArithmeticKind::kFmod: return b ? int32_t(a % b) : 0;
    case ArithmeticKind::kAnd: return u & v;
    case ArithmeticKind::kOr: return u | v;
    default: return u ^ v;
  }
}

template <class T>
int32_t compared(ArithmeticKind kind, T u, T v) {
  return kind == ArithmeticKind::kEqual     ? u == v
         : kind == ArithmeticKind::kUnequal ? !(u == v)
         : kind == ArithmeticKind::kLess    ? u < v
                                            : u <= v;
}

void reference(const OpCall& c) {
  const TensorView& y = c.out[0];
  const ArithmeticKind kind = params_of<ArithmeticParams>(c).kind;
  const bool is_float = c.in[0].dtype == DType::kF32;
  int64_t steps_a[kMaxRank], steps_b[kMaxRank];
  broadcast_steps(c.in[0], y, steps_a);
  broadcast_steps(c.in[1], y, steps_b);
  const int64_t n = element_count(y);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at_a = broadcast_at(i, y, steps_a), at_b = broadcast_at(i, y, steps_b);
    if (is_float) {
      const float u = static_cast<const float*>(c.in[0].data)[at_a], v = static_cast<const float*>(c.in[1].data)[at_b];
      if (is_comparison(kind)) static_cast<int32_t*>(y.data)[i] = compared(kind, u, v);
      else static_cast<float*>(y.data)[i] = of_floats(kind, u, v);
      continue;
    }
    const int32_t u = static_cast<const int32_t*>(c.in[0].data)[at_a],
                  v = static_cast<const int32_t*>(c.in[1].data)[at_b];
    static_cast<int32_t*>(y.data)[i] = is_comparison(kind) ? compared(kind, u, v) : of_integers(kind, u, v);
  }
}

}  // namespace

extern constexpr OpDef arithmetic_def = define_op(registry_row::arithmetic, parse, check, reference);

}  // namespace runnel
