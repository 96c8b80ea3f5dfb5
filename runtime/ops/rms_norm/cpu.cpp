#include "cpu/call.h"
#include "ops/rms_norm/rms_norm.h"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const float *x, *weight, *residual;
  float* y;
  int64_t rows, channels, rows_per_task;
  float eps;
};

void norm_row(const Job& j, int64_t t) {
  const float* x = j.x + t * j.channels;
  const int64_t body = j.channels & ~int64_t(15);
  const int tail = int(j.channels - body);
  f32x16 sum = splat(0);
  for (int64_t i = 0; i < body; i += 16) {
    const f32x16 v = load(x + i);
    sum = fma(v, v, sum);
  }
  if (tail) {
    const f32x16 v = load_n(x + body, tail);
    sum = fma(v, v, sum);
  }
  const f32x16 inv = splat(1.0f / __builtin_sqrtf(reduce_add(sum) / float(j.channels) + j.eps));
  float* y = j.y + t * j.channels;
  const float* r = j.residual ? j.residual + t * j.channels : nullptr;
  for (int64_t i = 0; i < body; i += 16) {
    f32x16 v = load(x + i) * inv;
    if (j.weight) v = v * load(j.weight + i);
    if (r) v = v + load(r + i);
    store(y + i, v);
  }
  if (tail) {
    f32x16 v = load_n(x + body, tail) * inv;
    if (j.weight) v = v * load_n(j.weight + body, tail);
    if (r) v = v + load_n(r + body, tail);
    store_n(y + body, v, tail);
  }
}

void run(const OpCall& c) {
  const TensorView& x = c.in[0];
  Job j{};
  j.channels = x.dims[x.rank - 1];
  j.rows = rows_of(x);
  if (j.rows == 0 || j.channels == 0) return;
  j.x = input<float>(c, 0);
  j.weight = input<float>(c, 1);
  j.residual = input<float>(c, 2);
  j.y = output<float>(c, 0);
  j.eps = params_of<RmsNormParams>(c).eps;
  for_each_row<Job, norm_row>(c.pool, j);
}

constexpr Kernel kRows[] = {{"rms_norm_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList rms_norm_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
