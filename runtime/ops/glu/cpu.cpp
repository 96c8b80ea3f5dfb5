#include "cpu/call.h"
#include "ops/glu/glu.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kElementsPerTask = 16384;

struct Job {
  const float *gate, *up;
  float* y;
  int64_t n;
  void (*span)(const float* gate, const float* up, float* y, int64_t n);
};

template <UnaryKind kind>
void span(const float* gate, const float* up, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, activate<kind>(load(gate + i), 1.0f) * load(up + i));
  if (i < n) {
    const int left = int(n - i);
    store_n(y + i, activate<kind>(load_n(gate + i, left, 1.0f), 1.0f) * load_n(up + i, left), left);
  }
}

void run(const OpCall& c) {
  Job j{input<float>(c, 0), input<float>(c, 1), output<float>(c, 0), elements_of(c.in[0]), nullptr};
  if (j.n == 0) return;
  switch (params_of<GluParams>(c).activation) {
#define RNL_CASE(kind) case UnaryKind::kind: j.span = span<UnaryKind::kind>; break;
    RNL_ACTIVATIONS(RNL_CASE)
#undef RNL_CASE
    case UnaryKind::kScale:
    case UnaryKind::kSoftcap: return;  // refused by parse
  }
  const int64_t tasks = (j.n + kElementsPerTask - 1) / kElementsPerTask;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = task * kElementsPerTask, left = job.n - begin;
        job.span(job.gate + begin, job.up + begin, job.y + begin, left < kElementsPerTask ? left : kElementsPerTask);
      },
      &j);
}

constexpr Kernel kRows[] = {{"glu_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList glu_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
