#include "ops/rms_norm/rms_norm.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(rms_norm)
namespace {

struct Push {
  uint32_t rows, channels, x, weight, residual, y;
  float eps;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]), channels = last_axis(c.in[0]);
  if (n == 0) return;
  r.groups(shader_rms_norm, {},
           Push{n / channels, channels, r.input(c, 0), r.input(c, 1), r.input(c, 2), r.output(c, 0),
                params_of<RmsNormParams>(c).eps},
           n / channels);
}

}  // namespace

extern const Kernel rms_norm_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
