#include "ops/batch_matmul/batch_matmul.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(batch_matmul)
namespace {

constexpr int kBatchAxes = kMaxRank - 2;
struct Push {
  uint32_t n, a, b, y, m, columns, k;
  float scale;
  uint32_t dims[kBatchAxes], stride_a[kBatchAxes], stride_b[kBatchAxes];
};

// Steps along the batch axes of y, aligned at their last one; 0 where v is repeated.
void broadcast(const TensorView& v, uint32_t* strides) {
  uint32_t step = uint32_t(v.dims[v.rank - 1] * v.dims[v.rank - 2]);
  for (int i = v.rank - 3; i >= 0; --i) {
    strides[kMaxRank - v.rank + i] = v.dims[i] == 1 ? 0 : step;
    step *= uint32_t(v.dims[i]);
  }
}

uint64_t rounds(const OpCall& c) {
  return uint64_t(c.in[0].dims[c.in[0].rank - (params_of<BatchMatmulParams>(c).transpose_a ? 2 : 1)]);
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<BatchMatmulParams>(c);
  const TensorView &a = c.in[0], &y = c.out[0];
  const uint32_t k = uint32_t(a.dims[a.rank - (p.transpose_a ? 2 : 1)]);
  Push push{elements(y),
            r.input(c, 0),
            r.input(c, 1),
            r.output(c, 0),
            uint32_t(y.dims[y.rank - 2]),
            last_axis(y),
            k,
            p.scale,
            {1, 1, 1, 1},
            {},
            {}};
  for (int i = 0; i + 2 < y.rank; ++i) push.dims[kMaxRank - y.rank + i] = uint32_t(y.dims[i]);
  broadcast(a, push.stride_a);
  broadcast(c.in[1], push.stride_b);
  r.items(shader_batch_matmul, {p.transpose_a, p.transpose_b}, push, push.n);
}

}  // namespace

extern const Kernel batch_matmul_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
