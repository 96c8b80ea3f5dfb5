#include "ops/transpose/transpose.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(transpose)
namespace {

struct Push {
  uint32_t n, x, y, dims[kMaxRank], stride[kMaxRank];
};

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<TransposeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  Push push{elements(y), r.input(c, 0), r.output(c, 0), {1, 1, 1, 1, 1, 1}, {}};
  uint32_t stride[kMaxRank], step = 1;
  for (int i = x.rank - 1; i >= 0; --i) stride[i] = step, step *= uint32_t(x.dims[i]);
  for (int i = 0; i < y.rank; ++i) {
    const int at = kMaxRank - y.rank + i;
    push.dims[at] = uint32_t(y.dims[i]), push.stride[at] = stride[p.perm[i]];
  }
  r.items(shader_transpose, {}, push, push.n);
}

}  // namespace

extern const Kernel transpose_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
