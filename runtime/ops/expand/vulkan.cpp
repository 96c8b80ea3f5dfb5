#include "ops/expand/expand.h"
#include "ops/broadcast_vulkan.h"
#include "ops/define.h"

namespace runnel::vulkan {
RNL_SHADER(expand)
namespace {

struct Push {
  uint32_t n, x, y, dims[kMaxRank], stride[kMaxRank];
};

void record(Recorder& r, const OpCall& c) {
  const TensorView& y = c.out[0];
  Push push{elements(y), r.input(c, 0), r.output(c, 0), {}, {}};
  axis_words(y, push.dims);
  broadcast_words(c.in[0], y, push.stride);
  r.items(shader_expand, {}, push, push.n);
}

}  // namespace

extern const Kernel expand_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
