#include "ops/unary/unary.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(unary)
namespace {

struct Push {
  uint32_t n, x, y;
  float alpha;
};

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<UnaryParams>(c);
  const uint32_t n = elements(c.out[0]);
  r.items(shader_unary, {uint32_t(p.kind)}, Push{n, r.input(c, 0), r.output(c, 0), p.alpha}, n);
}

}  // namespace

extern const Kernel unary_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
