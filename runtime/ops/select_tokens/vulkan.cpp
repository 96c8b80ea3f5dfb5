#include "ops/define.h"
#include "ops/select_tokens/select_tokens.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(select_tokens)
namespace {

constexpr uint32_t kInvocations = 64;

struct Push {
  uint32_t n, capacity, threshold, least, scores, ids, count;
};

// Counts are sums of floats.
const char* refuses(const OpCall& c) {
  return elements(c.in[0]) <= 1u << 24 ? nullptr : "more scores than floats count";
}

uint64_t rounds(const OpCall& c) {
  return 36 * (uint64_t(elements(c.in[0])) / kInvocations + 1) + elements(c.out[0]) / kInvocations;
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<SelectTokensParams>(c);
  const Push push{elements(c.in[0]), elements(c.out[0]), rank_of_score(p.threshold), p.least, r.input(c, 0),
                  r.output(c, 0),    r.output(c, 1)};
  r.groups(shader_select_tokens, {}, push, 1);
}

}  // namespace

extern const Kernel select_tokens_vulkan_kernel = {refuses, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
