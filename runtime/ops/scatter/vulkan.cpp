#include "ops/define.h"
#include "ops/scatter/scatter.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(scatter)
namespace {

struct Push {
  uint32_t n, x, ids, updates, y, inner, count, size;
};

uint64_t rounds(const OpCall& c) { return uint64_t(elements(c.in[1])); }

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]), size = uint32_t(c.in[0].dims[0]);
  if (n == 0) return;
  r.items(shader_scatter, {uint32_t(params_of<ScatterParams>(c).kind), c.in[0].dtype == DType::kF32},
          Push{n, r.input(c, 0), r.input(c, 1), r.input(c, 2), r.output(c, 0), n / size, elements(c.in[1]), size}, n);
}

}  // namespace

extern const Kernel scatter_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
