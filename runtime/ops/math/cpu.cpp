// The functions that networks apply to whole images. The others are few elements of a pass and stay with the reference.
#include "ops/math/math.h"
#include "ops/unary/activations.inl"

#include "cpu/call.h"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kElementsPerTask = 16384;

struct Job {
  const float* x;
  float* y;
  int64_t n;
  float alpha, beta;
  void (*span)(const Job& j, int64_t begin, int64_t end);
};

RNL_INLINE f32x16 clipped(f32x16 x, f32x16 low, f32x16 high) {
  const f32x16 raised = select(x < low, low, x);
  return select(raised > high, high, raised);
}

template <MathKind kind>
RNL_INLINE f32x16 apply(f32x16 x, float alpha, float beta) {
  const f32x16 zero = splat(0.0f);
  if constexpr (kind == MathKind::kErf) {
    const f32x16 y = normal_cdf(x * 1.41421356237f) * 2.0f - 1.0f;
    return y;
  } else if constexpr (kind == MathKind::kElu) {
    return select(x < zero, (exp(x) - 1.0f) * alpha, x);
  } else if constexpr (kind == MathKind::kLeakyRelu) {
    return select(x < zero, x * alpha, x);
  } else if constexpr (kind == MathKind::kHardSigmoid) {
    return clipped(fma(x, splat(alpha), splat(beta)), zero, splat(1.0f));
  } else if constexpr (kind == MathKind::kHardSwish) {
    return x * clipped(fma(x, splat(alpha), splat(beta)), zero, splat(1.0f));
  } else {
    return clipped(x, splat(alpha), splat(beta));
  }
}

template <MathKind kind>
void span(const Job& j, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) store(j.y + i, apply<kind>(load(j.x + i), j.alpha, j.beta));
  if (i < end) store_n(j.y + i, apply<kind>(load_n(j.x + i, int(end - i)), j.alpha, j.beta), int(end - i));
}

// Null: of a kind that stays with the reference.
decltype(Job::span) span_of(MathKind kind) {
  switch (kind) {
    case MathKind::kErf: return span<MathKind::kErf>;
    case MathKind::kElu: return span<MathKind::kElu>;
    case MathKind::kLeakyRelu: return span<MathKind::kLeakyRelu>;
    case MathKind::kHardSigmoid: return span<MathKind::kHardSigmoid>;
    case MathKind::kHardSwish: return span<MathKind::kHardSwish>;
    case MathKind::kClip: return span<MathKind::kClip>;
    default: return nullptr;
  }
}

bool supports(const OpCall& c) { return span_of(params_of<MathParams>(c).kind) != nullptr; }

void run(const OpCall& c) {
  const MathParams& p = params_of<MathParams>(c);
  Job j{input<float>(c, 0), output<float>(c, 0), elements_of(c.in[0]), p.alpha, p.beta, span_of(p.kind)};
  const int64_t tasks = (j.n + kElementsPerTask - 1) / kElementsPerTask;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = task * kElementsPerTask, end = begin + kElementsPerTask;
        job.span(job, begin, end < job.n ? end : job.n);
      },
      &j);
}

constexpr Kernel kRows[] = {{"math_f32__" RNL_ISA_NAME, supports, nullptr, run}};

}  // namespace

extern constexpr KernelList math_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
