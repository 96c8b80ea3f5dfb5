#include "ops/gather/gather.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(gather)
namespace {

struct Push {
  uint32_t n, x, ids, y, inner, count, size;
};

void record(Recorder& r, const OpCall& c) {
  const TensorView& x = c.in[0];
  const int axis = params_of<GatherParams>(c).axis;
  const uint32_t n = elements(c.out[0]);
  if (n == 0) return;
  uint32_t inner = 1;
  for (int i = axis + 1; i < x.rank; ++i) inner *= uint32_t(x.dims[i]);
  r.items(shader_gather, {},
          Push{n, r.input(c, 0), r.input(c, 1), r.output(c, 0), inner, elements(c.in[1]), uint32_t(x.dims[axis])}, n);
}

}  // namespace

extern const Kernel gather_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
