// Of attention on a device, for sparse_attention too.
#pragma once

#include "ops/attention/attention.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {

struct AttentionPush {
  uint32_t tokens, heads, kv_heads, value, keys, slots, window, stride;
  uint32_t q, k, v, k_state, v_state, sinks, bias, bias_head, bias_token, bounds, segments, rows, y, lse;
  float scale, softcap;
};

const char* refuse_attention(const OpCall& call);
uint64_t attention_rounds(const OpCall& call);
// Records what writes the call's tokens into the states.
AttentionPush record_attention(Recorder& r, const OpCall& call);
// Rows of a workgroup: queries of so many tokens and heads, which see the keys of one head.
struct AttentionTile {
  uint32_t tokens, heads;
  uint64_t groups;
};
AttentionTile attention_tile(const OpCall& call, bool has_lists, bool has_lists_of_heads);
// The first specialisation constants.
Constants attention_constants(const OpCall& call, const AttentionTile& tile);

}  // namespace runnel::vulkan
