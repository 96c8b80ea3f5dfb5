#include "ops/arithmetic/arithmetic.h"
#include "ops/broadcast_vulkan.h"
#include "ops/define.h"

namespace runnel::vulkan {
RNL_SHADER(arithmetic)
namespace {

struct Push {
  uint32_t n, a, b, y, dims[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];
};

// Exact rests of floats, and powers of any sign.
const char* refuses(const OpCall& c) {
  const ArithmeticKind kind = params_of<ArithmeticParams>(c).kind;
  const bool is_rest = kind == ArithmeticKind::kMod || kind == ArithmeticKind::kFmod;
  return kind == ArithmeticKind::kPow || (is_rest && c.in[0].dtype == DType::kF32) ? "the CPU computes this kind"
                                                                                   : nullptr;
}

void record(Recorder& r, const OpCall& c) {
  const TensorView& y = c.out[0];
  Push push{elements(y), r.input(c, 0), r.input(c, 1), r.output(c, 0), {}, {}, {}};
  axis_words(y, push.dims);
  broadcast_words(c.in[0], y, push.stride_a);
  broadcast_words(c.in[1], y, push.stride_b);
  r.items(shader_arithmetic, {uint32_t(params_of<ArithmeticParams>(c).kind), c.in[0].dtype == DType::kF32}, push,
          push.n);
}

}  // namespace

extern const Kernel arithmetic_vulkan_kernel = {refuses, nullptr, record};

}  // namespace runnel::vulkan
