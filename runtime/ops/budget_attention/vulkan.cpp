// A block's queries see the same kept positions, so its tokens run side by side; blocks follow one another.
#include "ops/budget_attention/budget_attention.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(budget_attention__attend)
RNL_SHADER(budget_attention__keep)
namespace {

enum Input { kQ, kK, kV, kKeys };

struct Push {
  uint32_t tokens, heads, kv_heads, key, value, slots;
  uint32_t budget, recent, block, window, reach;
  uint32_t q, k, v, keys, values, weights, y, shares, lists, round;
  float scale;
};

uint64_t slots_of(const OpCall& c) { return uint64_t(c.in[kKeys].dims[1]) * 16; }
// Tokens of a block within a call, and blocks that a call may reach into.
uint64_t block_tokens(const OpCall& c) {
  const uint64_t tokens = uint64_t(c.in[kQ].dims[0]), block = params_of<BudgetAttentionParams>(c).block;
  return tokens < block ? tokens : block;
}
uint64_t blocks_of(const OpCall& c) {
  const uint64_t tokens = uint64_t(c.in[kQ].dims[0]), block = params_of<BudgetAttentionParams>(c).block;
  return tokens == 0 ? 0 : (tokens + block - 2) / block + 1;
}

const char* refuses(const OpCall& c) {
  if (c.in[kQ].dims[2] > 2048) return "heads of more than 2048 dims";
  if (slots_of(c) > 1u << 24) return "more slots than floats count";
  if (c.in[kKeys].dtype == DType::kF16 && c.in[kV].dims[2] % 2 != 0) return "f16 values of an odd size";
  return nullptr;
}

uint64_t share_words(const OpCall& c) { return block_tokens(c) * uint64_t(c.in[kQ].dims[1]) * slots_of(c); }
uint64_t scratch_bytes(const OpCall& c) { return (share_words(c) + 3 * uint64_t(c.in[kK].dims[1]) * slots_of(c)) * 4; }

uint64_t rounds(const OpCall& c) {
  const uint64_t slots = slots_of(c), group = uint64_t(c.in[kQ].dims[1] / c.in[kK].dims[1]);
  const uint64_t attend = rounds_of(int64_t(slots)) * uint64_t(c.in[kQ].dims[2]) + slots * rounds_of(c.in[kV].dims[2]);
  const uint64_t keep =
      rounds_of(int64_t(slots), 128) * (block_tokens(c) * group + 36) +
      (slots + block_tokens(c)) * (rounds_of(c.in[kQ].dims[2], 128) + rounds_of(c.in[kV].dims[2], 128));
  return attend > keep ? attend : keep;
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<BudgetAttentionParams>(c);
  for (int i = 0; i < 3; ++i)
    if (c.out[1 + i].data != c.in[kKeys + i].data)
      r.copy(c.in[kKeys + i].data, c.out[1 + i].data, heap_bytes(c.in[kKeys + i]));
  r.barrier();
  r.window({&c.out[1], &c.out[2], &c.out[3]});
  Push push{};
  push.tokens = uint32_t(c.in[kQ].dims[0]), push.heads = uint32_t(c.in[kQ].dims[1]);
  push.kv_heads = uint32_t(c.in[kK].dims[1]), push.key = uint32_t(c.in[kQ].dims[2]);
  push.value = uint32_t(c.in[kV].dims[2]), push.slots = uint32_t(slots_of(c));
  push.budget = p.budget, push.recent = p.recent, push.block = p.block, push.window = p.window;
  push.reach = p.window > 0 ? p.pool / 2 : 0;
  push.q = r.input(c, kQ), push.k = r.input(c, kK), push.v = r.input(c, kV);
  push.keys = r.state_output(c, 1), push.values = r.state_output(c, 2), push.weights = r.state_output(c, 3);
  push.y = r.output(c, 0);
  push.shares = r.scratch(), push.lists = push.shares + uint32_t(share_words(c));
  push.scale = p.scale;
  const uint32_t is_half = c.in[kKeys].dtype == DType::kF16;
  const uint64_t blocks = blocks_of(c);
  for (uint64_t i = 0; i <= blocks && blocks > 0; ++i) {
    push.round = uint32_t(i);
    r.grid(shader_budget_attention__keep, {is_half}, push, push.kv_heads, 1, 1);
    if (i == blocks) break;
    r.barrier();
    r.groups(shader_budget_attention__attend, {is_half, push.key}, push, block_tokens(c) * push.heads);
    r.barrier();
  }
}

}  // namespace

extern const Kernel budget_attention_vulkan_kernel = {refuses, scratch_bytes, record, 0, false, rounds};

}  // namespace runnel::vulkan
