// From a chat template to the program in the file, with the ids that end an answer.
#include "text/chat.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "converter/read/json_text.h"
#include "converter/text/jinja.h"
#include "converter/text/vocabulary.h"
#include "text/chat_program.h"

namespace runnel::convert {
namespace {

constexpr const char* kRefused = " is not supported";

// RWKV's conversion to GGUF names its format instead of writing a template.
constexpr const char* kRwkvWorld =
    "{% for m in messages %}{% if m.role == 'system' %}System: {% elif m.role == 'user' %}User: "
    "{% elif m.role == 'assistant' %}Assistant:{{ ' ' if not m.content.startswith(' ') }}{% else %}{{ "
    "raise_exception('messages are of system, user and assistant') }}{% endif %}"
    "{{ m.content }}{{ '\\n\\n' }}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}";

struct Packed {
  flatbuffers::FlatBufferBuilder builder;
  explicit Packed(const format::ChatProgramT& program) { builder.Finish(format::ChatProgram::Pack(builder, &program)); }
  const format::ChatProgram& get() const {
    return *flatbuffers::GetRoot<format::ChatProgram>(builder.GetBufferPointer());
  }
};

// What the template writes behind the answer of a conversation; empty when it leaves the answer out.
std::string behind_answer(const format::ChatProgram& program, const ChatTokens& tokens) {
  const ChatMessage messages[] = {{"user", "question"}, {"assistant", "answer"}};
  Conversation c;
  c.messages = messages;
  c.count = 2;
  c.opens_answer = false;
  chat::TextBuilder text;
  if (!render_chat(program, tokens, c, &text).is_ok()) return "";
  size_t at = text.size();
  while (at > 0 && text.tags()[at - 1] != 2) --at;
  return at == 0 ? "" : std::string(text.data() + at, text.size() - at);
}

// The token that a text begins with: a special one, or for RWKV the empty line. -1: text like any other.
int32_t first_token(const VocabSource& s, const std::string& text) {
  const size_t begin =
      std::min(text.find_first_not_of(s.kind == TokenizerKind::kLongestMatch ? "" : " \t\r\n"), text.size());
  int32_t best = -1;
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const PieceType type = PieceType(s.types[i]);
    const std::string& p = s.pieces[i];
    const bool is_special = type == PieceType::kControl || (type == PieceType::kUserDefined && p.size() > 2) ||
                            (s.kind == TokenizerKind::kLongestMatch && p == "\n\n");
    if (is_special && !p.empty() && text.compare(begin, p.size(), p) == 0 &&
        (best < 0 || p.size() > s.pieces[size_t(best)].size()))
      best = int32_t(i);
  }
  return best;
}

// Conversations as people have them. Fails when the first of them, a lone question, does not come through, or when any
// gets to something that could not be compiled.
void try_conversations(const format::ChatProgram& program, const ChatTokens& tokens) {
  const ChatMessage messages[] = {{"system", "Be brief."},
                                  {"user", "Hello"},
                                  {"assistant", "Hi."},
                                  {"user", "How are you?"},
                                  {"assistant", "Well."}};
  struct Part {
    size_t begin, count;
  };
  for (const auto [begin, count] : {Part{1, 1}, Part{0, 2}, Part{1, 2}, Part{1, 3}, Part{0, 4}, Part{0, 5}}) {
    Conversation c;
    c.messages = messages + begin;
    c.count = count;
    c.opens_answer = count % 2 == (begin == 1);
    chat::TextBuilder text;
    const Status s = render_chat(program, tokens, c, &text);
    const bool is_beyond =
        s.code() == Code::kUnsupported && std::string(s.message()).find(kRefused) != std::string::npos;
    if (is_beyond || (!s.is_ok() && count == 1)) throw std::runtime_error(s.message());
  }
}

}  // namespace

Chat compile_chat(const VocabSource& s) {
  Chat chat;
  const auto add_end = [&](int32_t id) {
    if (id >= 0 && id != s.eos &&
        std::find(chat.end_of_turn.begin(), chat.end_of_turn.end(), id) == chat.end_of_turn.end())
      chat.end_of_turn.push_back(id);
  };
  for (const int32_t id : s.ends) add_end(id);
  if (s.chat_template.empty()) return chat;
  try {
    const bool is_named = s.chat_template == "rwkv-world";
    CompiledTemplate compiled = compile_template(is_named ? kRwkvWorld : s.chat_template);
    const Packed packed(compiled.program);
    const auto token = [&](int32_t id) {
      return id < 0 || size_t(id) >= s.pieces.size()
                 ? chat::Value()
                 : chat::Value::string(s.pieces[size_t(id)].data(), s.pieces[size_t(id)].size());
    };
    const ChatTokens tokens{token(s.bos), token(s.eos), token(s.unk)};
    try_conversations(packed.get(), tokens);
    add_end(first_token(s, behind_answer(packed.get(), tokens)));
    chat.program = std::make_unique<format::ChatProgramT>(std::move(compiled.program));
    std::string all;
    for (const std::string& b : compiled.beyond) all += (all.empty() ? "" : "; ") + b;
    if (!all.empty())
      chat.notices.push_back(
          "the chat template has parts that are not supported, conversations that come to them are refused: " + all);
  } catch (const std::runtime_error& e) {
    const std::string what = e.what();
    chat.notices.push_back((what.compare(0, 5, "chat ") == 0 ? what : "chat template, " + what) +
                           ": the model is written without a chat format");
  }
  return chat;
}

void apply_generation_config(std::string_view text, VocabSource* s) {
  const auto root = parse_json(text, "generation_config.json");
  if (!root.is_object()) throw std::runtime_error("generation_config.json: not a JSON object");
  const auto at = root.find("eos_token_id");
  if (at == root.end() || at->is_null()) return;
  for (const auto& id : at->is_array() ? *at : nlohmann::json::array({*at})) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= int64_t(s->pieces.size()))
      throw std::runtime_error("generation_config.json: eos_token_id holds " + id.dump());
    s->ends.push_back(id.get<int32_t>());
  }
}

}  // namespace runnel::convert
