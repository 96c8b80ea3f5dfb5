#include "ops/conv/conv.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(conv)
RNL_SHADER(conv__channels)
namespace {

struct Push {
  uint32_t n, x, weights, bias, y, height, width, channels, out_height, out_width, out;
  int32_t kernel[2], stride[2], dilation[2], before[2];
  uint32_t in, group_out, first_tile, window_tiles, tile_words;
  float least, most;
};

uint64_t rounds(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  return uint64_t(p.kernel[0]) * uint64_t(p.kernel[1]) * uint64_t(c.in[0].dims[3] / p.groups);
}

void record(Recorder& r, const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const TensorView &x = c.in[0], &w = c.in[1], &y = c.out[0];
  Push push{};
  const uint32_t n = elements(y);
  if (n == 0) return;
  push.x = r.input(c, 0), push.bias = r.input(c, 2), push.y = r.output(c, 0);
  push.height = uint32_t(x.dims[1]), push.width = uint32_t(x.dims[2]), push.channels = uint32_t(x.dims[3]);
  push.out_height = uint32_t(y.dims[1]), push.out_width = uint32_t(y.dims[2]), push.out = uint32_t(y.dims[3]);
  for (int i = 0; i < 2; ++i)
    push.kernel[i] = p.kernel[i], push.stride[i] = p.stride[i], push.dilation[i] = p.dilation[i],
    push.before[i] = p.before[i];
  push.in = push.channels / uint32_t(p.groups), push.group_out = push.out / uint32_t(p.groups);
  push.least = p.least, push.most = p.most;
  if (is_channelwise(w)) {
    push.n = n, push.weights = r.input(c, 1);
    r.items(shader_conv__channels, {uint32_t(p.activation)}, push, n);
    return;
  }
  Constants constants = format_constants(w);
  constants.v[constants.count++] = p.activation;
  for_each_window(r, w, [&](const WeightWindow& m) {
    push.weights = m.at, push.first_tile = m.first_tile, push.window_tiles = m.tiles, push.tile_words = m.tile_words;
    push.n = n / push.out * m.tiles * uint32_t(kTileRows);
    r.items(shader_conv, constants, push, push.n);
  });
}

}  // namespace

extern const Kernel conv_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
