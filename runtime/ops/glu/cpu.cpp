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
  ActivationFn fn;
};

void run(const OpCall& c) {
  Job j{input<float>(c, 0), input<float>(c, 1), output<float>(c, 0), elements_of(c.in[0]),
        activation_of(params_of<GluParams>(c).activation)};
  const int64_t tasks = (j.n + kElementsPerTask - 1) / kElementsPerTask;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = task * kElementsPerTask, left = job.n - begin;
        activate_span(job.fn, job.gate + begin, job.up + begin, job.y + begin,
                      left < kElementsPerTask ? left : kElementsPerTask, 1.0f);
      },
      &j);
}

constexpr Kernel kRows[] = {{"glu_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList glu_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
