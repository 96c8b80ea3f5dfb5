#include "ops/math/math.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(math)
namespace {

struct Push {
  uint32_t n, x, y;
  float alpha, beta;
};

// Angles and their inverses: what devices compute there is too coarse.
const char* refuses(const OpCall& c) {
  const MathKind kind = params_of<MathParams>(c).kind;
  return kind >= MathKind::kSin && kind <= MathKind::kAtanh ? "the CPU computes this function" : nullptr;
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<MathParams>(c);
  const uint32_t n = elements(c.out[0]);
  r.items(shader_math, {uint32_t(p.kind)}, Push{n, r.input(c, 0), r.output(c, 0), p.alpha, p.beta}, n);
}

}  // namespace

extern const Kernel math_vulkan_kernel = {refuses, nullptr, record};

}  // namespace runnel::vulkan
