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
  ActivationFn fn;
};

template <UnaryKind kind>
void span(const float* x, const float* up, float* y, int64_t n, float alpha) {
  for (int64_t i = 0; i < n; i += 16) {
    f32x16 v = activate<kind>(load(x + i), alpha);
    if (up) v = v * load(up + i);
    store(y + i, v);
  }
}

void run(const OpCall& c) {
  const UnaryParams& p = params_of<UnaryParams>(c);
  Job j{input<float>(c, 0), output<float>(c, 0), elements_of(c.in[0]), p.alpha, activation_of(p.kind)};
  const int64_t tasks = (j.n + kElementsPerTask - 1) / kElementsPerTask;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = task * kElementsPerTask, left = job.n - begin;
        activate_span(job.fn, job.x + begin, nullptr, job.y + begin, left < kElementsPerTask ? left : kElementsPerTask,
                      job.alpha);
      },
      &j);
}

constexpr Kernel kRows[] = {{"unary_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

ActivationFn activation_of(UnaryKind kind) {
  switch (kind) {
#define RNL_CASE(kind) \
  case UnaryKind::kind: return span<UnaryKind::kind>;
    RNL_ACTIVATIONS(RNL_CASE)
#undef RNL_CASE
  }
  return nullptr;
}

void activate_span(ActivationFn fn, const float* x, const float* up, float* y, int64_t n, float alpha) {
  const int64_t body = n & ~int64_t(15);
  const int tail = int(n - body);
  fn(x, up, y, body, alpha);
  if (tail == 0) return;
  float part[16], part_up[16];
  store(part, load_n(x + body, tail, 1.0f));
  if (up) store(part_up, load_n(up + body, tail));
  fn(part, up ? part_up : nullptr, part, 16, alpha);
  for (int i = 0; i < tail; ++i) y[body + i] = part[i];
}

extern constexpr KernelList unary_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
