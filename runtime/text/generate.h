// Feeding and continuing a stream of text. Everything that must survive a save lies in the text part of the session's
// state block.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "runnel/runnel.h"
#include "session/session.h"
#include "text/grammar.h"
#include "text/logprobs.h"
#include "text/sampler.h"
#include "text/tokenizer.h"

namespace runnel {

// A place in a chat's stream: its first `position` tokens are these bytes of the conversation's text.
struct ChatMark {
  int64_t position;
  uint64_t bytes;
  uint64_t hash;  // hash_byte over them
};
inline constexpr uint32_t kMaxChatMarks = 256;
// What the stream holds, as far back as chats look for where a conversation goes on: ends of prompts and of generated
// tokens, rising.
struct ChatState {
  uint32_t count, reserved;
  ChatMark marks[kMaxChatMarks];
};
inline constexpr uint64_t kTextHashSeed = 0xCBF29CE484222325ull;
inline uint64_t hash_byte(uint64_t hash, uint8_t byte, bool is_template) {
  return (hash ^ (byte | (is_template ? 0x100u : 0u))) * 0x100000001B3ull;
}

// Where the answer stands in its grammar. The present position follows from a mark and the tokens since, which the
// sampler's history holds: so a rollback needs no notice, and a saved stream goes on as if nothing had happened.
struct GrammarState {
  uint64_t grammar;  // its fingerprint, 0: no answer under a grammar is under way
  int64_t begin;     // the stream's position before the answer's first token
  struct Mark {
    int64_t at;  // the stream's position before the next token
    GrammarPosition position;
  } marks[2];  // the older one first; kMarkEvery tokens apart
  static constexpr int64_t kMarkEvery = int64_t(SamplerState::kHistory) / 2;
};

struct TextState {
  int32_t has_pending;  // 1: `pending` was chosen but is not in the stream yet
  int32_t pending;
  int64_t pending_at;    // the position that it was chosen for; a rollback makes it void
  DecodeState decode;    // bytes of a character whose end has not come yet
  SamplerState sampler;  // its count is the stream's position
  ChatState chat;
  GrammarState grammar;
};
static_assert(sizeof(TextState) <= kTextStateBytes);

inline TextState& text_state(Session& session) { return *reinterpret_cast<TextState*>(session.text_state()); }

// What a prompt is beside ids, in whose places it is fed (text/features.h). ids from `first` on may hold such places.
class PromptParts {
 public:
  using FeedFn = Status (*)(void* context, const int32_t* ids, size_t count);
  // Feeds all of it, the ids behind the last such place by `feed`. What can be refused is refused before anything is
  // fed.
  virtual Status feed(Session& session, const int32_t* ids, size_t first, size_t count, FeedFn feed,
                      void* context) const = 0;

 protected:
  ~PromptParts() = default;
};

struct GenerateOptions {
  int64_t max_tokens = 0;  // 0: until the context is full
  bool ignore_end = false;
  const char* const* stop = nullptr;
  size_t stop_count = 0;
  uint64_t seed = 0;
  SamplerOptions sampling;
  const PromptParts* parts = nullptr;  // of the prompt beside its ids
  // Of a chat: bytes and hash of the text that the stream will hold with the ids. Null: no chat; with ids given, the
  // stream is none any more.
  const ChatMark* chat = nullptr;
  // The answer follows it. With ids a new answer begins, unless `goes_on`: then they are part of the one under way, and
  // are refused when they do not fit. Without ids the one under way goes on.
  Grammar* grammar = nullptr;
  bool grammar_goes_on = false;
  // Called with each chosen token's log-probabilities, before `token`.
  int32_t logprobs = 0;  // how many of the most probable tokens
  LogprobsFn logprobs_fn = nullptr;
  void* logprobs_context = nullptr;
};

// From the C struct, where 0 means the default.
SamplerOptions sampling_of(const rnl_sampling& s);

// A new token with the text that became certain. Returning false stops.
using TokenFn = bool (*)(void* context, int32_t id, const char* text, size_t size);

// Whether generate() takes these options, without feeding anything.
Status check_generate(Session& session, bool has_ids, const GenerateOptions& options);

// Feeds the pending token and ids, then chooses and feeds tokens until max_tokens, an end token, a stop text, the
// callback or an error ends it. The last chosen token stays pending. Needs a first program with an input ids and logits
// (PlannedProgram::logits_value); works without a tokenizer (then texts are empty). Nothing is changed unless something
// was fed; a failure later on leaves the stream with every token that was delivered, the last one pending.
Status generate(Session& session, const int32_t* ids, size_t count, const GenerateOptions& options, TokenFn token,
                void* context, int64_t* generated);

}  // namespace runnel
