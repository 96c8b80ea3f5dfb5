// Conversations as a model's chat format writes them, and answers with the history kept in a session.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "format/model_generated.h"
#include "text/chat_values.h"
#include "text/generate.h"

namespace runnel {

struct ChatMessage {
  const char *role, *content;  // content null: its parts
};
// A part of message number `message`: a text, or what features stand for (text null).
struct ChatPart {
  size_t message;
  const char *type, *text;
};
// A variable of the template. text null: a truth value.
struct ChatVariable {
  const char *name, *text;
  bool truth;
};
struct Conversation {
  const ChatMessage* messages = nullptr;
  size_t count = 0;
  const ChatPart* parts = nullptr;  // in the order of their messages
  size_t part_count = 0;
  const rnl_features* features = nullptr;  // for an answer: of the parts without text, in their order
  size_t feature_count = 0;
  bool opens_answer = true;  // ends with the opening of the model's next message
  const ChatVariable* variables = nullptr;
  size_t variable_count = 0;
  int64_t now = 0;  // seconds since 1970 for templates that write the date; 0: the clock
};

// Texts of the vocabulary that templates write; empty: the vocabulary has none.
struct ChatTokens {
  chat::Value bos, eos, unk;
};

// The conversation's text, each byte with its origin (text/chat_values.h).
Status render_chat(const format::ChatProgram& program, const ChatTokens& tokens, const Conversation& conversation,
                   chat::TextBuilder* out);
Status render_chat(const Model& model, const Conversation& conversation, chat::TextBuilder* out);
// Its ids. Only the template's own bytes can become special tokens.
Status chat_ids(const Model& model, const Conversation& conversation, Vec<int32_t>* ids);
// Ids of a user's turn and the opening of the answer: the first turn, or what such a turn adds behind an answer.
Status chat_turn(const Model& model, const char* system, const char* user, bool first, Vec<int32_t>* ids);

struct ChatProgress {
  int64_t kept = 0;     // tokens of the stream that the conversation goes on from
  int64_t dropped = 0;  // tokens that were taken back, because the conversation does not go on from them
  int64_t fed = 0;      // ids that were fed before the answer
  int64_t generated = 0;
};
// Answers the conversation. What the stream already holds of it is not fed again: the text of the whole conversation is
// compared with that of the stream, which is taken back to where they part (by rollback, else to its start).
Status answer_chat(Session& session, const Conversation& conversation, const GenerateOptions& options, TokenFn token,
                   void* context, ChatProgress* progress);

}  // namespace runnel
