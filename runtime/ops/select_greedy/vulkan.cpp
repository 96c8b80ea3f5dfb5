#include "ops/define.h"
#include "ops/select_greedy/select_greedy.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(select_greedy)
namespace {

struct Push {
  uint32_t n, width, groups, capacity, all, rows, scores, limit, threshold, ids, keys;
};

uint64_t rounds(const OpCall& c) {
  const TensorView& rows = c.in[0];
  return uint64_t(last_axis(c.out[0])) * rounds_of(rows.dims[1]) * uint64_t(rows.dims[2] + 1);
}

void record(Recorder& r, const OpCall& c) {
  const TensorView &rows = c.in[0], &ids = c.out[0];
  const uint32_t groups = uint32_t(ids.dims[1]), all = uint32_t(ids.dims[0]) * groups;
  if (all == 0) return;
  const Push push{uint32_t(rows.dims[1]), last_axis(rows), groups,        last_axis(ids), all,           r.input(c, 0),
                  r.input(c, 1),          r.input(c, 2),   r.input(c, 3), r.output(c, 0), r.output(c, 1)};
  r.groups(shader_select_greedy, {}, push, all);
}

}  // namespace

extern const Kernel select_greedy_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
