#include "text/chat.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/xxh64.h"
#include "text/chat_program.h"
#include "text/features.h"
#include "text/stream.h"

namespace runnel {
namespace {

using chat::Arena;
using chat::TextBuilder;
using chat::Type;
using chat::Value;

constexpr size_t kMaxMessages = 100000, kMaxRoleBytes = 64;

uint16_t tag_of(size_t message) { return uint16_t(std::min<size_t>(message + 1, chat::kOtherTag - 1)); }

Value text_of(const char* s, uint16_t tag) { return Value::string(s, std::strlen(s), tag); }

// A role may become a part of the template's markup, so it must not hold any.
bool is_role(const char* role) {
  size_t n = 0;
  for (; role[n]; ++n) {
    const char c = role[n];
    const bool good =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == ' ';
    if (!good || n == kMaxRoleBytes) return false;
  }
  return n > 0;
}

// The parts of a message.
struct Parts {
  const ChatPart *begin, *end;
};
Parts parts_of(const Conversation& c, size_t message) {
  const auto of = [](size_t m) { return [m](const ChatPart& p) { return p.message < m; }; };
  const ChatPart* end = c.parts + c.part_count;
  return {std::partition_point(c.parts, end, of(message)), std::partition_point(c.parts, end, of(message + 1))};
}

// Calls fn(text) for each text that a message has.
template <class Fn>
void for_each_text(const Conversation& c, size_t message, Fn fn) {
  if (c.messages[message].content) fn(c.messages[message].content);
  const Parts parts = parts_of(c, message);
  for (const ChatPart* p = parts.begin; p < parts.end; ++p)
    if (p->text) fn(p->text);
}
size_t text_bytes(const Conversation& c, size_t message) {
  size_t bytes = 0;
  for_each_text(c, message, [&](const char* text) { bytes += std::strlen(text); });
  return bytes;
}

Status check(const Conversation& c) {
  RNL_CHECK_ARG(c.messages && c.count > 0 && c.count <= kMaxMessages, "a conversation of %zu messages", c.count);
  for (size_t i = 0; i < c.part_count; ++i) {
    const ChatPart& p = c.parts[i];
    RNL_CHECK_ARG(p.message < c.count && (i == 0 || p.message >= c.parts[i - 1].message),
                  "part %zu: there is no message %zu, or parts of a later one stand before it", i, p.message);
    RNL_CHECK_ARG(p.type && is_role(p.type), "the type of part %zu is not a name", i);
    RNL_CHECK_ARG((std::strcmp(p.type, "text") == 0) == (p.text != nullptr),
                  "part %zu: parts of type text have a text, and no others", i);
    RNL_CHECK_ARG(!c.messages[p.message].content, "message %zu has content and parts", p.message);
  }
  for (size_t i = 0; i < c.count; ++i) {
    const Parts parts = parts_of(c, i);
    RNL_CHECK_ARG(c.messages[i].role && (c.messages[i].content || parts.begin < parts.end),
                  "message %zu has no role or no content", i);
    RNL_CHECK_ARG(is_role(c.messages[i].role), "the role of message %zu is not a name", i);
    RNL_CHECK_ARG(text_bytes(c, i) <= kMaxTextBytes / 8, "message %zu is too long", i);
  }
  for (size_t i = 0; i < c.variable_count; ++i)
    RNL_CHECK_ARG(c.variables && c.variables[i].name, "variable %zu has no name", i);
  return Status::ok();
}

struct Given {
  const Conversation& conversation;
  const ChatTokens& tokens;
  Value messages;
};

// As transformers hands them over.
Value variable(void* context, const char* name, size_t size) {
  const Given& g = *static_cast<const Given*>(context);
  const auto is = [&](const char* s) { return std::strlen(s) == size && std::memcmp(s, name, size) == 0; };
  for (size_t i = 0; i < g.conversation.variable_count; ++i) {
    const ChatVariable& v = g.conversation.variables[i];
    if (is(v.name)) return v.text ? text_of(v.text, chat::kOtherTag) : Value::boolean(v.truth);
  }
  if (is("messages")) return g.messages;
  if (is("add_generation_prompt")) return Value::boolean(g.conversation.opens_answer);
  if (is("tools") || is("documents")) return Value::of(Type::kNone);
  const Value* token = is("bos_token")   ? &g.tokens.bos
                       : is("eos_token") ? &g.tokens.eos
                       : is("unk_token") ? &g.tokens.unk
                                         : nullptr;
  return token && token->size ? *token : Value();
}

// A template may pass over a whole role without a word. Blank messages may vanish.
Status check_roles(const Conversation& c, const TextBuilder& out) {
  Vec<uint8_t> seen;
  RNL_TRY(seen.assign(size_t(chat::kOtherTag) + 1));
  for (size_t i = 0; i < out.size(); ++i) seen[out.tags()[i]] = 1;
  for (size_t i = 0; i < c.count; ++i) {
    const char* role = c.messages[i].role;
    bool shown = false, earlier = false;
    for (size_t k = 0; k < c.count && !shown && !earlier; ++k) {
      if (std::strcmp(c.messages[k].role, role) != 0) continue;
      earlier = k < i;
      bool is_blank = true;
      for_each_text(c, k, [&](const char* text) { is_blank = is_blank && text[std::strspn(text, " \t\r\n")] == 0; });
      shown = seen[tag_of(k)] || is_blank;
    }
    if (!shown && !earlier)
      return Status::make(Code::kUnsupported, "the chat template leaves out messages of the role \"%s\"", role);
  }
  return Status::ok();
}

// Files written before there were chat programs hold the texts around each turn.
Status render_turns(const format::ChatFormat& f, const Conversation& c, TextBuilder* out) {
  if (c.part_count) return Status::make(Code::kUnsupported, "the model's chat format knows no parts of messages");
  const auto put = [&](const flatbuffers::String* s) {
    return s ? out->add(s->c_str(), s->size(), chat::kTemplateTag) : Status::ok();
  };
  Value system = Value::string("", 0);
  const auto put_system = [&] {
    if (system.size == 0) return Status::ok();
    RNL_TRY(put(f.system_prefix()));
    RNL_TRY(out->add(system));
    system.size = 0;
    return put(f.system_suffix());
  };
  for (size_t i = 0; i < c.count; ++i) {
    const char* role = c.messages[i].role;
    const Value content = text_of(c.messages[i].content, tag_of(i));
    if (std::strcmp(role, "system") == 0) {
      RNL_CHECK_ARG(i == 0, "message %zu is a system message; this model takes one at the start alone", i);
      if (!f.system_in_first_user() && !f.system_prefix())
        return Status::make(Code::kUnsupported, "the model's chat format has no system message");
      system = content;
      if (!f.system_in_first_user()) RNL_TRY(put_system());
    } else if (std::strcmp(role, "user") == 0) {
      RNL_TRY(put(f.user_prefix()));
      RNL_TRY(put_system());
      RNL_TRY(out->add(content));
      RNL_TRY(put(f.user_suffix()));
    } else if (std::strcmp(role, "assistant") == 0) {
      RNL_TRY(put(f.model_prefix()));
      RNL_TRY(out->add(content));
      RNL_TRY(put(f.model_suffix()));
    } else {
      return Status::make(Code::kUnsupported, "the model's chat format has no messages of the role \"%s\"", role);
    }
  }
  return c.opens_answer ? put(f.model_prefix()) : Status::ok();
}

// Ids of text[begin ..), those that the whole text has there. Where a token reaches across, those of the rest by
// itself.
Status ids_from(const Model& model, const TextBuilder& text, size_t begin, Vec<int32_t>* ids) {
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(model));
  EncodeScratch scratch;
  EncodeOptions o;
  // Programs write bos themselves.
  o.bos = model.root().chat_program() ? EncodeOptions::Add::kNo : EncodeOptions::Add::kModelDefault;
  o.eos = EncodeOptions::Add::kNo;
  const auto encode = [&](const Tokenizer& t, size_t from, size_t to, Vec<int32_t>* out) {
    Vec<TextPart> parts;
    for (size_t at = from; at < to;) {
      size_t end = at;
      const bool is_template = text.tags()[at] == chat::kTemplateTag;
      while (end < to && (text.tags()[end] == chat::kTemplateTag) == is_template) ++end;
      RNL_TRY(parts.push({text.data() + at, end - at, is_template}));
      at = end;
    }
    return t.encode_parts(parts.data(), parts.size(), o, &scratch, out);
  };
  Vec<int32_t> all, held;
  RNL_TRY(encode(tokenizer, 0, text.size(), &all));
  if (begin) RNL_TRY(encode(tokenizer, 0, begin, &held));
  if (held.size() <= all.size() && std::equal(held.begin(), held.end(), all.begin()))
    return ids->append(all.data() + held.size(), all.size() - held.size());
  o.bos = EncodeOptions::Add::kNo;
  Vocab within = tokenizer.vocab();
  within.add_space_prefix = false;
  return encode(Tokenizer(within), begin, text.size(), ids);
}

// Where the template has written the placeholder of each of the features, and a hash of these.
struct FeaturePlace {
  size_t end;  // of the placeholder, in bytes of the text
  uint64_t hash;
};
Status find_places(const Model& model, const Conversation& c, const TextBuilder& text, Vec<FeaturePlace>* places) {
  if (c.feature_count == 0) return Status::ok();
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(model));
  size_t at = 0;
  for (size_t k = 0; k < c.feature_count; ++k) {
    const rnl_features& f = c.features[k];
    const PieceView piece = tokenizer.vocab().piece(f.placeholder);
    const auto stands_at = [&](size_t from) {
      if (std::memcmp(text.data() + from, piece.data, piece.size) != 0) return false;
      const uint16_t* tags = text.tags() + from;
      return std::all_of(tags, tags + piece.size, [](uint16_t tag) { return tag == chat::kTemplateTag; });
    };
    while (piece.size && at + piece.size <= text.size() && !stands_at(at)) ++at;
    if (piece.size == 0 || at + piece.size > text.size())
      return Status::make(Code::kUnsupported,
                          "the chat template does not write the placeholder %d of features %zu, behind those before it",
                          int(f.placeholder), k);
    at += piece.size;
    RNL_CHECK_ARG(f.rows && f.count <= size_t(kMaxSize) && f.width <= size_t(kMaxSize) / (f.count + 1),
                  "features %zu have no rows", k);
    Xxh64 hash;
    hash.update(&f.width, sizeof f.width);
    hash.update(f.rows, f.count * f.width * sizeof(float));
    if (f.positions) hash.update(f.positions, f.count * (f.axes > 1 ? f.axes : 1) * sizeof(int32_t));
    RNL_TRY(places->push({at, hash.digest()}));
  }
  return Status::ok();
}

// Hashes text[0 .. size), with the features in it, at rising sizes.
struct TextHash {
  const TextBuilder& text;
  const Vec<FeaturePlace>& places;
  size_t at = 0, features = 0;  // of those, how many
  uint64_t value = kTextHashSeed;
  uint64_t upto(size_t size) {
    while (at < size) {
      value = hash_byte(value, uint8_t(text.data()[at]), text.tags()[at] == chat::kTemplateTag);
      ++at;
      if (features < places.size() && places[features].end == at)
        value = (value ^ places[features++].hash) * 0x100000001B3ull;
    }
    return value;
  }
};

Status make_dict(const char* key, const Value& value, const char* key2, const Value& value2, Arena* arena, Value* out) {
  RNL_ASSIGN(pairs, arena->take_array<Value>(4));
  pairs[0] = text_of(key, chat::kTemplateTag);
  pairs[1] = value;
  pairs[2] = text_of(key2, chat::kTemplateTag);
  pairs[3] = value2;
  *out = Value::list(pairs, value2.is(Type::kUndefined) ? 1 : 2);
  out->type = Type::kDict;
  return Status::ok();
}

// As transformers hands them over: each part is a mapping of its type and its text.
Status list_parts(const Parts& parts, uint16_t tag, Arena* arena, Value* out) {
  const size_t count = size_t(parts.end - parts.begin);
  RNL_ASSIGN(items, arena->take_array<Value>(count));
  for (size_t i = 0; i < count; ++i) {
    const ChatPart& p = parts.begin[i];
    const Value text = p.text ? text_of(p.text, tag) : Value();
    RNL_TRY(make_dict("type", text_of(p.type, chat::kTemplateTag), "text", text, arena, &items[i]));
  }
  *out = Value::list(items, count);
  return Status::ok();
}

}  // namespace

Status render_chat(const format::ChatProgram& program, const ChatTokens& tokens, const Conversation& c,
                   TextBuilder* out) {
  RNL_TRY(check(c));
  size_t bytes = 4096;
  for (size_t i = 0; i < c.count; ++i) bytes += text_bytes(c, i) + 256;
  Arena arena(bytes + 256 * c.part_count);
  RNL_ASSIGN(list, arena.take_array<Value>(c.count));
  for (size_t i = 0; i < c.count; ++i) {
    Value content;
    if (c.messages[i].content) content = text_of(c.messages[i].content, tag_of(i));
    else RNL_TRY(list_parts(parts_of(c, i), tag_of(i), &arena, &content));
    RNL_TRY(make_dict("role", text_of(c.messages[i].role, chat::kTemplateTag), "content", content, &arena, &list[i]));
  }
  Given given{c, tokens, Value::list(list, c.count)};
  RNL_TRY(chat::run_program(program, variable, &given, c.now, &arena, out));
  return check_roles(c, *out);
}

Status render_chat(const Model& model, const Conversation& c, TextBuilder* out) {
  const format::ChatProgram* program = model.root().chat_program();
  if (!program && !model.root().chat()) return Status::make(Code::kUnsupported, "the model has no chat format");
  if (!program) {
    RNL_TRY(check(c));
    return render_turns(*model.root().chat(), c, out);
  }
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(model));
  const Vocab& v = tokenizer.vocab();
  const auto token = [&](int32_t id) {
    const PieceView p = v.piece(id);
    return Value::string(reinterpret_cast<const char*>(p.data), p.size);
  };
  return render_chat(*program, {token(v.bos), token(v.eos), token(v.unk)}, c, out);
}

Status chat_ids(const Model& model, const Conversation& c, Vec<int32_t>* ids) {
  TextBuilder text;
  RNL_TRY(render_chat(model, c, &text));
  return ids_from(model, text, 0, ids);
}

Status chat_turn(const Model& model, const char* system, const char* user, bool first, Vec<int32_t>* ids) {
  // A later turn is what stands behind an answer; which one it was does not matter.
  const ChatMessage start[] = {{"system", system}, {"user", user}},
                    later[] = {{"user", "-"}, {"assistant", "-"}, {"user", user}};
  const bool with_system = system && *system;
  Conversation c;
  c.messages = first ? start + !with_system : later;
  c.count = first ? 1 + with_system : 3;
  TextBuilder text;
  RNL_TRY(render_chat(model, c, &text));
  size_t begin = first ? 0 : text.size();
  while (!first && begin > 0 && text.tags()[begin - 1] != tag_of(1)) --begin;
  if (!first && begin == 0)
    return Status::make(Code::kUnsupported, "the model's chat format leaves out earlier answers");
  return ids_from(model, text, begin, ids);
}

Status answer_chat(Session& session, const Conversation& c, const GenerateOptions& options, TokenFn token,
                   void* context, ChatProgress* progress) {
  *progress = {};
  TextBuilder text;
  RNL_TRY(render_chat(session.model(), c, &text));
  TextState& state = text_state(session);
  ChatState& held = state.chat;
  held.count = std::min(held.count, kMaxChatMarks);
  const int64_t position = session.position();
  const bool has_pending = state.has_pending && state.pending_at == position;

  // The newest mark of the stream whose text this conversation begins with, and that can be gone back to.
  Vec<FeaturePlace> places;
  RNL_TRY(find_places(session.model(), c, text, &places));
  TextHash hash{text, places};
  const ChatMark* base = nullptr;
  size_t held_features = 0;
  for (uint32_t i = 0; i < held.count; ++i) {
    const ChatMark& m = held.marks[i];
    if (m.bytes >= text.size() || m.bytes < hash.at || hash.upto(m.bytes) != m.hash) break;
    const bool is_pending = m.position == position + 1;
    if (is_pending
            ? has_pending
            : m.position <= position && session.check_rollback(position - m.position, Session::Reach::kStates).is_ok())
      base = &m, held_features = hash.features;
  }
  const int64_t kept = base ? std::min(base->position, position) : 0;
  Vec<int32_t> ids;
  RNL_TRY(ids_from(session.model(), text, base ? size_t(base->bytes) : 0, &ids));
  RNL_CHECK_ARG(ids.size(), "the conversation has no text");
  GenerateOptions o = options;
  const ChatMark prompt{0, text.size(), hash.upto(text.size())};
  o.chat = &prompt;
  const bool feeds_pending = has_pending && base && base->position > kept;
  const Features parts(c.features + held_features, c.feature_count - held_features);
  if (c.feature_count > held_features) o.parts = &parts;
  int64_t fed = int64_t(ids.size()) + (feeds_pending ? 1 : 0);
  for (size_t k = held_features; k < c.feature_count; ++k) fed += int64_t(c.features[k].count) - 1;
  // Whatever can be refused is refused before the stream is taken back.
  RNL_TRY(check_generate(session, true, o));
  Status taken = parts.check(session, ids.data(), 0, ids.size());
  if (!taken.is_ok() && taken.code() != Code::kContextFull) return taken;  // the stream may become shorter
  if (session.plan().is_limited && fed > session.plan().options.context - kept)
    return Status::make(Code::kContextFull, "the conversation has %lld tokens; the context is %lld",
                        static_cast<long long>(kept + fed), static_cast<long long>(session.plan().options.context));

  const uint32_t marks = base ? uint32_t(base - held.marks) + 1 : 0;
  if (base && kept < position) RNL_TRY(rollback_stream(session, position - kept, Session::Reach::kStates));
  if (!base && position > 0) session.reset();
  if (!feeds_pending) state.has_pending = 0;  // the conversation goes on in another way
  held.count = marks;
  progress->kept = kept;
  progress->dropped = position - kept;
  progress->fed = fed;
  if (progress->dropped > 0)
    log(LogLevel::kInfo, "chat: the conversation goes on from token %lld of the stream's %lld; the rest is fed again",
        static_cast<long long>(kept), static_cast<long long>(position));
  return generate(session, ids.data(), ids.size(), o, token, context, &progress->generated);
}

}  // namespace runnel
