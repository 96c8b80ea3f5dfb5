#include "ops/cast/cast.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(cast)
namespace {

struct Push {
  uint32_t n, x, y;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]);
  r.items(shader_cast, {c.in[0].dtype == DType::kF32}, Push{n, r.input(c, 0), r.output(c, 0)}, n);
}

}  // namespace

extern const Kernel cast_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
