#include "ops/concat/concat.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(copy)
namespace {

struct Push {
  uint32_t n, from, to, inner, from_stride, to_stride;
};

void record(Recorder& r, const OpCall& c) {
  const int axis = params_of<ConcatParams>(c).axis;
  const TensorView& y = c.out[0];
  uint32_t inner = 1, at = r.output(c, 0);
  for (int i = axis + 1; i < y.rank; ++i) inner *= uint32_t(y.dims[i]);
  const uint32_t to = inner * uint32_t(y.dims[axis]);
  for (int i = 0; i < c.in_count; ++i) {
    const uint32_t n = elements(c.in[i]), from = inner * uint32_t(c.in[i].dims[axis]);
    r.items(shader_copy, {0}, Push{n, r.input(c, i), at, from, from, to}, n);
    at += from;
  }
}

}  // namespace

extern const Kernel concat_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
