#include "cpu/call.h"
#include "ops/unary/activations.inl"
#include "ops/unary/unary.h"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kElementsPerTask = 16384;

struct Job {
  const float* x;
  float* y;
  int64_t n;
  float alpha;
  void (*span)(const float* x, float* y, int64_t n, float alpha);
};

template <UnaryKind kind>
void span(const float* x, float* y, int64_t n, float alpha) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, activate<kind>(load(x + i), alpha));
  if (i < n) store_n(y + i, activate<kind>(load_n(x + i, int(n - i), 1.0f), alpha), int(n - i));
}

void run(const OpCall& c) {
  const UnaryParams& p = params_of<UnaryParams>(c);
  Job j{input<float>(c, 0), output<float>(c, 0), elements_of(c.in[0]), p.alpha, nullptr};
  if (j.n == 0) return;
  switch (p.kind) {
#define RNL_CASE(kind) case UnaryKind::kind: j.span = span<UnaryKind::kind>; break;
    RNL_ACTIVATIONS(RNL_CASE)
    RNL_CASE(kScale)
    RNL_CASE(kSoftcap)
#undef RNL_CASE
  }
  const int64_t tasks = (j.n + kElementsPerTask - 1) / kElementsPerTask;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = task * kElementsPerTask, left = job.n - begin;
        job.span(job.x + begin, job.y + begin, left < kElementsPerTask ? left : kElementsPerTask, job.alpha);
      },
      &j);
}

constexpr Kernel kRows[] = {{"unary_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList unary_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
