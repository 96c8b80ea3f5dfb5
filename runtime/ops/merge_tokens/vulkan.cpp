#include "ops/merge_tokens/merge_tokens.h"

#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(merge_tokens)
namespace {

struct Push {
  uint32_t n, rows, tokens, inner, x, groups, weight, y, total;
};

uint64_t rounds(const OpCall& c) { return uint64_t(c.in[0].dims[0]); }

void record(Recorder& r, const OpCall& c) {
  const uint32_t rows = uint32_t(c.out[0].dims[0]);
  uint32_t inner = 1;
  for (int i = 1; i < c.out[0].rank; ++i) inner *= uint32_t(c.out[0].dims[i]);
  const uint32_t n = rows * (inner ? inner : 1);
  if (n == 0) return;
  r.items(shader_merge_tokens, {},
          Push{n, rows, uint32_t(c.in[0].dims[0]), inner, r.input(c, 0), r.input(c, 1), r.input(c, 2), r.output(c, 0),
               r.output(c, 1)},
          n);
}

}  // namespace

extern const Kernel merge_tokens_vulkan_kernel = {refuse_nothing, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
