#include "ops/gather_rows/gather_rows.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(gather_rows)
namespace {

struct Push {
  uint32_t n, x, rows, y, inner, tokens;
};

void record(Recorder& r, const OpCall& c) {
  const uint32_t n = elements(c.out[0]);
  if (n == 0) return;
  const uint32_t inner = n / elements(c.in[1]);
  r.items(shader_gather_rows, {},
          Push{n, r.input(c, 0), r.input(c, 1), r.output(c, 0), inner, uint32_t(c.in[0].dims[0])}, n);
}

}  // namespace

extern const Kernel gather_rows_vulkan_kernel = {refuse_small_elements, nullptr, record};

}  // namespace runnel::vulkan
