#include "ops/top_k/top_k.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(top_k)
namespace {

struct Push {
  uint32_t n, k, rows, x, values, ids;
};

uint64_t rounds(const OpCall& c) { return uint64_t(last_axis(c.out[0])) * (rounds_of(last_axis(c.in[0])) + 8); }

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<TopKParams>(c);
  const uint32_t n = last_axis(c.in[0]), k = last_axis(c.out[0]), rows = k ? elements(c.out[0]) / k : 0;
  if (rows == 0) return;
  r.groups(shader_top_k, {p.smallest, p.last}, Push{n, k, rows, r.input(c, 0), r.output(c, 0), r.output(c, 1)}, rows);
}

}  // namespace

extern const Kernel top_k_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
