#include "ops/resize/resize.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(resize)
namespace {

struct Push {
  uint32_t n, x, y, channels;
  int32_t from[2], to[2];
  float scale[2], begin[2], end[2], cubic, outside;
};

uint64_t rounds(const OpCall& c) {
  const ResizeParams& p = params_of<ResizeParams>(c);
  uint64_t taps = 4;
  for (int i = 0; i < 2; ++i) taps *= p.antialias ? uint64_t(c.in[0].dims[1 + i]) : 4;
  return taps;
}

void record(Recorder& r, const OpCall& c) {
  const ResizeParams& p = params_of<ResizeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  Push push{};
  push.n = elements(y), push.x = r.input(c, 0), push.y = r.output(c, 0), push.channels = uint32_t(x.dims[3]);
  if (push.n == 0) return;
  for (int i = 0; i < 2; ++i) {
    push.from[i] = int32_t(x.dims[1 + i]), push.to[i] = int32_t(y.dims[1 + i]);
    push.scale[i] = p.scale[i] != 0 ? p.scale[i] : float(push.to[i]) / float(push.from[i]);
    push.begin[i] = p.begin[i], push.end[i] = p.end[i];
  }
  push.cubic = p.cubic, push.outside = p.outside;
  r.items(shader_resize, {uint32_t(p.mode), uint32_t(p.place), uint32_t(p.rounding), p.antialias, p.exclude_outside},
          push, push.n);
}

}  // namespace

extern const Kernel resize_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
