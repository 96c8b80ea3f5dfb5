#include "ops/reshape/reshape.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(copy)
namespace {

struct Push {
  uint32_t n, from, to, inner, from_stride, to_stride;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]);
  r.items(shader_copy, {0}, Push{n, r.input(c, 0), r.output(c, 0), n, n, n}, n);
}

}  // namespace

extern const Kernel reshape_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
