#include "cpu/call.h"
#include "ops/softmax/softmax.h"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const float* x;
  float* y;
  int64_t rows, channels, rows_per_task;
  float scale;
};

void softmax_row(const Job& j, int64_t t) {
  // Differences are taken before they are scaled: they are exact where it matters. m is the row's largest value, or
  // minus its smallest.
  const float inf = __builtin_inff(), sign = j.scale < 0 ? -1.0f : 1.0f;
  const float* x = j.x + t * j.channels;
  float* y = j.y + t * j.channels;
  const int64_t body = j.channels & ~int64_t(15);
  const int tail = int(j.channels - body);
  f32x16 largest = splat(-inf);
  for (int64_t i = 0; i < body; i += 16) largest = max(largest, load(x + i) * sign);
  if (tail) {
    largest = max(largest, select(lane_numbers() < tail, load_n(x + body, tail) * sign, splat(-inf)));
  }
  const float m = reduce_max(largest);
  if (m == -inf) {  // nothing but -infinity, or NaN, which the comparisons above pass over
    bool nan = false;
    for (int64_t i = 0; i < j.channels; ++i) nan |= x[i] != x[i];
    for (int64_t i = 0; i < j.channels; ++i) y[i] = nan ? __builtin_nanf("") : 0.0f;
    return;
  }
  const f32x16 top = splat(m), scale = splat(j.scale * sign), flip = splat(sign);
  f32x16 sum = splat(0);
  for (int64_t i = 0; i < body; i += 16) {
    const f32x16 e = exp((load(x + i) * flip - top) * scale);
    store(y + i, e);
    sum = sum + e;
  }
  if (tail) {
    f32x16 e = exp((load_n(x + body, tail) * flip - top) * scale);
    store_n(y + body, e, tail);
    sum = sum + load_n(y + body, tail);
  }
  const f32x16 inv = splat(1.0f / reduce_add(sum));
  for (int64_t i = 0; i < body; i += 16) store(y + i, load(y + i) * inv);
  if (tail) store_n(y + body, load_n(y + body, tail) * inv, tail);
}

void run(const OpCall& c) {
  const TensorView& x = c.in[0];
  Job j{};
  j.channels = x.dims[x.rank - 1];
  j.rows = rows_of(x);
  if (j.rows == 0 || j.channels == 0) return;
  j.x = input<float>(c, 0);
  j.y = output<float>(c, 0);
  j.scale = params_of<SoftmaxParams>(c).scale;
  for_each_row<Job, softmax_row>(c.pool, j);
}

constexpr Kernel kRows[] = {{"softmax_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList softmax_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
