#include "ops/group_norm/group_norm.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(group_norm)
namespace {

constexpr int64_t kInvocations = 64;

struct Push {
  uint32_t count, x, weight, bias, y, places, channels, groups;
  float eps;
};

uint64_t rounds(const OpCall& c) {
  const int64_t groups = params_of<GroupNormParams>(c).groups, batch = c.in[0].dims[0];
  return batch ? uint64_t(element_count(c.in[0]) / batch / groups / kInvocations + 1) * 3 : 1;
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<GroupNormParams>(c);
  const uint32_t n = elements(c.in[0]), channels = last_axis(c.in[0]);
  if (n == 0) return;
  const uint32_t batch = uint32_t(c.in[0].dims[0]), groups = uint32_t(p.groups);
  r.groups(shader_group_norm, {},
           Push{batch * groups, r.input(c, 0), r.input(c, 1), r.input(c, 2), r.output(c, 0), n / batch / channels,
                channels, groups, p.eps},
           batch * groups);
}

}  // namespace

extern const Kernel group_norm_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
