#include "ops/solve/solve.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(solve)
namespace {

struct Push {
  uint32_t batch, n, columns, a, b, x, l;
  float ridge;
};

uint64_t scratch_bytes(const OpCall& c) { return uint64_t(element_count(c.in[0])) * 4; }

uint64_t rounds(const OpCall& c) {
  const uint64_t n = last_axis(c.in[0]);
  return n * n * (1 + rounds_of(int64_t(n)) + rounds_of(last_axis(c.in[1]))) + 2 * n;
}

void record(Recorder& r, const OpCall& c) {
  const TensorView &a = c.in[0], &b = c.in[1];
  const uint32_t n = last_axis(a), batch = n ? elements(a) / (n * n) : 0;
  r.groups(shader_solve, {},
           Push{batch, n, last_axis(b), r.input(c, 0), r.input(c, 1), r.output(c, 0), r.scratch(),
                params_of<SolveParams>(c).ridge},
           batch);
}

}  // namespace

extern const Kernel solve_vulkan_kernel = {refuse_nothing, scratch_bytes, record, 0, false, rounds};

}  // namespace runnel::vulkan
