// A task is one matrix of the batch and 32 columns of y: those columns of b are packed as [k][32], kDepth rows of k at
// a time, then four rows of y at a time stay in registers while k passes.
#include "cpu/call.h"
#include "ops/batch_matmul/batch_matmul.h"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kColumns = 32, kRows = 4, kDepth = 256;

struct Job {
  const TensorView *a, *b, *y;
  bool transpose_a, transpose_b;
  float scale;
  int64_t m, n, k, slices;
  float* panels;  // [workers, kDepth, kColumns]
};

int64_t batch_offset(const TensorView& t, const TensorView& y, int64_t index) {
  int64_t at = 0, step = t.dims[t.rank - 1] * t.dims[t.rank - 2];
  for (int i = y.rank - 3; i >= 0; --i) {
    const int own = i - (y.rank - t.rank);
    const int64_t n = own < 0 ? 1 : t.dims[own];
    at += n == 1 ? 0 : index % y.dims[i] * step;
    step *= n;
    index /= y.dims[i];
  }
  return at;
}

// Rows first .. first + kCount - 1 of y (columns `lanes` of two vectors) plus their part of k; a is walked by its two
// strides.
template <int kCount>
void rows(const Job& j, const float* a, const float* panel, int64_t depth, bool is_first, bool is_last, float* y,
          const int* lanes) {
  const int64_t row_step = j.transpose_a ? 1 : j.k, depth_step = j.transpose_a ? j.m : 1;
  f32x16 sum[kCount][2];
  RNL_UNROLL_FOR (int r = 0; r < kCount; ++r)
    RNL_UNROLL_FOR (int w = 0; w < 2; ++w)
      sum[r][w] = is_first || !lanes[w] ? splat(0.0f) : load_n(y + r * j.n + 16 * w, lanes[w]);
  for (int64_t d = 0; d < depth; ++d) {
    const f32x16 low = load(panel + d * kColumns), high = load(panel + d * kColumns + 16);
    RNL_UNROLL_FOR (int r = 0; r < kCount; ++r) {
      const f32x16 v = splat(a[r * row_step + d * depth_step]);
      sum[r][0] = fma(v, low, sum[r][0]);
      sum[r][1] = fma(v, high, sum[r][1]);
    }
  }
  RNL_UNROLL_FOR (int r = 0; r < kCount; ++r)
    RNL_UNROLL_FOR (int w = 0; w < 2; ++w)
      if (lanes[w]) store_n(y + r * j.n + 16 * w, is_last ? sum[r][w] * j.scale : sum[r][w], lanes[w]);
}

void run_task(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t index = task / j.slices, column = task % j.slices * kColumns;
  const float* a = static_cast<const float*>(j.a->data) + batch_offset(*j.a, *j.y, index);
  const float* b = static_cast<const float*>(j.b->data) + batch_offset(*j.b, *j.y, index);
  float* y = static_cast<float*>(j.y->data) + index * j.m * j.n + column;
  float* panel = j.panels + int64_t(worker) * kDepth * kColumns;
  const int64_t left = j.n - column, columns = left < kColumns ? left : kColumns;
  const int lanes[2] = {int(columns < 16 ? columns : 16), int(columns > 16 ? columns - 16 : 0)};
  // With k = 0 one empty part still writes zeros.
  for (int64_t first = 0; first == 0 || first < j.k; first += kDepth) {
    const int64_t depth = j.k - first < kDepth ? j.k - first : kDepth;
    for (int64_t d = 0; d < depth; ++d)
      for (int64_t x = 0; x < kColumns; ++x)
        panel[d * kColumns + x] = x >= columns    ? 0.0f
                                  : j.transpose_b ? b[(column + x) * j.k + first + d]
                                                  : b[(first + d) * j.n + column + x];
    const bool is_first = first == 0, is_last = first + kDepth >= j.k;
    int64_t i = 0;
    for (; i + kRows <= j.m; i += kRows)
      rows<kRows>(j, a + (j.transpose_a ? i + first * j.m : i * j.k + first), panel, depth, is_first, is_last,
                  y + i * j.n, lanes);
    for (; i < j.m; ++i)
      rows<1>(j, a + (j.transpose_a ? i + first * j.m : i * j.k + first), panel, depth, is_first, is_last, y + i * j.n,
              lanes);
  }
}

size_t scratch_bytes(const OpCall&, int workers) { return size_t(workers) * kDepth * kColumns * sizeof(float); }

void run(const OpCall& c) {
  const BatchMatmulParams& p = params_of<BatchMatmulParams>(c);
  const TensorView& y = c.out[0];
  Job j{&c.in[0],
        &c.in[1],
        &y,
        p.transpose_a,
        p.transpose_b,
        p.scale,
        y.dims[y.rank - 2],
        y.dims[y.rank - 1],
        c.in[0].dims[c.in[0].rank - 1 - p.transpose_a],
        0,
        reinterpret_cast<float*>(c.scratch)};
  if (elements_of(y) == 0) return;
  j.slices = (j.n + kColumns - 1) / kColumns;
  const int64_t tasks = elements_of(y) / (j.m * j.n) * j.slices;
  parallel_for(double(tasks) * double(j.m * j.k) * kColumns >= 65536 && tasks > 1 ? c.pool : nullptr, tasks, run_task,
               &j);
}

constexpr Kernel kList[] = {{"batch_matmul_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList batch_matmul_kernels{kList, 1};

}  // namespace runnel::RNL_ISA
