// Slices of 16 channels (complex: 8 channels, real and imaginary parts side by side) that run through all tokens.
#include "ops/scan/scan.h"
#include "ops/sequence.inl"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const float *a, *b, *w, *k, *v, *u;
  float* y;
  StatePlace state;
  Runs runs;
  int64_t channels;  // floats of a row
  int64_t value, width, slices_per_task;
  int64_t a_stride;  // floats from row to row of a: 0 when there is one row
  ScanParams params;
  void (*slice)(const Job& j, int64_t ch, int lanes);
};

void real_slice(const Job& j, int64_t ch, int lanes) {
  const bool turned = j.params.log_decay;
  for (int64_t n = 0; n < j.runs.count; ++n) {
    const Run r = run_at(j.runs, n);
    f32x16 h = load_state(j.state, ch, lanes);
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      const f32x16 b = load_lanes(j.b + t * j.channels + ch, lanes);
      if (j.a) {
        const f32x16 a = load_lanes(j.a + t * j.a_stride + ch, lanes);
        h = fma(turned ? exp(a) : a, h, b);
      } else {
        h = h + b;
      }
      store_lanes(j.y + t * j.channels + ch, h, lanes);
    }
    store_state(j.state, ch, h, lanes);
  }
}

RNL_INLINE f32x16 real_parts(const f32x16& v) { return of_four<0, 0, 2, 2>(v, v); }
RNL_INLINE f32x16 imaginary_parts(const f32x16& v) { return of_four<1, 1, 3, 3>(v, v); }
RNL_INLINE f32x16 swapped(const f32x16& v) { return of_four<1, 0, 3, 2>(v, v); }

void complex_slice(const Job& j, int64_t ch, int lanes) {
  const f32x16 sign = of_four<0, 4, 2, 6>(splat(-1.0f), splat(1.0f));
  for (int64_t n = 0; n < j.runs.count; ++n) {
    const Run r = run_at(j.runs, n);
    f32x16 h = load_state(j.state, ch, lanes);
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      const f32x16 b = load_lanes(j.b + t * j.channels + ch, lanes);
      if (j.a) {
        f32x16 a = load_lanes(j.a + t * j.a_stride + ch, lanes);
        if (j.params.log_decay) {
          float part[16];
          store(part, a);
          const f32x16 size = exp(real_parts(a));
          for (int k = 0; k < 16; k += 2) {
            const float angle = part[k + 1];
            part[k] = __builtin_cosf(angle), part[k + 1] = __builtin_sinf(angle);
          }
          a = size * load(part);
        }
        h = fma(real_parts(a), h, fma(imaginary_parts(a) * sign, swapped(h), b));
      } else {
        h = h + b;
      }
      store_lanes(j.y + t * j.channels + ch, h, lanes);
    }
    store_state(j.state, ch, h, lanes);
  }
}

// Lanes of k, w or u that belong to channels from ch on.
RNL_INLINE f32x16 weights_at(const Job& j, const float* p, int64_t ch, int lanes) {
  if (j.width != 1) return load_lanes(p + ch, lanes);
  float part[16] = {};
  for (int i = 0; i < lanes; ++i) part[i] = p[(ch + i) / j.value];
  return load(part);
}

void log_slice(const Job& j, int64_t ch, int lanes) {
  const f32x16 none = splat(-__builtin_inff()), zero = splat(0.0f);
  const f32x16 w = j.w ? weights_at(j, j.w, ch, lanes) : zero, u = j.u ? weights_at(j, j.u, ch, lanes) : zero;
  const int64_t k_row = j.width == 1 ? j.channels / j.value : j.channels;
  for (int64_t n = 0; n < j.runs.count; ++n) {
    const Run r = run_at(j.runs, n);
    f32x16 num = load_state(j.state, ch, lanes), den = load_state(j.state, j.channels + ch, lanes),
           largest = load_state(j.state, 2 * j.channels + ch, lanes);
    largest = select(den == zero, none, largest);
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      const f32x16 k = weights_at(j, j.k + t * k_row, ch, lanes), v = load_lanes(j.v + t * j.channels + ch, lanes);
      if (j.u) {
        const f32x16 own = u + k, m = max(largest, own);
        const f32x16 past = select(largest == none, zero, exp(largest - m)), now = exp(own - m);
        store_lanes(j.y + t * j.channels + ch, fma(past, num, now * v) / fma(past, den, now), lanes);
      }
      const f32x16 decayed = largest + w, m = max(decayed, k);
      const f32x16 past = select((largest == none) | (m == none), zero, exp(decayed - m)),
                   now = select(m == none, zero, exp(k - m));
      num = fma(past, num, now * v);
      den = fma(past, den, now);
      largest = m;
      if (!j.u) store_lanes(j.y + t * j.channels + ch, select(den == zero, zero, num / den), lanes);
    }
    store_state(j.state, ch, num, lanes);
    store_state(j.state, j.channels + ch, den, lanes);
    store_state(j.state, 2 * j.channels + ch, select(den == zero, zero, largest), lanes);
  }
}

void run(const OpCall& c) {
  Job j{};
  j.params = params_of<ScanParams>(c);
  const bool is_log = j.params.kind == ScanKind::kLogSum;
  const TensorView& y = c.out[0];
  const int64_t tokens = y.dims[0];
  j.y = output<float>(c, 0);
  j.channels = y.dims[1] * (y.rank == 3 ? y.dims[2] : 1);
  j.state = state_place(c, is_log ? 4 : 2, 1);
  j.runs = runs_of(c, is_log ? 5 : 3, tokens, j.params.reverse);
  if (is_log) {
    j.w = input<float>(c, 0), j.k = input<float>(c, 1), j.v = input<float>(c, 2), j.u = input<float>(c, 3);
    j.value = y.dims[2], j.width = c.in[1].dims[2];
    j.slice = log_slice;
  } else {
    j.a = input<float>(c, 0), j.b = input<float>(c, 1);
    j.a_stride = j.a && c.in[0].dims[0] == 1 ? 0 : j.channels;
    j.slice = j.params.kind == ScanKind::kComplex ? complex_slice : real_slice;
  }
  const int64_t slices = (j.channels + 15) / 16;
  j.slices_per_task = 1 + 1024 / (tokens + 1);
  const int64_t tasks = (slices + j.slices_per_task - 1) / j.slices_per_task;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        for (int64_t s = task * job.slices_per_task; s < (task + 1) * job.slices_per_task && s * 16 < job.channels; ++s)
          job.slice(job, s * 16, job.channels - s * 16 < 16 ? int(job.channels - s * 16) : 16);
      },
      &j);
}

constexpr Kernel kRows[] = {{"scan_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList scan_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
