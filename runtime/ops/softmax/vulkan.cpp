#include "ops/softmax/softmax.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(softmax)
namespace {

struct Push {
  uint32_t rows, channels, x, y;
  float scale;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]), channels = last_axis(c.in[0]);
  if (n == 0) return;
  r.groups(shader_softmax, {},
           Push{n / channels, channels, r.input(c, 0), r.output(c, 0), params_of<SoftmaxParams>(c).scale},
           n / channels);
}

}  // namespace

extern const Kernel softmax_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
