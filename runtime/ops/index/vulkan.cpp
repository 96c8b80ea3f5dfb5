#include "ops/index/index.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(index)
namespace {

struct Push {
  uint32_t n, y;
  float begin, step;
};

// Floats have no room for larger integers.
const char* refuses(const OpCall& c) {
  const IndexParams& p = params_of<IndexParams>(c);
  const double last = double(p.begin) + double(p.step) * double(c.out[0].dims[0]), most = 16777216;
  const bool fits = last <= most && last >= -most && double(p.begin) <= most && double(p.begin) >= -most;
  return fits || c.out[0].dtype == DType::kF32 ? nullptr : "integers beyond 2^24";
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<IndexParams>(c);
  const uint32_t n = elements(c.out[0]);
  r.items(shader_index, {c.out[0].dtype == DType::kF32}, Push{n, r.output(c, 0), p.begin, p.step}, n);
}

}  // namespace

extern const Kernel index_vulkan_kernel = {refuses, nullptr, record};

}  // namespace runnel::vulkan
