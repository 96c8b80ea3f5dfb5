#include "ops/define.h"
#include "ops/match_tokens/match_tokens.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(match_tokens__best)
RNL_SHADER(match_tokens__group)
namespace {

struct BestPush {
  uint32_t tokens, width, first, first_odd, features, factor, matches;
};
struct GroupPush {
  uint32_t tokens, first, merged, groups, matches, chosen;
};

// Score and match of each token at an even place; then what was chosen of them.
uint64_t match_words(int64_t tokens) { return uint64_t(tokens + 1) / 2 * 2; }
uint64_t scratch_bytes(const OpCall& c) {
  const int64_t tokens = c.in[0].dims[0];
  return (match_words(tokens) + uint64_t(tokens + 1) / 2) * 4;
}

uint64_t rounds(const OpCall& c) {
  const int64_t tokens = c.in[0].dims[0];
  return 2 * rounds_of(tokens, 128) * uint64_t(c.in[0].dims[1]) + uint64_t(tokens);
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<MatchTokensParams>(c);
  const uint32_t tokens = uint32_t(c.in[0].dims[0]), merged = uint32_t(merged_tokens(p, tokens));
  if (tokens == 0) return;
  const uint32_t first = uint32_t((uint64_t(p.keep) + 1) / 2 * 2), matches = r.scratch(),
                 chosen = matches + uint32_t(match_words(tokens));
  if (merged > 0) {
    r.groups(shader_match_tokens__best, {},
             BestPush{tokens, last_axis(c.in[0]), first, p.keep / 2 * 2 + 1, r.input(c, 0), r.input(c, 1), matches},
             (tokens - first + 1) / 2);
    r.barrier();
  }
  const GroupPush push{tokens, merged > 0 ? first : tokens, merged, r.output(c, 0), matches, chosen};
  r.items(shader_match_tokens__group, {0}, push, (tokens + 1) / 2);
  r.barrier();
  r.items(shader_match_tokens__group, {1}, push, tokens);
}

}  // namespace

extern const Kernel match_tokens_vulkan_kernel = {refuse_nothing, scratch_bytes, record, 0, false, rounds};

}  // namespace runnel::vulkan
