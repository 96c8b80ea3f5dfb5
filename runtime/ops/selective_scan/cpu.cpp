// Two forms with the same bits. By rows: one channel, 16 state elements a vector. By columns, for states of 16 and
// calls of more than a few tokens: 16 channels, one state element a vector, A and h turned for the whole call, so that
// y needs no sum across a vector. Both add the products C h of element 16 b + l into sum l and then fold the 16 sums in
// halves, as reduce_add does.
#include "ops/selective_scan/selective_scan.h"
#include "ops/sequence.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kColumnTokens = 8;  // from so many tokens on turning pays
constexpr float kLog2E = 1.44269504f;

struct Job {
  const float *x, *dt, *a, *b, *c, *d, *bias;
  float* y;
  float* scratch;
  StatePlace state;
  Runs runs;
  SelectiveScanParams params;
  int64_t channels, n, groups, channels_per_group, blocks, slices_per_task;
  bool by_columns;
};

RNL_INLINE f32x16 step_of(const Job& j, int64_t t, int64_t ch, int lanes) {
  f32x16 d = load_lanes(j.dt + t * j.channels + ch, lanes);
  if (j.bias) d = d + load_lanes(j.bias + ch, lanes);
  if (j.params.softplus) d = activate<UnaryKind::kSoftplus>(d, 1.0f);
  // NaN passes: it is neither below nor above.
  d = select(d < splat(j.params.dt_min), splat(j.params.dt_min), d);
  return select(d > splat(j.params.dt_max), splat(j.params.dt_max), d);
}

// Whole: every row of A, B, C and the state is one full vector.
template <bool whole>
void slice_by_rows(const Job& j, int64_t ch, int lanes, float* h) {
  const int64_t n = whole ? 16 : j.n, row = whole ? 16 : j.blocks * 16;
  const auto left = [&](int64_t e) { return whole || n - e >= 16 ? 16 : int(n - e); };
  for (int64_t s = 0; s < j.runs.count; ++s) {
    const Run r = run_at(j.runs, s);
    for (int k = 0; k < lanes; ++k)
      for (int64_t e = 0; e < n; e += 16) store(h + k * row + e, load_state(j.state, (ch + k) * n + e, left(e)));
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      int64_t group = ch / j.channels_per_group, in_group = ch - group * j.channels_per_group;
      const float *b = j.b + (t * j.groups + group) * n, *c = j.c + (t * j.groups + group) * n;
      float step[16], input[16];
      f32x16 sums[16];
      for (int k = lanes; k < 16; ++k) sums[k] = splat(0.0f);
      const f32x16 x = load_lanes(j.x + t * j.channels + ch, lanes), d = step_of(j, t, ch, lanes);
      store(step, d * kLog2E);
      store(input, d * x);
      for (int k = 0; k < lanes; ++k) {
        f32x16 sum = splat(0.0f);
        for (int64_t e = 0; e < n; e += 16) {
          float* place = h + k * row + e;
          const f32x16 decayed = exp2(splat(step[k]) * load_lanes(j.a + (ch + k) * n + e, left(e))) * load(place);
          const f32x16 v = fma(splat(input[k]), load_lanes(b + e, left(e)), decayed);
          store(place, v);
          sum = fma(load_lanes(c + e, left(e)), v, sum);
        }
        sums[k] = sum;
        if (++in_group == j.channels_per_group) in_group = 0, b += n, c += n;
      }
      const f32x16 y = fold(sums);
      store_lanes(j.y + t * j.channels + ch, j.d ? fma(load_lanes(j.d + ch, lanes), x, y) : y, lanes);
    }
    if (j.state.out)
      for (int k = 0; k < lanes; ++k)
        for (int64_t e = 0; e < n; e += 16) store_state(j.state, (ch + k) * n + e, load(h + k * row + e), left(e));
  }
}

// A state of 16 stays in registers. All channels of the slice are of one group.
void slice_by_columns(const Job& j, int64_t ch, int lanes, float* turned) {
  float* a = turned + 256;
  for (int l = 0; l < 16; ++l)
    for (int k = 0; k < 16; ++k) a[l * 16 + k] = k < lanes ? j.a[(ch + k) * 16 + l] : 0.0f;
  const f32x16 skip = j.d ? load_lanes(j.d + ch, lanes) : splat(0.0f);
  for (int64_t s = 0; s < j.runs.count; ++s) {
    const Run r = run_at(j.runs, s);
    float row[16];
    for (int k = 0; k < 16; ++k) {
      store(row, k < lanes ? load_state(j.state, (ch + k) * 16, 16) : splat(0.0f));
      for (int l = 0; l < 16; ++l) turned[l * 16 + k] = row[l];
    }
    f32x16 h[16];
    for (int l = 0; l < 16; ++l) h[l] = load(turned + l * 16);
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step, group = (t * j.groups + ch / j.channels_per_group) * 16;
      const f32x16 d = step_of(j, t, ch, lanes), x = load_lanes(j.x + t * j.channels + ch, lanes), dx = d * x,
                   log_step = d * kLog2E;
      const float *b = j.b + group, *c = j.c + group;
      // Products are added in the order of a fold in halves.
      const auto one = [&](int l) __attribute__((always_inline)) {
        return h[l] = fma(dx, splat(b[l]), exp2(log_step * load(a + l * 16)) * h[l]), splat(c[l]) * h[l];
      };
      const auto two = [&](int l) __attribute__((always_inline)) {
        const f32x16 y = one(l);
        return y + one(l + 8);
      };
      const auto four = [&](int l) __attribute__((always_inline)) {
        const f32x16 y = two(l);
        return y + two(l + 4);
      };
      const auto eight = [&](int l) __attribute__((always_inline)) {
        const f32x16 y = four(l);
        return y + four(l + 2);
      };
      const f32x16 first = eight(0), y = first + eight(1);
      store_lanes(j.y + t * j.channels + ch, j.d ? fma(skip, x, y) : y, lanes);
    }
    if (!j.state.out) continue;
    for (int l = 0; l < 16; ++l) store(turned + l * 16, h[l]);
    for (int k = 0; k < lanes; ++k) {
      for (int l = 0; l < 16; ++l) row[l] = turned[l * 16 + k];
      store_state(j.state, (ch + k) * 16, load(row), 16);
    }
  }
}

// h of 16 channels and, for columns, A.
size_t floats_per_worker(int64_t n) { return size_t((n + 15) / 16) * 512; }
size_t scratch_bytes(const OpCall& c, int workers) { return size_t(workers) * floats_per_worker(c.in[2].dims[1]) * 4; }

void run(const OpCall& c) {
  Job j{};
  j.x = input<float>(c, 0), j.dt = input<float>(c, 1), j.a = input<float>(c, 2), j.b = input<float>(c, 3),
  j.c = input<float>(c, 4);
  j.d = input<float>(c, 5), j.bias = input<float>(c, 6);
  j.y = output<float>(c, 0);
  j.scratch = reinterpret_cast<float*>(c.scratch);
  j.state = state_place(c, 7, 1);
  j.params = params_of<SelectiveScanParams>(c);
  j.runs = runs_of(c, 8, c.in[0].dims[0], j.params.reverse);
  j.channels = c.in[0].dims[1], j.n = c.in[2].dims[1], j.blocks = (j.n + 15) / 16;
  j.groups = c.in[3].rank == 3 ? c.in[3].dims[1] : 1;
  if (j.channels == 0) return;
  j.channels_per_group = j.channels / j.groups;
  j.by_columns =
      j.n == 16 && c.in[0].dims[0] / j.runs.count >= kColumnTokens && (j.groups == 1 || j.channels_per_group % 16 == 0);
  j.slices_per_task = 1 + 512 / (c.in[0].dims[0] * j.n + 1);
  const int64_t slices = (j.channels + 15) / 16, tasks = (slices + j.slices_per_task - 1) / j.slices_per_task;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int worker) {
        const Job& job = *static_cast<const Job*>(context);
        float* h = job.scratch + size_t(worker) * floats_per_worker(job.n);
        for (int64_t s = task * job.slices_per_task; s < (task + 1) * job.slices_per_task && s * 16 < job.channels;
             ++s) {
          const int lanes = job.channels - s * 16 < 16 ? int(job.channels - s * 16) : 16;
          if (job.by_columns) slice_by_columns(job, s * 16, lanes, h);
          else (job.n == 16 ? slice_by_rows<true> : slice_by_rows<false>)(job, s * 16, lanes, h);
        }
      },
      &j);
}

constexpr Kernel kRows[] = {{"selective_scan_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList selective_scan_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
