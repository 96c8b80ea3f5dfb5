#include "ops/where/where.h"
#include "ops/broadcast_vulkan.h"
#include "ops/define.h"

namespace runnel::vulkan {
RNL_SHADER(where)
namespace {

struct Push {
  uint32_t n, condition, a, b, y, dims[kMaxRank], stride_condition[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];
};

void record(Recorder& r, const OpCall& c) {
  const TensorView& y = c.out[0];
  Push push{elements(y), r.input(c, 0), r.input(c, 1), r.input(c, 2), r.output(c, 0), {}, {}, {}, {}};
  axis_words(y, push.dims);
  broadcast_words(c.in[0], y, push.stride_condition);
  broadcast_words(c.in[1], y, push.stride_a);
  broadcast_words(c.in[2], y, push.stride_b);
  r.items(shader_where, {}, push, push.n);
}

}  // namespace

extern const Kernel where_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
