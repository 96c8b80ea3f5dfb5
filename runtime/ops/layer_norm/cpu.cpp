#include "cpu/call.h"
#include "ops/layer_norm/layer_norm.h"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const float *x, *weight, *bias;
  float* y;
  int64_t rows, channels, rows_per_task;
  float eps;
};

// Two passes over the row: the mean first, so that a large mean does not cancel.
void norm_row(const Job& j, int64_t t) {
  const float* x = j.x + t * j.channels;
  float* y = j.y + t * j.channels;
  const int64_t body = j.channels & ~int64_t(15);
  const int tail = int(j.channels - body);
  f32x16 sum = splat(0);
  for (int64_t i = 0; i < body; i += 16) sum = sum + load(x + i);
  if (tail) sum = sum + load_n(x + body, tail);
  const float mean = reduce_add(sum) / float(j.channels);
  const f32x16 m = splat(mean);
  f32x16 square = splat(0);
  for (int64_t i = 0; i < body; i += 16) {
    const f32x16 d = load(x + i) - m;
    square = fma(d, d, square);
  }
  if (tail) {
    const f32x16 d = load_n(x + body, tail, mean) - m;
    square = fma(d, d, square);
  }
  const f32x16 inv = splat(1.0f / __builtin_sqrtf(reduce_add(square) / float(j.channels) + j.eps));
  for (int64_t i = 0; i < body; i += 16) {
    f32x16 v = (load(x + i) - m) * inv;
    if (j.weight) v = v * load(j.weight + i);
    if (j.bias) v = v + load(j.bias + i);
    store(y + i, v);
  }
  if (tail) {
    f32x16 v = (load_n(x + body, tail) - m) * inv;
    if (j.weight) v = v * load_n(j.weight + body, tail);
    if (j.bias) v = v + load_n(j.bias + body, tail);
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
  j.bias = input<float>(c, 2);
  j.y = output<float>(c, 0);
  j.eps = params_of<LayerNormParams>(c).eps;
  for_each_row<Job, norm_row>(c.pool, j);
}

constexpr Kernel kRows[] = {{"layer_norm_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList layer_norm_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
