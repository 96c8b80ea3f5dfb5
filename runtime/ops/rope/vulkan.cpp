#include "ops/rope/rope.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(rope)
namespace {

struct Push {
  uint32_t tokens, heads, dim, pairs, x, positions, inv_freq, y;
  float scale;
  uint32_t limit, axes;
  RopeSections sections;
};

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<RopeParams>(c);
  const uint32_t tokens = uint32_t(c.in[0].dims[0]), heads = uint32_t(c.in[0].dims[1]), dim = uint32_t(c.in[0].dims[2]),
                 pairs = uint32_t(c.in[2].dims[0]);
  const uint32_t axes = c.in[1].rank == 2 ? uint32_t(c.in[1].dims[1]) : 1, limit = p.limit > 0 ? p.limit : 0x7fffffffu;
  const Push push{tokens,        heads,          dim,     pairs, r.input(c, 0), r.input(c, 1),
                  r.input(c, 2), r.output(c, 0), p.scale, limit, axes,          p.sections};
  r.items(shader_rope, {p.interleaved, p.exact}, push, uint64_t(tokens) * heads * (dim - pairs));
}

}  // namespace

extern const Kernel rope_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
