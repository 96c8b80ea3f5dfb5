#include "ops/reduce/reduce.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(reduce)
namespace {

struct Push {
  uint32_t n, x, y, size, inner;
};

uint64_t rounds(const OpCall& c) { return uint64_t(c.in[0].dims[params_of<ReduceParams>(c).axis]); }

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<ReduceParams>(c);
  const TensorView& x = c.in[0];
  uint32_t inner = 1;
  for (int i = p.axis + 1; i < x.rank; ++i) inner *= uint32_t(x.dims[i]);
  const uint32_t n = elements(c.out[0]);
  r.items(shader_reduce, {uint32_t(p.kind)}, Push{n, r.input(c, 0), r.output(c, 0), uint32_t(x.dims[p.axis]), inner},
          n);
}

}  // namespace

extern const Kernel reduce_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
