#include "ops/cell_recurrence/cell_recurrence.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(cell_recurrence)
namespace {

struct Push {
  uint32_t tokens, heads, x, r, r_bias, bounds, segments, y;
  uint32_t state[kCellStates], out_state[kCellStates];
  uint32_t peepholes, r_heads, bias_heads, peephole_heads;
  float clip;
};

constexpr int kStates = 3, kSegments = kStates + kCellStates, kPeepholes = kSegments + 1;

uint32_t heads_of(const OpCall& c, int i) { return has_input(c, i) ? uint32_t(c.in[i].dims[1]) : 1; }

const char* refuses(const OpCall& c) { return c.in[0].dims[3] > 2048 ? "more than 2048 dims a head" : nullptr; }

uint64_t rounds(const OpCall& c) {
  return uint64_t(c.in[0].dims[0]) * rounds_of(c.in[0].dims[3], 128) *
         (uint64_t(c.in[0].dims[1]) * (uint64_t(c.in[0].dims[3]) + 1) + 2);
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<CellParams>(c);
  const TensorView& x = c.in[0];
  r.window({r.has(c.in, c.in_count, 3), r.has(c.in, c.in_count, 4), r.has(c.in, c.in_count, 5),
            r.has(c.in, c.in_count, 6), r.has(c.out, c.out_count, 1), r.has(c.out, c.out_count, 2),
            r.has(c.out, c.out_count, 3), r.has(c.out, c.out_count, 4)});
  Push push{uint32_t(x.dims[0]),
            uint32_t(x.dims[2]),
            r.input(c, 0),
            r.input(c, 1),
            r.input(c, 2),
            r.input(c, kSegments),
            segments_of(c, kSegments),
            r.output(c, 0),
            {},
            {},
            r.input(c, kPeepholes),
            heads_of(c, 1),
            heads_of(c, 2),
            heads_of(c, kPeepholes),
            p.clip};
  for (int i = 0; i < kCellStates; ++i)
    push.state[i] = r.state_input(c, kStates + i), push.out_state[i] = r.state_output(c, 1 + i);
  const uint32_t dim = uint32_t(x.dims[3]);
  r.grid(shader_cell_recurrence,
         {uint32_t(p.kind), p.forget_exp, p.reverse, (dim + 127) / 128, dim, p.reset_first, uint32_t(p.gate),
          uint32_t(p.candidate), uint32_t(p.read)},
         push, push.heads, 1, 1);
}

}  // namespace

extern const Kernel cell_recurrence_vulkan_kernel = {refuses, nullptr, record, 0, true, rounds};

}  // namespace runnel::vulkan
