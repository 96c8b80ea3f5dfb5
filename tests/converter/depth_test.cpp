// Every parser of text has a depth that it states. At it things work, beyond it there is an error that names it, and
// what is long without being deep takes its time and no more stack. All of it on a thread with the stack that musl
// gives one.
#include <flatbuffers/flatbuffers.h>
#include <pthread.h>

#include <chrono>
#include <functional>

#include "converter/read/read.h"
#include "converter/recipes/graph_json.h"
#include "converter/text/jinja.h"
#include "converter/text/regex.h"
#include "converter/text_test.h"
#include "format/expr.h"
#include "kit.h"
#include "text/chat_program.h"
#include "text/grammar.h"
#include "text/grammar_syntax.h"

namespace runnel::convert {
namespace {

constexpr int kMany = 60000;

std::string repeated(const std::string& s, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += s;
  return out;
}

// Runs it on a thread of `stack` bytes and says how many seconds it took.
double on_stack(size_t stack, const std::function<void()>& what) {
  const auto begin = std::chrono::steady_clock::now();
  pthread_attr_t attributes;
  pthread_t thread;
  EXPECT_EQ(pthread_attr_init(&attributes), 0);
  EXPECT_EQ(pthread_attr_setstacksize(&attributes, stack), 0);
  const auto call = [](void* f) -> void* { return (*static_cast<const std::function<void()>*>(f))(), nullptr; };
  EXPECT_EQ(pthread_create(&thread, &attributes, call, const_cast<std::function<void()>*>(&what)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// What the runtime parses must do with the stack of musl's threads, what the converter parses with that of a small
// thread here. Sanitizers make frames several times as large.
constexpr size_t kRuntimeStack = test::kIsSlow ? 1 << 20 : 128 << 10,
                 kConverterStack = test::kIsSlow ? 8 << 20 : 2 << 20;
constexpr double kSeconds = test::kIsSlow ? 100 : 10;  // for what is linear; a busy machine may take its time

const TokenOrder& order() {
  static const Loaded vocabulary(from_spm_proto(read_golden("spm_small.model")));
  static const TokenOrder* made = [] {
    auto* o = new TokenOrder;
    EXPECT_TRUE(TokenOrder::build(vocabulary.tokenizer, o).is_ok());
    return o;
  }();
  return *made;
}

// "": it compiles.
std::string grammar_error(const std::string& text) {
  order();
  std::string error;
  const double seconds = on_stack(kRuntimeStack, [&] {
    auto g = Grammar::create(order(), text.data(), text.size());
    if (!g.is_ok()) error = g.take_status().message();
  });
  EXPECT_LT(seconds, kSeconds) << text.substr(0, 60);
  return error;
}

#define EXPECT_NAMES(error, part) EXPECT_NE((error).find(part), std::string::npos) << (error).substr(0, 300)

TEST(Depth, GroupsAndRepeatsOfAGrammar) {
  const auto groups = [](int n) { return grammar_error("root ::= " + repeated("(", n) + "\"a\"" + repeated(")", n)); };
  EXPECT_EQ(groups(kMaxGrammarNesting), "");
  EXPECT_NAMES(groups(kMaxGrammarNesting + 1), "nested more than 100 deep");
  EXPECT_NAMES(groups(kMany), "nested more than 100 deep");
  const auto alternatives = [](int n) {
    return grammar_error("root ::= " + repeated("(\"x\" | \"y\"? ", n) + "\"a\"" + repeated(")?", n));
  };
  EXPECT_EQ(alternatives(int(kMaxGrammarHeight) / 3 - 10), "");  // each is a group, a choice and a repeat
  EXPECT_NAMES(alternatives(kMany), "nested more than 100 deep");
  for (const char* repeat : {"?", "*", "{1}", "{0,1}", "{0}", " ?"}) {
    EXPECT_EQ(grammar_error("root ::= \"b\" \"a\"" + repeated(repeat, int(kMaxGrammarHeight) - 10)), "") << repeat;
    EXPECT_NAMES(grammar_error("root ::= \"b\" \"a\"" + repeated(repeat, int(kMaxGrammarHeight) + 1)),
                 "nested more than 300 deep");
  }
  for (const char* repeat : {"?", "*", "+", "{1}", "{2}", "{1,}"})
    EXPECT_NAMES(grammar_error("root ::= \"a\"" + repeated(repeat, kMany)), "nested more than 300 deep");
  EXPECT_EQ(grammar_error("root ::= \"a\"" + repeated("+", 40)), "");
  EXPECT_EQ(grammar_error("root ::= \"b\" (\"\"{100000}){100000}" + repeated("{100000}", 90)), "");
}

TEST(Depth, LongGrammarsAreNoDeepOnes) {
  EXPECT_EQ(grammar_error("root ::= " + repeated("\"a\" ", kMany / 2)), "");
  EXPECT_EQ(grammar_error("root ::= \"a\"" + repeated(" | \"a\"", kMany)), "");
  std::string words = "root ::= \"\"";
  for (int i = 0; i < kMany / 10; ++i) words += " | \"w" + std::to_string(i) + "\"";
  EXPECT_EQ(grammar_error(words), "");
  EXPECT_NAMES(grammar_error("root ::= " + repeated("\"a\"? ", kMany)), "too large");
  // Rules that name each other in a chain: each used once, then twice, then with themselves; from the front and from
  // the back.
  for (const bool from_front : {true, false})
    for (const std::string& form :
         {std::string("#"), std::string("\"x\" # | \"y\" #"), std::string("\"x\" # | \"y\" @")}) {
      const int n = form.size() == 1 ? kMany : form.find('@') == form.npos ? kMany / 100 : kMany / 10;
      std::string text = from_front ? "root ::= r0\n" : "";
      for (int k = 0; k < n; ++k) {
        const int i = from_front ? k : n - 1 - k;
        std::string rule = form;
        for (size_t at; (at = rule.find_first_of("#@")) != rule.npos;)
          rule.replace(at, 1, "r" + std::to_string(rule[at] == '#' ? i + 1 : i));
        text += "r" + std::to_string(i) + " ::= " + rule + "\n";
      }
      text += "r" + std::to_string(n) + " ::= \"z\"\n" + (from_front ? "" : "root ::= r0\n");
      // A long chain may need more states than there are; that is said, in time.
      const std::string error = grammar_error(text);
      EXPECT_TRUE(error.empty() || (n == kMany && error.find("too large") != error.npos))
          << form << from_front << error.substr(0, 300);
    }
  std::string choices = "root ::= \"z\"", rules;
  for (int i = 0; i < kMany / 10; ++i) {
    choices += " | r" + std::to_string(i);
    rules += "\nr" + std::to_string(i) + " ::= \"a\" (r" + std::to_string(i) + " | \"b\")";
  }
  grammar_error(choices + rules);
}

std::string pattern_error(const std::string& pattern) {
  std::string error;
  const double seconds = on_stack(kConverterStack, [&] {
    error = error_of([&] {
      std::vector<uint8_t> out;
      append_regex(pattern, RegexFlavour::kOniguruma, &out);
    });
  });
  EXPECT_LT(seconds, kSeconds) << pattern.substr(0, 60);
  EXPECT_LT(error.size(), 400u);
  return error;
}

TEST(Depth, Patterns) {
  const auto groups = [](int n, const std::string& close) {
    return pattern_error(repeated("(", n) + "a" + repeated(close, n));
  };
  EXPECT_EQ(groups(kMaxPatternGroups - 1, ")"), "");
  EXPECT_NAMES(groups(kMaxPatternGroups, ")"), "groups nested more than 64 deep");
  EXPECT_EQ(groups(kMaxPatternGroups - 1, ")?"), "");
  EXPECT_NAMES(groups(4000, ")"), "groups nested more than 64 deep");
  EXPECT_NAMES(groups(kMany, ")"), "bytes where at most 8192 can be");
  EXPECT_NAMES(pattern_error(repeated("[a", 4000)), "classes nested more than 64 deep");
  const auto repeats = [](int n, const char* repeat) { return pattern_error("(?:ab)" + repeated(repeat, n)); };
  EXPECT_EQ(repeats(kMaxPatternHeight - 8, "{1}"), "");
  for (const char* repeat : {"{1}", "{1}*", "?+", "{2}"})
    EXPECT_NAMES(repeats(2000, repeat), "nested more than 256 deep");
  EXPECT_NAMES(repeats(kMany, "?"), "bytes where at most 8192 can be");
  EXPECT_EQ(pattern_error(repeated("a?", 4000)), "");
  EXPECT_EQ(pattern_error("a" + repeated("|a", 4000)), "");
  EXPECT_EQ(pattern_error("(?:)" + repeated("{1000}", 200)), "");
  std::string many;
  for (uint32_t c = 0x4E00; c < 0x4E00 + 2700; ++c)
    many += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 63)), char(0x80 | (c & 63))};
  EXPECT_NAMES(pattern_error(many), "kinds of characters");
}

std::string template_error(const std::string& source) {
  std::string error;
  const double seconds = on_stack(4 * kConverterStack, [&] { error = error_of([&] { compile_template(source); }); });
  EXPECT_LT(seconds, kSeconds) << source.substr(0, 60);
  return error;
}

TEST(Depth, Templates) {
  const struct {
    const char *open, *inside, *close;
  } kForms[] = {{"{% if a %}", "x", "{% endif %}"},
                {"{% for a in b %}", "x", "{% endfor %}"},
                {"{% set a %}", "x", "{% endset %}"}};
  for (const auto& f : kForms) {
    const auto nested = [&](int n) { return template_error(repeated(f.open, n) + f.inside + repeated(f.close, n)); };
    EXPECT_EQ(nested(kMaxTemplateDepth - 1), "") << f.open;
    for (const int n : {kMaxTemplateDepth, 20000}) EXPECT_NAMES(nested(n), "too deep in each other, more than 200");
    EXPECT_NAMES(nested(kMany), "bytes where at most 1048576 can be");
  }
  const auto expression = [](const std::string& before, const std::string& inside, const std::string& after, int n) {
    return template_error("{{ " + repeated(before, n) + inside + repeated(after, n) + " }}");
  };
  for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{
           {"(", ")"}, {"[", "]"}, {"not ", ""}, {"-", ""}, {"a[", "]"}, {"a if b else ", ""}, {"{'a': ", "}"}}) {
    EXPECT_EQ(expression(before, "a", after, 90), "") << before;
    EXPECT_NAMES(expression(before, "a", after, 3000), "too deep in each other, more than 200");
    EXPECT_NAMES(expression(before, "a", after, kMany), "too deep in each other, more than 200");
  }
  for (const char* more : {" + a", ".a", "[0]", "()", " | trim", " ~ a", " and a", " == a", ", a"}) {
    EXPECT_EQ(expression("", "a", more, kMaxTemplateTerms / 4), "") << more;
    EXPECT_NAMES(expression("", "a", more, kMany), "more than 4000 parts");
  }
  EXPECT_NAMES(expression("", "a", " is defined", kMany), "tests in a row");
  EXPECT_EQ(template_error("{% if a %}" + repeated("{% elif b %}x", kMaxTemplateBranches) + "{% endif %}"), "");
  EXPECT_NAMES(template_error("{% if a %}" + repeated("{% elif b %}x", kMany) + "{% endif %}"), "more than 1000 elifs");
  EXPECT_EQ(template_error(repeated("{% set a = 1 %}{{ a }}", 20000)), "");
}

TEST(Depth, TemplatesThatNestWhileTheyRun) {
  const auto run = [](const std::string& source) {
    std::string error;
    on_stack(kRuntimeStack, [&] {
      const format::ChatProgramT compiled = compile_template(source).program;
      flatbuffers::FlatBufferBuilder builder;
      builder.Finish(format::ChatProgram::Pack(builder, &compiled));
      chat::Arena arena(4096);
      chat::TextBuilder out;
      const auto none = [](void*, const char*, size_t) { return chat::Value(); };
      error = chat::run_program(*flatbuffers::GetRoot<format::ChatProgram>(builder.GetBufferPointer()), none, nullptr,
                                0, &arena, &out)
                  .message();
    });
    return error;
  };
  const auto nested = [](int n, const std::string& use) {
    return "{% set ns = namespace(x=[]) %}{% for i in range(" + std::to_string(n) +
           ") %}{% set ns.x = [ns.x] %}{% endfor %}" + use;
  };
  EXPECT_EQ(run(nested(chat::kMaxValueDepth, "{{ ns.x | tojson }}")), "");
  EXPECT_EQ(run(nested(chat::kMaxValueDepth, "{{ ns.x == ns.x }}")), "");
  for (const int n : {chat::kMaxValueDepth + 1, kMany}) {
    EXPECT_NAMES(run(nested(n, "{{ ns.x | tojson }}")), "nested more than 32 deep");
    EXPECT_NAMES(run(nested(n, "{{ ns.x == ns.x }}")), "nested more than 32 deep");
  }
  const auto macro = [](int n) {
    return "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(" + std::to_string(n) + ") }}";
  };
  EXPECT_EQ(run(macro(46)), "");
  EXPECT_NAMES(run(macro(47)), "too deep, more than 47");
}

TEST(Depth, Json) {
  const auto error = [](const std::string& text) {
    std::string said;
    on_stack(kConverterStack, [&] { said = error_of([&] { parse_json(text, "x.json"); }); });
    return said;
  };
  for (const auto& form : std::vector<std::pair<std::string, std::string>>{{"[", "]"}, {"{\"a\":", "}"}}) {
    const auto nested = [&](int n, bool closed) {
      return repeated(form.first, n) + "1" + (closed ? repeated(form.second, n) : "");
    };
    EXPECT_EQ(error(nested(kMaxJsonDepth, true)), "");
    for (const bool closed : {true, false})
      for (const int n : {kMaxJsonDepth + 2, 100000, 1000000})
        EXPECT_NAMES(error(nested(n, closed)), "x.json: JSON is nested too deeply, more than 64");
  }
}

// Each file that is JSON goes through it.
TEST(Depth, FilesOfATokenizer) {
  const std::string deep = repeated("{\"a\":", 100000);
  VocabSource s = from_spm_proto(read_golden("spm_small.model"));
  EXPECT_NAMES(error_of([&] { from_tokenizer_json(deep); }), "tokenizer.json: JSON is nested too deeply, more than 64");
  EXPECT_NAMES(error_of([&] { from_tokenizer_json("{}", deep); }),
               "tokenizer_config.json: JSON is nested too deeply, more than 64");
  EXPECT_NAMES(error_of([&] { apply_tokenizer_config(deep, &s); }),
               "tokenizer_config.json: JSON is nested too deeply, more than 64");
  EXPECT_NAMES(error_of([&] { apply_generation_config(deep, &s); }),
               "generation_config.json: JSON is nested too deeply, more than 64");
  EXPECT_NAMES(error_of([&] { from_tekken(deep); }), "tekken.json: JSON is nested too deeply, more than 64");
  EXPECT_NAMES(error_of([&] { from_bert_vocab("a\n", deep); }),
               "tokenizer_config.json: JSON is nested too deeply, more than 64");
  // Sequences of steps within each other and beside each other.
  const auto nested = [](const char* type, const char* list, const std::string& inside, int n) {
    return nlohmann::json::parse(repeated(std::string("{\"type\":\"") + type + "\",\"" + list + "\":[", n) + inside +
                                 repeated("]}", n));
  };
  NormalizerBuilder b;
  read_normalizer(nested("Sequence", "normalizers", R"({"type":"NFC"})", 20), &b);
  EXPECT_FALSE(b.build().empty());
  const std::string many = R"({"type":"Lowercase"})" + repeated(R"(,{"type":"Lowercase"})", kMany);
  EXPECT_NAMES(error_of([&] {
                 NormalizerBuilder c;
                 read_normalizer(nested("Sequence", "normalizers", many, 1), &c);
               }),
               "more than 256 normalizers");
}

TEST(Depth, GraphsInJson) {
  ModelBuilder b(Weights::kKeep);
  for (const char* open : {"{\"programs\":[", "{\"a\":", "["}) {
    std::string said;
    on_stack(kConverterStack, [&] { said = error_of([&] { read_graph_json(repeated(open, 100000), "g.json", b); }); });
    EXPECT_NAMES(said, "g.json: not a model in JSON");
  }
}

TEST(Depth, SizeExpressions) {
  const auto error = [](const std::string& text) {
    std::string said;
    on_stack(kRuntimeStack, [&] {
      ExprPool pool;
      auto r = pool.parse(text.c_str(), 0);
      if (!r.is_ok()) said = r.take_status().message();
      else if (auto v = pool.evaluate(r.value(), SymbolValues{}); !v.is_ok()) said = v.take_status().message();
    });
    return said;
  };
  EXPECT_EQ(error(repeated("(", kMaxExprDepth - 1) + "1" + repeated(")", kMaxExprDepth - 1)), "");
  EXPECT_NAMES(error(repeated("(", kMaxExprDepth) + "1" + repeated(")", kMaxExprDepth)), "nested more than 32 deep");
  EXPECT_NAMES(error(repeated("min(1,", kMaxExprDepth) + "1" + repeated(")", kMaxExprDepth)),
               "nested more than 32 deep");
  EXPECT_EQ(error("1" + repeated("+1", 255)), "");
  EXPECT_NAMES(error("1" + repeated("+1", kMany)), "at most 512");
}

}  // namespace
}  // namespace runnel::convert
