#include "ops/selective_scan/selective_scan.h"
#include "ops/define.h"
#include "vulkan/kernel.h"
#include "vulkan/lanes.h"

namespace runnel::vulkan {
RNL_SHADER(selective_scan)
namespace {

struct Push {
  uint32_t tokens, channels, groups, x, dt, a, b, c, d, dt_bias, state, bounds, segments, y, out_state;
  float dt_min, dt_max;
};

const char* refuses(const OpCall& c) { return c.in[2].dims[1] > 256 ? "more than 256 elements a channel" : nullptr; }

// Elements of a channel that an invocation has; as many of `a` stand beside in registers.
constexpr uint32_t kElements = 4;

uint64_t rounds(const OpCall& c) {
  const uint32_t n = last_axis(c.in[2]);
  return uint64_t(c.in[0].dims[0]) * (rounds_of(n, 4) + lanes_of(n, kElements) + 1) +
         segments_of(c, 8) * (6 * rounds_of(n, 4) + 1);
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<SelectiveScanParams>(c);
  r.window({r.has(c.in, c.in_count, 7), r.has(c.out, c.out_count, 1)});
  const uint32_t tokens = uint32_t(c.in[0].dims[0]), channels = uint32_t(c.in[0].dims[1]),
                 groups = c.in[3].rank == 3 ? uint32_t(c.in[3].dims[1]) : 1;
  const Push push{tokens,
                  channels,
                  groups,
                  r.input(c, 0),
                  r.input(c, 1),
                  r.input(c, 2),
                  r.input(c, 3),
                  r.input(c, 4),
                  r.input(c, 5),
                  r.input(c, 6),
                  r.state_input(c, 7),
                  r.input(c, 8),
                  segments_of(c, 8),
                  r.output(c, 0),
                  r.state_output(c, 1),
                  p.dt_min,
                  p.dt_max};
  const Lanes l(r, last_axis(c.in[2]), kElements);
  r.groups(shader_selective_scan,
           {l.size, l.lanes, l.quads, l.are_aligned({push.a, push.b, push.c}), l.near, p.softplus, p.reverse}, push,
           l.groups(channels));
}

}  // namespace

extern const Kernel selective_scan_vulkan_kernel = {refuses, nullptr, record, 0, true, rounds};

}  // namespace runnel::vulkan
