// Feeding and continuing a stream of text. Everything that must survive a save lies in the text part of the session's state block.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "runnel/runnel.h"
#include "session/session.h"
#include "text/sampler.h"
#include "text/tokenizer.h"

namespace runnel {

struct TextState {
  int32_t has_pending;   // 1: `pending` was chosen but is not in the stream yet
  int32_t pending;
  int64_t pending_at;    // the position that it was chosen for; a rollback makes it void
  DecodeState decode;    // bytes of a character whose end has not come yet
  SamplerState sampler;  // its count is the stream's position
};
static_assert(sizeof(TextState) <= kTextStateBytes);

inline TextState& text_state(Session& session) { return *reinterpret_cast<TextState*>(session.text_state()); }

struct GenerateOptions {
  int64_t max_tokens = 0;  // 0: until the context is full
  bool ignore_end = false;
  const char* const* stop = nullptr;
  size_t stop_count = 0;
  uint64_t seed = 0;
  SamplerOptions sampling;
};

// From the C struct, where 0 means the default.
SamplerOptions sampling_of(const rnl_sampling& s);

// A new token with the text that became certain. Returning false stops.
using TokenFn = bool (*)(void* context, int32_t id, const char* text, size_t size);

// Feeds the pending token and ids, then chooses and feeds tokens until max_tokens, an end token, a stop text, the callback or an error ends
// it. The last chosen token stays pending. Needs a program with inputs ids, rows and the output logits; works without a tokenizer (then
// texts are empty).
Status generate(Session& session, const int32_t* ids, size_t count, const GenerateOptions& options, TokenFn token, void* context, int64_t* generated);

// Ids of a user's turn and the opening of the answer, from the model's chat format. Only the format's own text can become control tokens.
Status chat_turn(const Model& model, const char* system, const char* user, bool first, Vec<int32_t>* ids);

}  // namespace runnel
