// What attention lends to sparse_attention, whose call it gets with tokens along one axis and AttentionParams.
#pragma once

#include "ops/attention/attention.h"

namespace runnel {

// Of the keys that causality and window leave, those that a query sees; key is an index as in the contract of
// attention.
struct KeyFilter {
  bool (*sees)(const void* context, int64_t query, int64_t head, int64_t position, int64_t key);
  const void* context;
  // The result over other keys, [tokens, heads, value] and [tokens, heads]; null: none.
  const float *before, *lse_before;
  bool is_sigmoid;
  float shift;
};

Status check_attention(const OpCall& call);
Status check_attention_data(const OpCall& call);
SlotUse use_attention_slots(const OpCall& call);
void attention_reference(const OpCall& call, const KeyFilter* filter);

}  // namespace runnel
