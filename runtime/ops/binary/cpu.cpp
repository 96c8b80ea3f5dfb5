#include "cpu/call.h"
#include "ops/binary/binary.h"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kElementsPerTask = 16384;

// The output as rows of `inner` elements under up to kMaxRank - 1 outer axes. In the inner axis an operand advances by
// 1 or stays (0).
struct Job {
  const float *a, *b;
  float* y;
  int rank;  // outer axes
  int64_t dims[kMaxRank], step_a[kMaxRank], step_b[kMaxRank];
  int64_t rows, inner, inner_a, inner_b;
  int64_t pieces, piece;  // a row is cut into pieces
  int64_t rows_per_task;
  void (*span)(const float* a, int64_t inner_a, const float* b, int64_t inner_b, float* y, int64_t n);
};

template <BinaryKind kind>
RNL_INLINE f32x16 apply(f32x16 a, f32x16 b) {
  if constexpr (kind == BinaryKind::kAdd) return a + b;
  else if constexpr (kind == BinaryKind::kSub) return a - b;
  else if constexpr (kind == BinaryKind::kMul) return a * b;
  else if constexpr (kind == BinaryKind::kDiv) return a / b;
  else if constexpr (kind == BinaryKind::kMax)
    return select(a == a, select(a > b, a, b), a);  // NaN of b: the comparison is false
  else return select(a == a, select(a < b, a, b), a);
}

template <BinaryKind kind>
void span(const float* a, int64_t inner_a, const float* b, int64_t inner_b, float* y, int64_t n) {
  const f32x16 one_a = splat(*a), one_b = splat(*b);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, apply<kind>(inner_a ? load(a + i) : one_a, inner_b ? load(b + i) : one_b));
  if (i < n) {
    const int left = int(n - i);
    store_n(y + i,
            apply<kind>(inner_a ? load_n(a + i, left, 1.0f) : one_a, inner_b ? load_n(b + i, left, 1.0f) : one_b),
            left);
  }
}

void run_task(void* context, int64_t task, int) {
  const Job& j = *static_cast<const Job*>(context);
  int64_t end = (task + 1) * j.rows_per_task;
  if (end > j.rows * j.pieces) end = j.rows * j.pieces;
  for (int64_t at = task * j.rows_per_task; at < end; ++at) {
    const int64_t row = at / j.pieces, begin = at % j.pieces * j.piece, left = j.inner - begin;
    int64_t rest = row, ia = 0, ib = 0;
    for (int i = j.rank - 1; i >= 0; --i) {
      const int64_t index = rest % j.dims[i];
      rest /= j.dims[i];
      ia += index * j.step_a[i];
      ib += index * j.step_b[i];
    }
    j.span(j.a + ia + begin * j.inner_a, j.inner_a, j.b + ib + begin * j.inner_b, j.inner_b,
           j.y + row * j.inner + begin, left < j.piece ? left : j.piece);
  }
}

// Merges neighbouring axes that both operands walk in one stride, so that the inner rows become long.
void plan_axes(const OpCall& c, Job* j) {
  const TensorView &a = c.in[0], &b = c.in[1], &y = c.out[0];
  j->inner = 1;
  j->inner_a = j->inner_b = 1;
  bool open = true;  // the inner row may still grow
  bool first = true;
  int64_t step_a = 1, step_b = 1;
  int n = 0;
  for (int i = y.rank - 1; i >= 0; --i) {
    const int at_a = i - (y.rank - a.rank), at_b = i - (y.rank - b.rank);
    const int64_t size_a = at_a < 0 ? 1 : a.dims[at_a], size_b = at_b < 0 ? 1 : b.dims[at_b], size = y.dims[i];
    if (size == 1) continue;
    const int64_t walks_a = size_a == 1 ? 0 : 1, walks_b = size_b == 1 ? 0 : 1;
    if (open && (first || (walks_a == j->inner_a && walks_b == j->inner_b))) {
      j->inner_a = walks_a;
      j->inner_b = walks_b;
      j->inner *= size;
      first = false;
    } else {
      open = false;
      j->dims[n] = size;
      j->step_a[n] = walks_a * step_a;
      j->step_b[n] = walks_b * step_b;
      ++n;
    }
    step_a *= size_a;
    step_b *= size_b;
  }
  j->rank = n;
  for (int i = 0; i < n / 2; ++i) {  // outermost first
    const int k = n - 1 - i;
    int64_t t = j->dims[i];
    j->dims[i] = j->dims[k], j->dims[k] = t;
    t = j->step_a[i], j->step_a[i] = j->step_a[k], j->step_a[k] = t;
    t = j->step_b[i], j->step_b[i] = j->step_b[k], j->step_b[k] = t;
  }
}

void run(const OpCall& c) {
  const int64_t n = elements_of(c.out[0]);
  if (n == 0) return;
  Job j{};
  j.a = input<float>(c, 0);
  j.b = input<float>(c, 1);
  j.y = output<float>(c, 0);
  plan_axes(c, &j);
  j.rows = n / j.inner;
  j.pieces = (j.inner + kElementsPerTask - 1) / kElementsPerTask;
  j.piece = kElementsPerTask;
  j.rows_per_task = j.pieces > 1 ? 1 : 1 + kElementsPerTask / j.inner;
  switch (params_of<BinaryParams>(c).kind) {
#define RNL_CASE(kind) \
  case BinaryKind::kind: j.span = span<BinaryKind::kind>; break;
    RNL_CASE(kAdd)
    RNL_CASE(kSub)
    RNL_CASE(kMul)
    RNL_CASE(kDiv)
    RNL_CASE(kMax)
    RNL_CASE(kMin)
#undef RNL_CASE
  }
  const int64_t tasks = (j.rows * j.pieces + j.rows_per_task - 1) / j.rows_per_task;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, run_task, &j);
}

constexpr Kernel kRows[] = {{"binary_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList binary_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
