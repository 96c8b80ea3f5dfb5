#include "ops/matmul/vulkan.h"
#include "ops/routed_matmul/routed_matmul.h"

namespace runnel::vulkan {
namespace {

uint64_t scratch_bytes(const OpCall& c) { return rounding_scratch(c, 2) * 4; }

void record(Recorder& r, const OpCall& c) {
  const TensorView& x = c.in[0];
  const uint32_t tokens = uint32_t(c.out[0].dims[0]), slots = uint32_t(c.out[0].dims[1]), columns = last_axis(x);
  if (tokens * slots == 0) return;
  const uint32_t rounded = record_rounding(r, c, 2, r.scratch());
  for (int i = 0; i < c.out_count; ++i) {
    const TensorView& w = c.in[2 + i];
    MatmulPush push{};
    push.x = r.input(c, 0), push.y = r.output(c, i), push.bias = r.input(c, RNL_ROUTED_BIAS(c.out_count, i));
    push.columns = columns, push.rows = last_axis(c.out[i]), push.pairs = tokens * slots;
    push.ids = r.input(c, 1), push.slots = slots;
    push.x_token = x.rank == 3 ? slots * columns : columns, push.x_slot = x.rank == 3 ? columns : 0;
    push.expert_tiles = (push.rows + kTileRows - 1) / kTileRows,
    push.experts = uint32_t(w.dims[0] / kTileRows) / push.expert_tiles;
    record_products(r, w, push, rounded);
  }
}

}  // namespace

extern const Kernel routed_matmul_vulkan_kernel = {refuse_nothing, scratch_bytes, record};

}  // namespace runnel::vulkan
