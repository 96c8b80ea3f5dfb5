#include "ops/attention/vulkan.h"
#include "ops/define.h"
#include "ops/sparse_attention/sparse_attention.h"

namespace runnel::vulkan {
RNL_SHADER(sparse_attention)
namespace {

enum Input { kKeyState = 3, kValueState = 4, kRanges = 9, kParents, kBefore, kLseBefore };

struct Push {
  AttentionPush attention;
  uint32_t size_1, size_2;
  uint32_t ranges, lists, range_count, parents, before, lse_before;
};
static_assert(sizeof(Push) <= 128);

const char* refuses(const OpCall& c) { return refuse_attention(FlatAttention(c).call); }

// At most all keys, once more for each range that may hold them.
uint64_t rounds(const OpCall& c) {
  const uint64_t ranges = has_input(c, kRanges) ? uint64_t(c.in[kRanges].dims[2]) : 1;
  return attention_rounds(FlatAttention(c).call) + 64 * ranges;
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<SparseAttentionParams>(c);
  const FlatAttention flat(c);
  Push push{};
  push.attention = record_attention(r, flat.call);
  if (p.first > 0) push.attention.window = p.window;
  push.size_1 = push.size_2 = 1;
  if (p.axes > 1) push.size_1 = uint32_t(flat.sizes[1]);
  if (p.axes > 2) push.size_2 = uint32_t(flat.sizes[2]);
  push.ranges = r.input(c, kRanges), push.parents = r.input(c, kParents);
  push.before = r.input(c, kBefore), push.lse_before = r.input(c, kLseBefore);
  uint32_t flags = p.step[2] | uint32_t(p.axes) << 16 | uint32_t(p.causal_axes) << 18 | uint32_t(p.sigmoid) << 21;
  if (push.ranges != kAbsent) {
    const TensorView& ranges = c.in[kRanges];
    push.lists = uint32_t(ranges.dims[1]), push.range_count = uint32_t(ranges.dims[2]);
    flags |= uint32_t(ranges.dims[0] > 1) << 22;
  }
  const AttentionTile tile = attention_tile(flat.call, true, flags >> 22 & 1);
  Constants constants = attention_constants(flat.call, tile);
  uint32_t shift;
  __builtin_memcpy(&shift, &p.shift, sizeof shift);
  for (int a = 0; a < kMaxAxes; ++a) constants.v[constants.count++] = p.kernel[a] | uint32_t(p.dilation[a]) << 16;
  for (const uint32_t v : {p.step[0] | uint32_t(p.step[1]) << 16, flags, p.chunk, p.first, p.range_block, shift})
    constants.v[constants.count++] = v;
  r.groups(shader_sparse_attention, constants, push, tile.groups);
}

}  // namespace

extern const Kernel sparse_attention_vulkan_kernel = {refuses, nullptr, record, 1u << kKeyState | 1u << kValueState,
                                                      false,   rounds};

}  // namespace runnel::vulkan
