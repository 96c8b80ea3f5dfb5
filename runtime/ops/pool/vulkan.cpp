#include "ops/pool/pool.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(pool)
namespace {

struct Push {
  uint32_t n, x, y, height, width, channels, out_height, out_width;
  int32_t kernel[2], stride[2], dilation[2], before[2];
  uint32_t count_padding;
};

uint64_t rounds(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  return uint64_t(p.kernel[0]) * uint64_t(p.kernel[1]);
}

void record(Recorder& r, const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  Push push{elements(y),
            r.input(c, 0),
            r.output(c, 0),
            uint32_t(x.dims[1]),
            uint32_t(x.dims[2]),
            uint32_t(x.dims[3]),
            uint32_t(y.dims[1]),
            uint32_t(y.dims[2]),
            {},
            {},
            {},
            {},
            p.count_padding};
  for (int i = 0; i < 2; ++i)
    push.kernel[i] = p.kernel[i], push.stride[i] = p.stride[i], push.dilation[i] = p.dilation[i],
    push.before[i] = p.before[i];
  r.items(shader_pool, {uint32_t(p.pool)}, push, push.n);
}

}  // namespace

extern const Kernel pool_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
