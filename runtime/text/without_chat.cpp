// In place of chat*.cpp in a library that was built without chats.
#include "text/chat.h"

namespace runnel {
namespace {

Status refusal() { return Status::make(Code::kUnsupported, "this library was built without chats (RUNNEL_CHAT)"); }

}  // namespace

Status render_chat(const Model&, const Conversation&, chat::TextBuilder*) { return refusal(); }
Status chat_ids(const Model&, const Conversation&, Vec<int32_t>*) { return refusal(); }
Status chat_turn(const Model&, const char*, const char*, bool, Vec<int32_t>*) { return refusal(); }
Status answer_chat(Session&, const Conversation&, const GenerateOptions&, TokenFn, void*, ChatProgress*) {
  return refusal();
}

}  // namespace runnel
