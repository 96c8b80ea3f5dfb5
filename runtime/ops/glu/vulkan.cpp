#include "ops/glu/glu.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(glu)
namespace {

struct Push {
  uint32_t n, gate, up, y;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]);
  r.items(shader_glu, {uint32_t(params_of<GluParams>(c).activation)},
          Push{n, r.input(c, 0), r.input(c, 1), r.output(c, 0)}, n);
}

}  // namespace

extern const Kernel glu_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
