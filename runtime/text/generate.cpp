#include "text/generate.h"

#include <algorithm>
#include <cstring>

#include "text/next_token.h"
#include "text/stream.h"

namespace runnel {
namespace {

constexpr size_t kMaxStopBytes = 256;

// Text on its way out: held back while its end could be the beginning of a stop text.
class StopFilter {
 public:
  StopFilter(const char* const* stop, size_t count) : stop_(stop), count_(count) {}
  Status prepare() { return buffer_.assign(kMaxStopBytes + kMaxTokenText); }
  // Appends text; returns how many bytes of buffer() may go out now. found() tells whether a stop text was met (it and
  // what follows is cut).
  size_t add(const char* text, size_t size) {
    std::memcpy(buffer_.data() + held_, text, size);
    held_ += size;
    for (size_t i = 0; i < count_; ++i) {
      const size_t n = std::strlen(stop_[i]);
      const char* end = buffer() + held_;
      const char* at = n ? std::search(buffer(), end, stop_[i], stop_[i] + n) : end;
      if (at != end && (!found_ || size_t(at - buffer()) < held_)) {
        held_ = size_t(at - buffer());
        found_ = true;
      }
    }
    if (found_) return held_;
    size_t keep = 0;
    for (size_t i = 0; i < count_; ++i) {
      const size_t n = std::strlen(stop_[i]);
      for (size_t k = std::min(n ? n - 1 : 0, held_); k > keep; --k)
        if (std::memcmp(buffer() + held_ - k, stop_[i], k) == 0) keep = k;
    }
    return held_ - keep;
  }
  void drop(size_t n) {
    std::memmove(buffer_.data(), buffer_.data() + n, held_ - n);
    held_ -= n;
  }
  const char* buffer() const { return buffer_.data(); }
  size_t held() const { return held_; }
  bool found() const { return found_; }

 private:
  const char* const* stop_;
  size_t count_, held_ = 0;
  bool found_ = false;
  Vec<char> buffer_;  // not on the stack, which threads of some systems have little of
};

Status check_options(const GenerateOptions& o) {
  for (size_t i = 0; i < o.stop_count; ++i)
    RNL_CHECK_ARG(o.stop && o.stop[i] && *o.stop[i] && std::strlen(o.stop[i]) <= kMaxStopBytes,
                  "stop text %zu is empty or longer than %zu bytes", i, kMaxStopBytes);
  RNL_CHECK_ARG(o.max_tokens >= 0, "max_tokens is %lld", static_cast<long long>(o.max_tokens));
  return Status::ok();
}

void add_mark(ChatState& chat, const ChatMark& mark) {
  while (chat.count && chat.marks[chat.count - 1].position >= mark.position) --chat.count;
  if (chat.count == kMaxChatMarks) std::memmove(chat.marks, chat.marks + 1, --chat.count * sizeof(ChatMark));
  chat.marks[chat.count++] = mark;
}

// The mark of a chat's stream with its pending token, and whether there is one: generating on without new ids keeps a
// chat.
bool chat_goes_on(const TextState& state, int64_t position, bool has_pending, size_t count, const ChatMark* given,
                  ChatMark* mark) {
  if (given) *mark = *given;
  else if (count == 0 && state.chat.count > 0 && state.chat.count <= kMaxChatMarks)
    *mark = state.chat.marks[state.chat.count - 1];
  else return false;
  return given || mark->position == position + (has_pending ? 1 : 0);
}

Result<Tokenizer> tokenizer_of(const Model& model, bool* has_one) {
  auto opened = Tokenizer::of_model(model);
  *has_one = opened.is_ok();
  if (*has_one) return opened;
  Status s = opened.take_status();
  if (s.code() != Code::kNotFound) return s;
  return Tokenizer();
}

// A call of generate().
struct Answer {
  Session& session;
  const GenerateOptions& options;
  TokenFn token;
  void* context;
  const Tokenizer* tokenizer;  // null: texts are empty
  TextState& state;
  StopFilter filter;
  Vec<char> text;
  ChatMark mark{};
  bool is_chat = false;

  Answer(Session& s, const GenerateOptions& o, TokenFn fn, void* fn_context, const Tokenizer* t)
      : session(s),
        options(o),
        token(fn),
        context(fn_context),
        tokenizer(t),
        state(text_state(s)),
        filter(o.stop, o.stop_count) {}
  // Keeps a chosen token and hands it over. False: the answer ends with it.
  Result<bool> take(int32_t id) {
    const int64_t position = session.position();
    state.has_pending = 1;
    state.pending = id;
    state.pending_at = position;
    const bool ends = tokenizer && !options.ignore_end && tokenizer->vocab().ends_turn(id);
    if (ends) state.grammar.grammar = 0;
    size_t size = 0;
    if (tokenizer && !ends) {
      RNL_ASSIGN(bytes, tokenizer->decode(id, &state.decode, text.data()));
      size = bytes;
    }
    if (is_chat && !ends) {
      for (size_t i = 0; i < size; ++i) mark.hash = hash_byte(mark.hash, uint8_t(text[i]), false);
      mark.bytes += size;
      mark.position = position + 1;
      if (state.decode.pending_count == 0) add_mark(state.chat, mark);  // not within a character
    }
    const size_t ready = filter.add(text.data(), size);
    const bool go_on = token(context, id, filter.buffer(), ready);
    filter.drop(ready);
    return !ends && !filter.found() && go_on;
  }
};

}  // namespace

Status check_generate(Session& session, bool has_ids, const GenerateOptions& options) {
  RNL_TRY(check_options(options));
  bool has_text;
  RNL_ASSIGN(tokenizer, tokenizer_of(session.model(), &has_text));
  return NextToken(session, options, has_text ? &tokenizer : nullptr).prepare(has_ids);
}

Status generate(Session& session, const int32_t* ids, size_t count, const GenerateOptions& options, TokenFn token,
                void* context, int64_t* generated) {
  *generated = 0;
  RNL_TRY(check_options(options));
  bool has_text;
  RNL_ASSIGN(tokenizer, tokenizer_of(session.model(), &has_text));
  TextState& state = text_state(session);
  const int64_t start = session.position();
  const bool has_pending = state.has_pending && state.pending_at == start;

  // The pending token goes first. A chat turn begins with the end of the answer before it: it is not fed twice.
  Vec<int32_t> prompt;
  if (has_pending) RNL_TRY(prompt.push(state.pending));
  const size_t first = prompt.size();
  const bool repeated =
      has_pending && count && ids[0] == state.pending && has_text && tokenizer.vocab().ends_turn(state.pending);
  for (size_t i = repeated ? 1 : 0; i < count; ++i) RNL_TRY(prompt.push(ids[i]));
  RNL_CHECK_ARG(prompt.size(), "there is nothing to continue: no ids were given and no token is pending");
  Answer answer(session, options, token, context, has_text ? &tokenizer : nullptr);
  RNL_TRY(answer.filter.prepare());
  RNL_TRY(answer.text.assign(kMaxTokenText));
  answer.is_chat = chat_goes_on(state, start, has_pending, count, options.chat, &answer.mark);
  NextToken next(session, options, answer.tokenizer);
  RNL_TRY(next.prepare(count > 0));

  // Nothing of the text part has changed so far, and nothing does unless something is fed.
  Status end = next.begin(prompt.data(), first, prompt.size());
  if (session.position() != start) {
    state.has_pending = 0;
    if (count || state.decode.pending_count > sizeof state.decode.pending) state.decode = DecodeState{};
    state.decode.at_start = 0;
    if (!answer.is_chat) state.chat.count = 0;
  }
  RNL_TRY(std::move(end));
  state.sampler.seed = options.seed;
  answer.mark.position = session.position();
  if (answer.is_chat) add_mark(state.chat, answer.mark);
  while (options.max_tokens == 0 || *generated < options.max_tokens) {
    const int64_t position = session.position();
    RNL_ASSIGN(id, next.choose());
    if (id == kNoToken) break;
    ++*generated;
    RNL_ASSIGN(goes_on, answer.take(id));
    if (!goes_on || (options.max_tokens && *generated >= options.max_tokens)) break;
    if (options.max_tokens == 0 && position + 1 >= session.plan().options.context) break;
    end = next.feed(&id, 1);
    if (!end.is_ok()) break;
    state.has_pending = 0;
  }
  // What only looked like the beginning of a stop text is text after all.
  if (!answer.filter.found() && answer.filter.held())
    token(context, state.pending, answer.filter.buffer(), answer.filter.held());
  return end;
}

SamplerOptions sampling_of(const rnl_sampling& s) {
  SamplerOptions o;
  o.temperature = s.temperature;
  o.top_k = s.top_k;
  o.top_p = s.top_p == 0 ? 1 : s.top_p;
  o.min_p = s.min_p;
  o.repetition = s.repetition_penalty == 0 ? 1 : s.repetition_penalty;
  o.presence = s.presence_penalty;
  o.frequency = s.frequency_penalty;
  o.penalty_window = s.penalty_window == 0 ? 64 : s.penalty_window;
  static_assert(sizeof(LogitBias) == sizeof(rnl_logit_bias));
  o.bias = reinterpret_cast<const LogitBias*>(s.bias);
  o.bias_count = s.bias_count;
  return o;
}

}  // namespace runnel
