#include "ops/causal_conv/causal_conv.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(causal_conv)
RNL_SHADER(causal_conv__state)
namespace {

struct Push {
  uint32_t n, x, weight, bias, state, bounds, segments, y, tokens, channels, taps, dilation;
};
struct StatePush {
  uint32_t x, state, out_state, tokens, channels, past;
};

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<CausalConvParams>(c);
  const uint32_t tokens = uint32_t(c.in[0].dims[0]), channels = uint32_t(c.in[0].dims[1]),
                 taps = uint32_t(c.in[1].dims[1]), dilation = uint32_t(p.dilation);
  r.window({r.has(c.in, c.in_count, 3), r.has(c.out, c.out_count, 1)});
  const uint32_t state = r.state_input(c, 3), out_state = r.state_output(c, 1);
  const Push push{tokens * channels, r.input(c, 0),  r.input(c, 1), r.input(c, 2), state, r.input(c, 4),
                  segments_of(c, 4), r.output(c, 0), tokens,        channels,      taps,  dilation};
  r.items(shader_causal_conv, {uint32_t(p.activation), p.reverse}, push, push.n);
  if (out_state == kAbsent) return;
  r.barrier();
  r.items(shader_causal_conv__state, {p.reverse},
          StatePush{push.x, state, out_state, tokens, channels, (taps - 1) * dilation}, channels);
}

}  // namespace

extern const Kernel causal_conv_vulkan_kernel = {refuse_nothing, nullptr, record, 0, true};

}  // namespace runnel::vulkan
