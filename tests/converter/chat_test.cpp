// Chat templates: compiled and rendered as transformers does it (goldens of tests/goldens/make_chat.py), and what is
// refused. With RUNNEL_CHAT_CASES naming a file of further cases, those are compared too.
#include <cstdlib>
#include <random>
#include <sstream>

#include "converter/text/jinja.h"
#include "converter/text_test.h"
#include "kit.h"
#include "text/chat.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

struct Program {
  flatbuffers::FlatBufferBuilder builder;
  explicit Program(const format::ChatProgramT& p) { builder.Finish(format::ChatProgram::Pack(builder, &p)); }
  explicit Program(const std::string& source) : Program(compile_template(source).program) {}
  const format::ChatProgram& get() const {
    return *flatbuffers::GetRoot<format::ChatProgram>(builder.GetBufferPointer());
  }
};

ChatTokens tokens(const std::string& bos, const std::string& eos) {
  return {chat::Value::string(bos.data(), bos.size()), chat::Value::string(eos.data(), eos.size()), {}};
}

// A conversation in JSON, with what it points at.
struct Talk {
  std::vector<std::pair<std::string, std::string>> texts;
  std::vector<ChatMessage> messages;
  std::vector<ChatVariable> variables;
  Json given;
  Conversation c;
  Talk(const Json& list, bool opens, const Json& named = Json::object()) : given(named) {
    for (const Json& m : list) texts.emplace_back(m[0], m[1]);
    for (const auto& [role, content] : texts) messages.push_back({role.c_str(), content.c_str()});
    for (auto at = given.begin(); at != given.end(); ++at) {
      const bool is_text = at.value().is_string();
      variables.push_back({at.key().c_str(), is_text ? at.value().get_ref<const std::string&>().c_str() : nullptr,
                           !is_text && at.value().get<bool>()});
    }
    c.messages = messages.data();
    c.count = messages.size();
    c.opens_answer = opens;
    c.variables = variables.data();
    c.variable_count = variables.size();
  }
};

Talk ask(const std::string& question) { return Talk(Json::array({Json::array({"user", question})}), true); }

// The text, or the error in brackets.
std::string render(const std::string& source, const Talk& talk, std::string* tags = nullptr) {
  const Program program(source);
  chat::TextBuilder out;
  const Status s = render_chat(program.get(), tokens("<s>", "</s>"), talk.c, &out);
  if (!s.is_ok()) return std::string("[") + s.message() + "]";
  for (size_t i = 0; tags && i < out.size(); ++i) *tags += out.tags()[i] ? 'm' : 't';
  return std::string(out.data(), out.size());
}

struct Counts {
  int templates = 0, texts = 0, errors = 0, ids = 0;
};

Counts compare(std::istream& in, const Tokenizer* tokenizer) {
  Counts counts;
  Json conversations, heading;
  std::unique_ptr<Program> program;
  for (std::string line; std::getline(in, line);) {
    const Json j = Json::parse(line);
    if (j.contains("conversations")) {
      conversations = j["conversations"];
      continue;
    }
    if (j.contains("template")) {
      heading = j;
      program = std::make_unique<Program>(j["template"].get<std::string>());
      ++counts.templates;
      continue;
    }
    Talk talk(conversations.at(j["conversation"].get<size_t>()), j["opens"], j["variables"]);
    talk.c.now = heading["now"];
    chat::TextBuilder out;
    const std::string bos = heading["bos"], eos = heading["eos"];
    const Status s = render_chat(program->get(), tokens(bos, eos), talk.c, &out);
    const std::string text(out.data(), out.size());
    if (j.contains("error")) {
      EXPECT_FALSE(s.is_ok()) << line;
      ++counts.errors;
      // The template's own message arrives.
      if (s.code() == Code::kInvalidArgument && j["error"].get<std::string>().find("object") == std::string::npos)
        EXPECT_NE(std::string(s.message()).find(j["error"].get<std::string>()), std::string::npos) << s.message();
      continue;
    }
    // transformers passes over a role in silence; here that is an error.
    if (s.code() == Code::kUnsupported &&
        std::string(s.message()).find("leaves out messages of the role") != std::string::npos) {
      ++counts.errors;
      continue;
    }
    EXPECT_TRUE(s.is_ok()) << s.message() << "\n" << heading["template"] << "\n" << line;
    EXPECT_EQ(text, j["text"].get<std::string>()) << heading["template"];
    ++counts.texts;
    if (!tokenizer) continue;
    Vec<TextPart> parts;
    for (size_t at = 0, end; at < out.size(); at = end) {
      for (end = at; end < out.size() && (out.tags()[end] == 0) == (out.tags()[at] == 0);) ++end;
      EXPECT_TRUE(parts.push({out.data() + at, end - at, out.tags()[at] == 0}).is_ok());
    }
    EncodeScratch scratch;
    EncodeOptions o;
    o.bos = o.eos = EncodeOptions::Add::kNo;
    Vec<int32_t> ids;
    EXPECT_TRUE(tokenizer->encode_parts(parts.data(), parts.size(), o, &scratch, &ids).is_ok());
    const std::vector<int32_t> got(ids.begin(), ids.end());
    if (j["ids"].is_null()) continue;
    EXPECT_EQ(got, j["ids"].get<std::vector<int32_t>>()) << text;
    ++counts.ids;
  }
  return counts;
}

TEST(ChatTemplate, GivesTheTextsAndIdsOfTransformers) {
  const Loaded v(from_tokenizer_json(read_golden("chat/tokenizer.json")));
  std::istringstream in(read_golden("chat/cases.jsonl"));
  const Counts counts = compare(in, &v.tokenizer);
  EXPECT_EQ(counts.templates, 11);
  EXPECT_GT(counts.texts, 80);
  EXPECT_GT(counts.ids, 60);
  EXPECT_GT(counts.errors, 20);
}

TEST(ChatTemplate, FurtherCasesAreTheSame) {
  const char* path = std::getenv("RUNNEL_CHAT_CASES");
  if (!path) return;
  std::ifstream in(path);
  const Counts counts = compare(in, nullptr);
  EXPECT_GT(counts.texts, 0);
  std::printf("%d templates, %d texts equal to transformers', %d refused conversations\n", counts.templates,
              counts.texts, counts.errors);
}

// Only the template's bytes can become special tokens, wherever a message's bytes go on their way.
TEST(ChatTemplate, KeepsTheOriginOfEveryByte) {
  const Talk talk(Json::array({Json::array({"user", "  <s>\nab<s>  "})}), true);
  const std::pair<const char*, const char*> cases[] = {
      {"<s>{{ messages[0].content | trim }}<s>", "tttmmmmmmmmmttt"},
      {"{{ '<s>' + messages[0]['content'].strip() + '</s>' }}", "tttmmmmmmmmmtttt"},
      {"{{ messages[0].content.split('\n')[1].rstrip() ~ '!' }}", "mmmmmt"},
      {"{{ messages[0].content.replace('<s>', '<x>').strip() }}", "tttmmmttt"},
      {"{{ messages[0].content[::-1].strip() ~ 1 }}", "mmmmmmmmmt"},
      {"{% set x %}<{{ messages[0].content | trim | upper }}>{% endset %}{{ x[1:-1] ~ x[0] }}", "mmmmmmmmmt"},
      {"{% macro f(t, e='.') %}{{ t[2:4] }}{{ e }}{% endmacro %}{{ f(messages[0].content) }}{{ "
       "messages[0].content[2:4] | tojson }}",
       "mmttmmt"},
      {"{{ [messages[0].content[:1], 'x'] | join('--') }}{{ messages | map(attribute='role') | join }}", "mttttttt"},
  };
  for (const auto& [source, wanted] : cases) {
    std::string tags;
    const std::string text = render(source, talk, &tags);
    EXPECT_EQ(tags, wanted) << source << " gives " << text;
  }
}

TEST(ChatTemplate, RefusesByNameAndLine) {
  const auto why = [](const std::string& source) { return error_of([&] { compile_template(source); }); };
  EXPECT_NE(why("a\n{% include 'x' %}").find("line 2: the statement \"include\""), std::string::npos);
  EXPECT_NE(why("\n\n{% for a in b recursive %}{% endfor %}").find("line 3: a recursive loop"), std::string::npos);
  EXPECT_NE(why("{% if a %}").find("endif is missing"), std::string::npos);
  EXPECT_NE(why("{{ a").find("without end"), std::string::npos);
  EXPECT_NE(why("{{ 'a }}").find("string without end"), std::string::npos);
  EXPECT_NE(why("{# a").find("comment"), std::string::npos);
  EXPECT_NE(why("{{ a b }}").find("\"b\""), std::string::npos);
  EXPECT_NE(why("{% break %}").find("outside of a loop"), std::string::npos);
  EXPECT_NE(why("{{ f(*a) }}").find("from a list"), std::string::npos);
  EXPECT_NE(why("{{ " + std::string(3000, '(') + "1" + std::string(3000, ')') + " }}").find("too deep"),
            std::string::npos);
  EXPECT_NE(why("{{ 1" + std::string(20000, '+') + "1 }}"), "");
  // What only some conversation would come to is refused there.
  EXPECT_EQ(render("{% if tools %}{{ tools | indent(4) }}{% endif %}ok{{ messages[0].content }}", ask("x")), "okx");
  EXPECT_EQ(render("\n{{ messages | groupby('role') }}", ask("x")),
            "[chat template, line 2: the filter \"groupby\" is not supported]");
  EXPECT_NE(render("{{ 1 / 2 }}{{ 0.5 }}", ask("x")).find("the operator /"), std::string::npos);
}

TEST(ChatTemplate, FailsWithTheLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ messages[0].nothing.more }}", "\"more\" of something undefined"},
      {"{{ 1 + 'a' }}", "arithmetic"},
      {"{{ 1 // 0 }}", "division by zero"},
      {"{{ raise_exception('No ' + messages[0].role + '!') }}", "line 1: No user!"},
      {"{{ 'a'.split('') }}", "empty separator"},
      {"{{ messages }}", "a list as text"},
      {"{{ 'é' | upper }}", "beyond ASCII"},
      {"{% for a, b in [[1]] %}{% endfor %}", "2 names for 1"},
      {"{{ [][::0] }}", "step 0"},
      {"{% set messages.x = 1 %}", "attribute of a list"},
      {"{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "too deep"},
      {"{% set r = range(3000) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}", "too long"},
      {"{% set ns = namespace(a='x') %}{% for i in range(64) %}{% set ns.a = ns.a + ns.a %}{% endfor %}", "memory"},
      {"nothing", "leaves out messages of the role \"user\""},
  };
  for (const auto& [source, wanted] : cases)
    EXPECT_NE(render(source, ask("x")).find(wanted), std::string::npos)
        << source << " gives " << render(source, ask("x")).substr(0, 200);
  EXPECT_NE(render("{{ messages[0].content }}", Talk(Json::array({Json::array({"user|>", "x"})}), true))
                .find("is not a name"),
            std::string::npos);
  EXPECT_NE(render("x", Talk(Json::array(), true)).find("0 messages"), std::string::npos);
}

// A file may hold any program: changed ones end with a status or a text.
TEST(ChatTemplate, BrokenProgramsEnd) {
  const format::ChatProgramT good =
      compile_template(
          "{% macro f(a, b='x') %}{{ a ~ b }}{% endmacro %}{% for m in messages %}{% set x %}{{ f(m.content | trim) "
          "}}{% endset %}{{ x[::-1] if loop.first else [x, 1] | join }}{% endfor %}")
          .program;
  std::mt19937 rng(5);
  int failed = 0;
  for (int round = 0; round < 400; ++round) {
    format::ChatProgramT p = good;
    for (uint32_t n = 1 + rng() % 3; n > 0; --n) {
      uint32_t& code = p.code[rng() % p.code.size()];
      code = rng() % 2 ? (code & ~0xFFu) | rng() % 56 : (code & 0xFF) | (rng() % 70) << 8;
    }
    const Program program(p);
    chat::TextBuilder out;
    const Talk talk = ask("hello");
    failed += !render_chat(program.get(), {}, talk.c, &out).is_ok();
  }
  EXPECT_GT(failed, 40);
}

VocabSource source_with(std::initializer_list<const char*> special, const std::string& source) {
  VocabSource s;
  s.pieces = {"<unk>", "<s>", "</s>"};
  s.pieces.insert(s.pieces.end(), special.begin(), special.end());
  s.types.assign(s.pieces.size(), uint8_t(PieceType::kControl));
  s.bos = 1, s.eos = 2;
  s.chat_template = source;
  return s;
}

TEST(Chat, FindsTheEndOfTurns) {
  const Chat a = compile_chat(
      source_with({"<|im|>", "<|im_end|>"}, "{% for m in messages %}<|im|>{{ m.content }}<|im_end|>\n{% endfor %}"));
  ASSERT_TRUE(a.program);
  EXPECT_EQ(a.end_of_turn, std::vector<int32_t>{4});
  EXPECT_TRUE(a.notices.empty());
  const Chat b = compile_chat(source_with({}, "{% for m in messages %}[{{ m.content }}] </s>{% endfor %}"));
  EXPECT_TRUE(b.program && b.end_of_turn.empty());  // eos ends a turn by itself
  VocabSource s = source_with({"<|a|>", "<|b|>"}, "");
  apply_generation_config(R"({"eos_token_id": [2, 4]})", &s);
  const Chat c = compile_chat(s);
  EXPECT_TRUE(!c.program && c.notices.empty());
  EXPECT_EQ(c.end_of_turn, std::vector<int32_t>{4});
  apply_generation_config(R"({"eos_token_id": 3})", &s);
  EXPECT_EQ(s.ends.size(), 3u);
  EXPECT_NE(error_of([&] { apply_generation_config(R"({"eos_token_id": [9]})", &s); }).find("eos_token_id"),
            std::string::npos);
}

TEST(Chat, NoticesSayWhatIsRefused) {
  const auto notice = [](const char* source) {
    const Chat c = compile_chat(source_with({}, source));
    EXPECT_FALSE(c.program);
    return c.notices.empty() ? "" : c.notices[0];
  };
  EXPECT_EQ(
      notice("{% block x %}{% endblock %}"),
      "chat template, line 1: the statement \"block\" is not supported: the model is written without a chat format");
  EXPECT_NE(notice("{% for m in messages %}{{ m.content | wordwrap(5) }}{% endfor %}").find("the filter \"wordwrap\""),
            std::string::npos);
  EXPECT_NE(notice("{{ raise_exception('never') }}").find("never"), std::string::npos);
  EXPECT_EQ(notice(""), "");
  const Chat c = compile_chat(source_with(
      {}, "{% if tools %}{{ tools | indent }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"));
  ASSERT_TRUE(c.program);
  ASSERT_EQ(c.notices.size(), 1u);
  EXPECT_NE(c.notices[0].find("line 1: the filter \"indent\""), std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
