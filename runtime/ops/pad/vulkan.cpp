#include <bit>

#include "ops/define.h"
#include "ops/pad/pad.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(pad)
namespace {

struct Push {
  uint32_t n, x, y, value;
  int32_t begin[kMaxRank], from[kMaxRank], to[kMaxRank];
};

void record(Recorder& r, const OpCall& c) {
  const PadParams& p = params_of<PadParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  const uint32_t value = x.dtype == DType::kF32 ? std::bit_cast<uint32_t>(p.value) : uint32_t(int32_t(p.value));
  Push push{elements(y), r.input(c, 0), r.output(c, 0), value, {}, {1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1}};
  for (int i = 0; i < y.rank; ++i) {
    const int at = kMaxRank - y.rank + i;
    push.begin[at] = p.begin[i], push.from[at] = int32_t(x.dims[i]), push.to[at] = int32_t(y.dims[i]);
  }
  r.items(shader_pad, {uint32_t(p.kind)}, push, push.n);
}

}  // namespace

extern const Kernel pad_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
