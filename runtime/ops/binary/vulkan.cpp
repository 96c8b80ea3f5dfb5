#include "ops/binary/binary.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(binary)
namespace {

struct Push {
  uint32_t n, a, b, y, dims[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];
};

// Steps along the axes of y, aligned at the last one; 0 where v is repeated.
void broadcast(const TensorView& v, uint32_t* strides) {
  uint32_t step = 1;
  for (int i = v.rank - 1; i >= 0; --i) {
    strides[kMaxRank - v.rank + i] = v.dims[i] == 1 ? 0 : step;
    step *= uint32_t(v.dims[i]);
  }
}

void record(Recorder& r, const OpCall& c) {
  const TensorView& y = c.out[0];
  Push push{elements(y), r.input(c, 0), r.input(c, 1), r.output(c, 0), {1, 1, 1, 1, 1, 1}, {}, {}};
  for (int i = 0; i < y.rank; ++i) push.dims[kMaxRank - y.rank + i] = uint32_t(y.dims[i]);
  broadcast(c.in[0], push.stride_a);
  broadcast(c.in[1], push.stride_b);
  const bool dense = elements(c.in[0]) == push.n && elements(c.in[1]) == push.n;
  r.items(shader_binary, {uint32_t(params_of<BinaryParams>(c).kind), dense}, push, push.n);
}

}  // namespace

extern const Kernel binary_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
