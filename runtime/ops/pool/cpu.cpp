#include "ops/pool/pool.h"

#include "cpu/call.h"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const WindowParams* p;
  const float* x;
  float* y;
  int64_t height, width, channels, out_height, out_width, pixels, pixels_per_task;
};

template <bool kIsMax>
void pixel(const Job& j, int64_t at) {
  const int64_t line = at / j.out_width, row = line % j.out_height * j.p->stride[0] - j.p->before[0],
                column = at % j.out_width * j.p->stride[1] - j.p->before[1];
  const float* image = j.x + line / j.out_height * j.height * j.width * j.channels;
  for (int64_t ch = 0; ch < j.channels; ch += 16) {
    const int lanes = j.channels - ch < 16 ? int(j.channels - ch) : 16;
    f32x16 v = splat(kIsMax ? -__builtin_inff() : 0.0f);
    int64_t count = 0;
    for (int64_t p = 0; p < j.p->kernel[0]; ++p)
      for (int64_t q = 0; q < j.p->kernel[1]; ++q) {
        const int64_t r = row + p * j.p->dilation[0], c = column + q * j.p->dilation[1];
        if (uint64_t(r) >= uint64_t(j.height) || uint64_t(c) >= uint64_t(j.width)) continue;
        const float* from = image + (r * j.width + c) * j.channels + ch;
        const f32x16 x = lanes == 16 ? load(from) : load_n(from, lanes);
        // NaN of x: neither comparison holds; NaN of v stays.
        if constexpr (kIsMax) v = select(x <= v, v, select(v == v, x, v));
        else v = v + x;
        ++count;
      }
    if (j.p->count_padding) count = int64_t(j.p->kernel[0]) * j.p->kernel[1];
    if (!kIsMax) v = v / splat(count ? float(count) : 1.0f);
    float* y = j.y + at * j.channels + ch;
    if (lanes == 16) store(y, v);
    else store_n(y, v, lanes);
  }
}

template <bool kIsMax>
void run_task(void* context, int64_t task, int) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t next = (task + 1) * j.pixels_per_task, end = next < j.pixels ? next : j.pixels;
  for (int64_t at = task * j.pixels_per_task; at < end; ++at) pixel<kIsMax>(j, at);
}

void run(const OpCall& c) {
  const TensorView &x = c.in[0], &y = c.out[0];
  const WindowParams& p = params_of<WindowParams>(c);
  Job j{&p,        input<float>(c, 0), output<float>(c, 0),
        x.dims[1], x.dims[2],          x.dims[3],
        y.dims[1], y.dims[2],          y.dims[0] * y.dims[1] * y.dims[2],
        0};
  if (j.channels == 0) return;
  j.pixels_per_task = 1 + 65536 / (j.channels * p.kernel[0] * p.kernel[1]);
  const int64_t tasks = (j.pixels + j.pixels_per_task - 1) / j.pixels_per_task;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks,
               PoolKind(p.pool) == PoolKind::kMax ? run_task<true> : run_task<false>, &j);
}

constexpr Kernel kRows[] = {{"pool_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList pool_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
