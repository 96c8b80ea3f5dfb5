#include "ops/slice/slice.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(copy)
namespace {

struct Push {
  uint32_t n, from, to, inner, from_stride, to_stride;
};

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<SliceParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  uint32_t inner = 1;
  for (int i = p.axis + 1; i < x.rank; ++i) inner *= uint32_t(x.dims[i]);
  const uint32_t first = uint32_t(p.begin < 0 ? p.begin + x.dims[p.axis] : p.begin), n = elements(y);
  const uint32_t from = inner * uint32_t(x.dims[p.axis]), to = inner * uint32_t(y.dims[p.axis]);
  r.items(shader_copy, {0}, Push{n, r.input(c, 0) + first * inner, r.output(c, 0), to, from, to}, n);
}

}  // namespace

extern const Kernel slice_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
