// Text calls of runnel.h: tokenizer, generation, chats.
#include <cstring>
#include <optional>

#include "api/handles.h"
#include "text/chat.h"
#include "text/features.h"
#include "text/generate.h"
#include "text/tokenizer.h"

using namespace runnel;

namespace {

// Hands `count` elements to a caller who asked for the size first or gave enough room.
template <class T>
Status deliver(const T* from, size_t size, T* to, size_t capacity, size_t* count) {
  *count = size;
  if (!to && capacity == 0) return Status::ok();
  RNL_CHECK_ARG(to, "the buffer is null, but its capacity is %zu", capacity);
  RNL_CHECK_ARG(capacity >= size, "room for %zu, %zu are needed", capacity, size);
  if (size) std::memcpy(to, from, size * sizeof(T));
  return Status::ok();
}

Status tokenize(const rnl_model* model, const char* text, size_t size, uint32_t flags, Vec<int32_t>* ids) {
  RNL_CHECK_ARG(model && (text || size == 0), "model or text is null");
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(*model->model));
  EncodeOptions o;
  o.special = flags & RNL_TEXT_SPECIAL;
  if (flags & RNL_TEXT_NO_BOS_EOS) o.bos = o.eos = EncodeOptions::Add::kNo;
  EncodeScratch scratch;
  return tokenizer.encode(text, size, o, &scratch, ids);
}

Status create_grammar(const rnl_model* model, const char* text, size_t size, rnl_grammar** grammar) {
  RNL_CHECK_ARG(model && (text || size == 0) && grammar, "model, text or grammar is null");
  RNL_CHECK_ARG(size <= kMaxTextBytes, "a grammar of %zu bytes", size);
  const std::lock_guard<std::mutex> lock(model->order_mutex);
  if (!model->order) {
    RNL_ASSIGN(tokenizer, Tokenizer::of_model(*model->model));
    std::unique_ptr<TokenOrder> order(new (std::nothrow) TokenOrder);
    if (!order) return Status::make(Code::kOutOfMemory, "no memory for a grammar");
    RNL_TRY(TokenOrder::build(tokenizer, order.get()));
    model->order = std::move(order);
  }
  RNL_ASSIGN(made, Grammar::create(*model->order, text, size));
  auto* g = new (std::nothrow) rnl_grammar;
  if (!g) return Status::make(Code::kOutOfMemory, "no memory for a grammar");
  g->owner = Use<const rnl_model>(model);
  g->grammar = std::move(made);
  *grammar = g;
  return Status::ok();
}

// The callbacks of one call.
struct Sink {
  rnl_token_fn fn;
  void* user;
  rnl_logprobs_fn logprobs = nullptr;
  void* logprobs_user = nullptr;
};

Status add_features(const rnl_features* given, Vec<rnl_features>* to) {
  if (!given) return null_argument("features");
  rnl_features f;
  RNL_TRY(read_options(given, &f, "features"));
  return to->push(f);
}

bool deliver_token(void* context, int32_t id, const char* text, size_t size) {
  const Sink& k = *static_cast<const Sink*>(context);
  return !k.fn || k.fn(k.user, id, text, size) == 0;
}

void deliver_logprobs(void* context, const ChosenLogprobs& t) {
  const Sink& k = *static_cast<const Sink*>(context);
  rnl_logprobs out{};
  out.struct_size = sizeof out;
  out.chosen = {t.chosen.id, t.chosen.logprob};
  static_assert(sizeof(TokenLogprob) == sizeof(rnl_logprob));
  out.best = reinterpret_cast<const rnl_logprob*>(t.best);
  out.best_count = size_t(t.best_count);
  k.logprobs(k.logprobs_user, &out);
}

// The struct within another one: without a size it must be all zero, which stands for the defaults.
Status read_sampling(const rnl_sampling& given, rnl_sampling* out) {
  if (given.struct_size) return read_options(&given, out, "sampling");
  const rnl_sampling none{};
  RNL_CHECK_ARG(std::memcmp(&given, &none, sizeof none) == 0, "sampling: struct_size is 0");
  *out = none;
  return Status::ok();
}

Status generate_options(const rnl_generate_options* options, Sink* sink, GenerateOptions* o) {
  rnl_generate_options given;
  rnl_sampling s;
  RNL_TRY(read_options(options, &given, "generate options"));
  RNL_TRY(read_sampling(given.sampling, &s));
  RNL_CHECK_ARG(given.stop || given.stop_count == 0, "stop is null");
  RNL_CHECK_ARG(s.bias || s.bias_count == 0, "sampling.bias is null");
  o->max_tokens = given.max_tokens;
  o->ignore_end = given.ignore_end != 0;
  o->stop = given.stop;
  o->stop_count = given.stop_count;
  o->sampling = sampling_of(s);
  o->seed = s.seed;
  if (given.grammar) o->grammar = given.grammar->grammar.get();
  o->grammar_goes_on = given.grammar_goes_on != 0;
  RNL_CHECK_ARG(given.logprobs_count >= 0 && given.logprobs_count <= kMaxLogprobs, "logprobs_count is %d, at most %d",
                given.logprobs_count, kMaxLogprobs);
  if (given.logprobs) {
    sink->logprobs = given.logprobs;
    sink->logprobs_user = given.logprobs_user;
    o->logprobs = given.logprobs_count;
    o->logprobs_fn = deliver_logprobs;
    o->logprobs_context = sink;
  }
  return Status::ok();
}

// A conversation of the caller.
struct Given {
  Vec<ChatMessage> messages;
  Vec<ChatVariable> variables;
  Vec<ChatPart> parts;
  Vec<rnl_features> features;  // of the parts that are no text
  Conversation conversation;
  Status read(const rnl_chat* from) {
    rnl_chat c;
    RNL_TRY(read_options(from, &c, "chat"));
    RNL_CHECK_ARG((c.messages || !c.message_count) && (c.variables || !c.variable_count) && (c.parts || !c.part_count),
                  "messages, variables or parts is null");
    for (size_t i = 0; i < c.message_count; ++i) RNL_TRY(messages.push({c.messages[i].role, c.messages[i].content}));
    for (size_t i = 0; i < c.variable_count; ++i)
      RNL_TRY(variables.push({c.variables[i].name, c.variables[i].text, c.variables[i].truth != 0}));
    for (size_t i = 0; i < c.part_count; ++i) RNL_TRY(read_part(c.parts[i]));
    conversation.parts = parts.data();
    conversation.part_count = parts.size();
    conversation.features = features.data();
    conversation.feature_count = features.size();
    conversation.messages = messages.data();
    conversation.count = messages.size();
    conversation.opens_answer = !c.is_closed;
    conversation.variables = variables.data();
    conversation.variable_count = variables.size();
    conversation.now = c.now;
    return Status::ok();
  }
  Status read_part(const rnl_chat_part* from) {
    rnl_chat_part p;
    if (!from) return null_argument("a part");
    RNL_TRY(read_options(from, &p, "part"));
    RNL_CHECK_ARG(!p.text || !p.features, "part %zu has a text and features", parts.size());
    RNL_TRY(parts.push({p.message, p.type, p.text}));
    return p.features ? add_features(p.features, &features) : Status::ok();
  }
  Status check_features() const {
    size_t wanted = 0;
    for (const ChatPart& p : parts) wanted += p.text ? 0 : 1;
    RNL_CHECK_ARG(features.size() == wanted, "%zu of the %zu parts that are no text have features", features.size(),
                  wanted);
    return Status::ok();
  }
};

// parts(&options): what the prompt is beside its ids.
template <class PartsFn>
rnl_status_code run_generate(rnl_session* session, const int32_t* ids, size_t count,
                             const rnl_generate_options* options, rnl_token_fn token, void* user, int64_t* generated,
                             PartsFn parts) {
  int64_t n = 0;
  const rnl_status_code code = run_session(session, [&](Session& s) {
    if (!ids && count) return null_argument("ids");
    Sink sink{token, user};
    GenerateOptions o;
    RNL_TRY(generate_options(options, &sink, &o));
    RNL_TRY(parts(&o));
    return generate(s, ids, count, o, deliver_token, &sink, &n);
  });
  if (generated) *generated = n;
  return code;
}

}  // namespace

extern "C" {

rnl_status_code rnl_tokenize(const rnl_model* model, const char* text, size_t size, uint32_t flags, int32_t* ids,
                             size_t capacity, size_t* count) {
  if (!count) return report(Status::make(Code::kInvalidArgument, "count is null"));
  Vec<int32_t> out;
  Status s = tokenize(model, text, size, flags, &out);
  return report(s.is_ok() ? deliver(out.data(), out.size(), ids, capacity, count) : std::move(s));
}

rnl_status_code rnl_detokenize(const rnl_model* model, const int32_t* ids, size_t count, uint32_t flags, char* buffer,
                               size_t capacity, size_t* size) {
  if (!model || !size || (!ids && count))
    return report(Status::make(Code::kInvalidArgument, "model, ids or size is null"));
  auto tokenizer = Tokenizer::of_model(*model->model);
  if (!tokenizer.is_ok()) return report(tokenizer.take_status());
  Vec<char> out;
  Status s = tokenizer.value().decode_all(ids, count, flags & RNL_TEXT_SPECIAL, &out);
  return report(s.is_ok() ? deliver(out.data(), out.size(), buffer, capacity, size) : std::move(s));
}

rnl_status_code rnl_grammar_create(const rnl_model* model, const char* text, size_t size, rnl_grammar** grammar) {
  return report(create_grammar(model, text, size, grammar));
}

void rnl_grammar_destroy(rnl_grammar* grammar) { delete grammar; }

rnl_status_code rnl_session_generate(rnl_session* session, const int32_t* ids, size_t count,
                                     const rnl_generate_options* options, rnl_token_fn token, void* user,
                                     int64_t* generated) {
  return run_generate(session, ids, count, options, token, user, generated,
                      [](GenerateOptions*) { return Status::ok(); });
}

rnl_status_code rnl_session_generate_parts(rnl_session* session, const int32_t* ids, size_t count,
                                           const rnl_features* const* features, size_t feature_count,
                                           const rnl_generate_options* options, rnl_token_fn token, void* user,
                                           int64_t* generated) {
  Vec<rnl_features> list;
  std::optional<Features> given;
  return run_generate(session, ids, count, options, token, user, generated, [&](GenerateOptions* o) {
    if (!features && feature_count) return null_argument("features");
    for (size_t i = 0; i < feature_count; ++i) RNL_TRY(add_features(features[i], &list));
    o->parts = &given.emplace(list.data(), list.size());
    return Status::ok();
  });
}

rnl_status_code rnl_chat_text(const rnl_model* model, const rnl_chat* chat, char* buffer, size_t capacity,
                              size_t* size) {
  if (!model || !chat || !size) return report(Status::make(Code::kInvalidArgument, "model, chat or size is null"));
  Given given;
  chat::TextBuilder out;
  Status s = given.read(chat);
  if (s.is_ok()) s = render_chat(*model->model, given.conversation, &out);
  return report(s.is_ok() ? deliver(out.data(), out.size(), buffer, capacity, size) : std::move(s));
}

rnl_status_code rnl_chat_ids(const rnl_model* model, const rnl_chat* chat, int32_t* ids, size_t capacity,
                             size_t* count) {
  if (!model || !chat || !count) return report(Status::make(Code::kInvalidArgument, "model, chat or count is null"));
  Given given;
  Vec<int32_t> out;
  Status s = given.read(chat);
  if (s.is_ok()) s = chat_ids(*model->model, given.conversation, &out);
  return report(s.is_ok() ? deliver(out.data(), out.size(), ids, capacity, count) : std::move(s));
}

rnl_status_code rnl_session_chat(rnl_session* session, const rnl_chat* chat, const rnl_generate_options* options,
                                 rnl_token_fn token, void* user, rnl_chat_result* result) {
  ChatProgress p;
  return run_session(session, [&](Session& s) {
    if (!chat) return null_argument("chat");
    if (result) RNL_TRY(write_struct(result, rnl_chat_result{}, "result"));
    Given given;
    Sink sink{token, user};
    GenerateOptions o;
    RNL_TRY(given.read(chat));
    RNL_TRY(generate_options(options, &sink, &o));
    RNL_TRY(given.check_features());
    given.conversation.opens_answer = true;
    Status status = answer_chat(s, given.conversation, o, deliver_token, &sink, &p);
    if (result) RNL_TRY(write_struct(result, rnl_chat_result{0, p.kept, p.dropped, p.fed, p.generated}, "result"));
    return status;
  });
}

rnl_status_code rnl_chat_turn(const rnl_model* model, const char* system, const char* user, int32_t first, int32_t* ids,
                              size_t capacity, size_t* count) {
  if (!model || !user || !count) return report(Status::make(Code::kInvalidArgument, "model, user or count is null"));
  Vec<int32_t> out;
  Status s = chat_turn(*model->model, system, user, first != 0, &out);
  return report(s.is_ok() ? deliver(out.data(), out.size(), ids, capacity, count) : std::move(s));
}

}  // extern "C"
