// The rows of each expert are gathered and go through matmul's kernels together; then the results are put where they
// belong.
#include "cpu/call.h"
#include "format/packed.h"
#include "ops/matmul/joint.inl"
#include "ops/routed_matmul/routed_matmul.h"

namespace runnel::RNL_ISA {

namespace {

constexpr size_t kLine = 64;
RNL_INLINE size_t align_up(size_t n) { return (n + kLine - 1) / kLine * kLine; }
RNL_INLINE int64_t tiled(int64_t rows) { return (rows + kTileRows - 1) / kTileRows * kTileRows; }

// The kernel that takes every format.
RNL_INLINE const Kernel& product() { return matmul_kernels.rows[matmul_kernels.count - 1]; }

struct Layout {
  size_t order, counts, x, y[kMaxRoutedWeights], matmul, total;
};

struct Sizes {
  int64_t tokens, slots, experts, columns;
};

RNL_INLINE Sizes sizes_of(const OpCall& c) {
  return {c.out[0].dims[0], c.out[0].dims[1], c.in[2].dims[0] / tiled(c.out[0].dims[2]),
          c.in[0].dims[c.in[0].rank - 1]};
}

// matmul on `rows` rows with the matrices of up to `experts` experts; views holds the inputs and then the outputs.
struct Product {
  TensorView views[1 + 3 * kMaxJointMatmuls];
  OpCall call;
};

void set_up(const OpCall& c, const Sizes& z, int64_t rows, int experts, Product& p) {
  const int count = c.out_count * experts;
  p.views[0] = TensorView{nullptr, nullptr, {rows, z.columns}, 2, DType::kF32};
  for (int i = 0; i < count; ++i) {
    const int of = i % c.out_count;
    const int64_t n = c.out[of].dims[2];
    p.views[1 + i] = c.in[2 + of];
    p.views[1 + i].dims[0] = n;
    p.views[1 + count + i] = TensorView{
        nullptr, nullptr, {n}, 1, has_input(c, RNL_ROUTED_BIAS(c.out_count, of)) ? DType::kF32 : DType::kNone};
    p.views[1 + 2 * count + i] = TensorView{nullptr, nullptr, {rows, n}, 2, DType::kF32};
  }
  p.call = {};
  p.call.in = p.views, p.call.in_count = 1 + 2 * count;
  p.call.out = p.views + 1 + 2 * count, p.call.out_count = count;
  p.call.params = c.params, p.call.pool = c.pool;
}

// Expert e of the operator becomes expert `place` of the product.
void point_at_expert(const OpCall& c, const Sizes& z, int64_t e, int place, Product& p) {
  for (int i = 0; i < c.out_count; ++i) {
    TensorView* w = p.views + 1 + place * c.out_count + i;
    TensorView* bias = w + p.call.out_count;
    const int64_t n = w->dims[0];
    w->data = static_cast<unsigned char*>(c.in[2 + i].data) +
              size_t(e) * size_t(tiled(n) / kTileRows) * w->packed->tile_bytes(z.columns);
    if (bias->dtype == DType::kF32)
      bias->data = const_cast<float*>(input<float>(c, RNL_ROUTED_BIAS(c.out_count, i))) + e * n;
  }
}

Layout layout_of(const OpCall& c, int workers) {
  const Sizes z = sizes_of(c);
  const size_t pairs = size_t(z.tokens * z.slots);
  Layout l{};
  size_t at = align_up(pairs * 4);
  l.counts = at, at += align_up(size_t(z.experts + 1) * 4);
  l.x = at, at += align_up(pairs * size_t(z.columns) * 4);
  for (int i = 0; i < c.out_count; ++i) l.y[i] = at, at += align_up(pairs * size_t(c.out[i].dims[2]) * 4);
  l.matmul = at;
  Product p;
  set_up(c, z, int64_t(pairs), 1, p);
  l.total = at + product().scratch_bytes(p.call, workers);
  return l;
}

size_t scratch_bytes(const OpCall& c, int workers) { return layout_of(c, workers).total; }

// The matrices of all chosen experts in one parallel region (or a few, when there are very many).
void one_token(const OpCall& c, const Sizes& z, unsigned char* scratch) {
  const int32_t* ids = input<int32_t>(c, 1);
  const float* x = input<float>(c, 0);
  const bool shared = c.in[0].rank == 2;
  const int64_t most = kMaxJointMatmuls / c.out_count;
  for (int64_t first = 0; first < z.slots; first += most) {
    const int slots = int(z.slots - first < most ? z.slots - first : most);
    Product p;
    const float* rows[kMaxJointMatmuls];
    set_up(c, z, 1, slots, p);
    p.call.scratch = scratch;
    for (int s = 0; s < slots; ++s) {
      point_at_expert(c, z, ids ? ids[first + s] : first + s, s, p);
      for (int i = 0; i < c.out_count; ++i) {
        const int at = s * c.out_count + i;
        rows[at] = x + (shared ? 0 : (first + s) * z.columns);
        p.views[1 + 2 * p.call.out_count + at].data = output<float>(c, i) + (first + s) * c.out[i].dims[2];
      }
    }
    matmul_joint(p.call, rows);
  }
}

void run(const OpCall& c) {
  const Sizes z = sizes_of(c);
  const int64_t pairs = z.tokens * z.slots;
  if (pairs == 0) return;
  const Layout l = layout_of(c, c.pool ? thread_pool_size(c.pool) : 1);
  const int32_t* ids = input<int32_t>(c, 1);
  const float* x = input<float>(c, 0);
  const bool shared = c.in[0].rank == 2;
  if (z.tokens == 1) return one_token(c, z, c.scratch + l.matmul);
  Product p;
  // Counting sort of (token, slot) pairs by expert: order stays that of the tokens.
  int32_t* order = reinterpret_cast<int32_t*>(c.scratch + l.order);
  int32_t* counts = reinterpret_cast<int32_t*>(c.scratch + l.counts);
  for (int64_t e = 0; e <= z.experts; ++e) counts[e] = 0;
  for (int64_t i = 0; i < pairs; ++i) ++counts[(ids ? ids[i] : int32_t(i % z.slots)) + 1];
  for (int64_t e = 0; e < z.experts; ++e) counts[e + 1] += counts[e];
  for (int64_t i = 0; i < pairs; ++i) order[counts[ids ? ids[i] : int32_t(i % z.slots)]++] = int32_t(i);
  float* gathered = reinterpret_cast<float*>(c.scratch + l.x);
  int64_t first = 0;
  for (int64_t e = 0; e < z.experts; ++e) {
    const int64_t end = counts[e], rows = end - first;  // counts[e] has moved to the end of expert e
    if (rows == 0) continue;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t pair = order[first + r];
      __builtin_memcpy(gathered + r * z.columns, x + (shared ? pair / z.slots : pair) * z.columns,
                       size_t(z.columns) * 4);
    }
    set_up(c, z, rows, 1, p);
    point_at_expert(c, z, e, 0, p);
    p.call.scratch = c.scratch + l.matmul;
    p.views[0].data = gathered;
    for (int i = 0; i < c.out_count; ++i) p.views[1 + 2 * c.out_count + i].data = c.scratch + l.y[i];
    product().run(p.call);
    for (int i = 0; i < c.out_count; ++i) {
      const int64_t n = c.out[i].dims[2];
      const float* y = reinterpret_cast<const float*>(c.scratch + l.y[i]);
      for (int64_t r = 0; r < rows; ++r)
        __builtin_memcpy(output<float>(c, i) + int64_t(order[first + r]) * n, y + r * n, size_t(n) * 4);
    }
    first = end;
  }
}

constexpr Kernel kRows[] = {{"routed_matmul_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList routed_matmul_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
