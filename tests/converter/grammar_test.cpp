// Grammars against a matcher that tries everything, on random grammars and texts; and the tokens that they let through
// against the bytes of each.
#include <random>
#include <set>
#include <thread>

#include "converter/grammar_reference.h"
#include "converter/text_test.h"
#include "kit.h"
#include "text/grammar.h"
#include "text/grammar_syntax.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

// Vocabularies of two kinds, with what grammars need of them.
struct Vocabulary {
  explicit Vocabulary(VocabSource s) : loaded(std::move(s)) {
    const Status status = TokenOrder::build(loaded.tokenizer, &order);
    EXPECT_TRUE(status.is_ok()) << status.message();
  }
  Loaded loaded;
  TokenOrder order;
};
const Vocabulary& spm() {
  static const Vocabulary v(from_spm_proto(read_golden("spm_small.model")));
  return v;
}
const Vocabulary& rwkv() {
  static const Vocabulary v(from_rwkv_vocab(read_golden("rwkv_small.txt")));
  return v;
}

std::unique_ptr<Grammar> make(const std::string& text, const Vocabulary& v = spm()) {
  auto g = Grammar::create(v.order, text.data(), text.size());
  if (!g.is_ok()) {
    ADD_FAILURE() << g.take_status().message() << "\n" << text;
    return nullptr;
  }
  return std::move(g.value());
}
std::string refusal(const std::string& text) {
  auto g = Grammar::create(spm().order, text.data(), text.size());
  return g.is_ok() ? "" : g.take_status().message();
}

Fit fit(Grammar& g, const std::string& text) {
  GrammarPosition at;
  g.start(&at);
  auto r = g.accept_bytes(&at, reinterpret_cast<const uint8_t*>(text.data()), text.size());
  if (!r.is_ok()) {
    ADD_FAILURE() << r.take_status().message();
    return Fit::kNo;
  }
  return !r.value() ? Fit::kNo : at.may_end ? Fit::kWhole : Fit::kPrefix;
}

TEST(Grammar, Notation) {
  const auto g = make(R"(
# a comment
root ::= greeting " " name  # and one behind a rule
         | "\x41\u00e9\U0001F600\n\"\\" [\]\-^x] .
greeting ::= ("hello" |
  "bye"){1,2}
name_2 ::= [^a-z"\\]
name ::= name_2+ [a-c-]? | "" )");
  ASSERT_TRUE(g);
  EXPECT_EQ(fit(*g, "hello "), Fit::kWhole);
  EXPECT_EQ(fit(*g, "hellobye XY"), Fit::kWhole);
  EXPECT_EQ(fit(*g, "hellobye XYb"), Fit::kWhole);
  EXPECT_EQ(fit(*g, "hello X-"), Fit::kWhole);
  EXPECT_EQ(fit(*g, "hello Xd"), Fit::kNo);
  EXPECT_EQ(fit(*g, "hellobyeh"), Fit::kNo);
  EXPECT_EQ(fit(*g, "hello \""), Fit::kNo);
  EXPECT_EQ(fit(*g, "A\xC3\xA9\xF0\x9F\x98\x80\n\"\\^\n"), Fit::kWhole);
  EXPECT_EQ(fit(*g, "A\xC3\xA9\xF0\x9F\x98\x80\n\"\\y"), Fit::kNo);
  EXPECT_EQ(fit(*g, "A\xC3"), Fit::kPrefix);
}

TEST(Grammar, RefusesByLineAndName) {
  for (const auto& [text, says] : std::vector<std::pair<std::string, std::string>>{
           {"", "no rule \"root\""},
           {"root ::= a\n\nb ::= \"x\"", "line 1: rule \"a\" is not defined"},
           {"root ::= \"a\"\nroot ::= \"b\"", "line 2: rule \"root\" is defined twice"},
           {"root ::= (\"a\"", "group is not closed"},
           {"root ::= \"a\")", "unexpected ')'"},
           {"root ::= \"a", "not closed"},
           {"root ::= [a", "not closed"},
           {"root ::= [z-a]", "before it begins"},
           {"root ::= \"\\q\"", "unknown escape"},
           {"root ::= \"\\ud800\"", "not a character"},
           {"root ::= \"a\"{3,1}", "{3,1}"},
           {"root ::= \"a\"{,1}", "{m}"},
           {"root ::= \"a\"{1000000}", "more than"},
           {"root ::= *", "unexpected '*'"},
           {"root ::= <x>", "unexpected '<'"},
           {"root = \"a\"", "\"::=\" is expected"},
           {"root ::= \"\xFF\"", "UTF-8"},
           {"root ::= root \"a\" | \"b\"", "rule \"root\" begins with itself"},
           {"root ::= \"x\" a\na ::= b? c \"y\"\nb ::= \"b\"*\nc ::= a | \"c\"", "begins with itself"},
           {"root ::= \"x\" | a\na ::= (a? \"yyyyyyyyyyyyyyyyyyyy\"){40}", "line 1: rule \"a\" begins with itself"},
           {"root ::= \"x\" root", "no text matches"},
           {"root ::= [^\\x00-\\U0010FFFF]", "no text matches"},
           {"root ::= [ab]* \"a\" ([ab] [ab]){9}", "too large"},
           {"# of a place\nroot ::= \"x\" | a\n# of another\n# place\na ::= \"" + std::string(70000, 'a') + "\"",
            "line 2: it is too large: of more than 60000 states"},
           {"root ::= \"x\" | a\n  # no note\n# another place\na ::= \"" + std::string(70000, 'a') + "\"",
            "rule \"a\", another place"},
           {"root ::= " + std::string(200, '(') + "\"a\"" + std::string(200, ')'), "nested"},
       })
    EXPECT_NE(refusal(text).find(says), std::string::npos) << text << ": " << refusal(text);
}

TEST(Grammar, EmptyLoopsEnd) {
  const auto g = make("root ::= ((a* b)* \"\"*)* \"x\"?\na ::= \"\" | b\nb ::= \"y\"?");
  ASSERT_TRUE(g);
  EXPECT_EQ(fit(*g, ""), Fit::kWhole);
  EXPECT_EQ(fit(*g, "yyyyx"), Fit::kWhole);
  EXPECT_EQ(fit(*g, "xy"), Fit::kNo);
}

TEST(Grammar, EveryCharacterOfAClass) {
  std::mt19937 random(3);
  const uint32_t edges[] = {0,      0x22,   0x7F,   0x80,   0x7FF,   0x800,   0xFFF,   0x1000,
                            0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0x10FFFF};
  for (int round = 0; round < (test::kIsSlow ? 3 : 12); ++round) {
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    std::string text = round % 3 == 2 ? "root ::= [^" : "root ::= [";
    for (int i = 0; i < 3; ++i) {
      uint32_t a = round < 6 ? edges[random() % 16] : random() % 0x110000,
               b = random() % 2 ? edges[random() % 16] : a + random() % 300;
      const auto fix = [](uint32_t c) { return c > 0x10FFFF ? 0x10FFFF : c >= 0xD800 && c < 0xE000 ? 0xD7FF : c; };
      a = fix(a), b = std::max(a, fix(b));
      ranges.push_back({a, b});
      char part[40];
      std::snprintf(part, sizeof part, "\\U%08X-\\U%08X", a, b);
      text += part;
    }
    text += "]";
    const std::string said = refusal(text);
    if (!said.empty()) {
      EXPECT_NE(said.find("no text"), std::string::npos) << said;
      continue;
    }
    const auto g = make(text);
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      bool in = false;
      for (const auto& [a, b] : ranges) in = in || (a <= c && c <= b);
      unsigned char utf8[4];
      const uint32_t n = utf8_write(c, utf8);
      if (in != (round % 3 == 2))
        ASSERT_EQ(fit(*g, std::string(reinterpret_cast<char*>(utf8), n)), Fit::kWhole) << text << " " << c;
      else if (c % 7 == 0)
        ASSERT_NE(fit(*g, std::string(reinterpret_cast<char*>(utf8), n)), Fit::kWhole) << text << " " << c;
    }
  }
}

TEST(Grammar, RandomGrammarsAgreeWithAMatcherThatTriesAll) {
  std::mt19937 random(7);
  int compared = 0, whole = 0, prefix = 0;
  for (int round = 0; round < 3000; ++round) {
    Reference reference(random);
    const std::string text = reference.text();
    auto made = Grammar::create(spm().order, text.data(), text.size());
    if (!made.is_ok()) {
      const std::string said = made.take_status().message();
      const bool expected =
          said.find("begins with itself") != std::string::npos || said.find("no text matches") != std::string::npos;
      ASSERT_TRUE(expected) << said << "\n" << text;
      if (said.find("no text matches") != std::string::npos) EXPECT_EQ(reference.fit(""), Fit::kNo) << text;
      continue;
    }
    Grammar& g = *made.value();
    for (int i = 0; i < 40; ++i) {
      // Texts that fit are rare: grow one that does.
      std::string s;
      for (uint32_t steps = random() % 9; steps > 0; --steps) {
        std::string longer = s + Reference::kCharacters[random() % 7];
        if (random() % 8 == 0) longer.pop_back();
        if (random() % 10 == 0 || fit(g, longer) != Fit::kNo) s = longer;
      }
      const Fit want = reference.fit(s);
      ASSERT_EQ(fit(g, s), want) << text << "text: " << s;
      ++compared, whole += want == Fit::kWhole, prefix += want == Fit::kPrefix;
    }
  }
  EXPECT_GT(compared, 40000);
  EXPECT_GT(whole, 5000);
  EXPECT_GT(prefix, 5000);
}

// The same with repeats that are counted.
TEST(Grammar, RandomCountsAgreeWithAMatcherThatTriesAll) {
  std::mt19937 random(11);
  int compared = 0, limited = 0, whole = 0, lengthy = 0;
  const int rounds = test::kIsSlow ? 50 : 200;
  for (int round = 0; round < rounds; ++round) {
    Reference reference(random, 40);
    const std::string text = reference.text();
    if (!refusal(text).empty()) continue;
    const auto g = make(text);
    for (int i = 0; i < 3; ++i) {
      std::string s;
      for (uint32_t steps = random() % 70; steps > 0; --steps) {
        const std::string longer = s + Reference::kCharacters[random() % 7];
        if (fit(*g, longer) != Fit::kNo || random() % 60 == 0) s = longer;
      }
      const Fit want = reference.fit(s), got = fit(*g, s);
      // A text that can be read in very many ways may be refused, and that is said.
      if (got != want && g->was_limited() && want != Fit::kNo) ++limited;
      else ASSERT_EQ(got, want) << text << "text: " << s;
      ++compared, whole += want == Fit::kWhole, lengthy += s.size() > 30;
    }
  }
  EXPECT_GT(compared, rounds);
  EXPECT_GT(whole, rounds / 5);
  EXPECT_GT(lengthy, rounds / 20);
  EXPECT_LT(limited, compared / 50);
}

const char kJson[] = R"(
root ::= value
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (member ("," ws member)*)? ws "}"
member ::= string ":" ws value
array ::= "[" ws (value ("," ws value)*)? ws "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws ::= [ \n\t]*
)";

// At positions that random tokens lead to, the mask, the list and each token alone against the bytes of the token.
// Counts the lists.
void expect_masks(const std::string& text, const Vocabulary& v, uint32_t seed, int walks, size_t* lists) {
  const auto g = make(text, v), plain = make(text, v);
  ASSERT_TRUE(g);
  std::mt19937 random(seed);
  const Tokenizer& t = v.loaded.tokenizer;
  const int32_t count = t.vocab().count, padded = count + 70;
  size_t let_through = 0;
  for (int w = 0; w < walks; ++w) {
    GrammarPosition at;
    g->start(&at);
    for (int i = 0; i < 60; ++i) {
      std::vector<float> logits(size_t(padded), 1.0f);
      ASSERT_TRUE(g->mask(at, logits.data(), padded).is_ok());
      std::vector<int32_t> possible, all, listed(kMostListed);
      for (int32_t id = 0; id < padded; ++id) {
        uint8_t bytes[kMaxTokenBytes];
        const uint32_t n = t.token_bytes(id, bytes);
        GrammarPosition moved = at;
        auto fits = plain->accept_bytes(&moved, bytes, n);
        ASSERT_TRUE(fits.is_ok());
        const bool want = t.vocab().ends_turn(id) ? at.may_end == 1 : n > 0 && fits.value();
        ASSERT_EQ(logits[size_t(id)], want ? 1.0f : -INFINITY) << id;
        auto alone = g->allows(at, id);
        ASSERT_TRUE(alone.is_ok());
        ASSERT_EQ(alone.value(), want) << id;
        if (want && n) possible.push_back(id);
        if (want) all.push_back(id);
      }
      auto few = g->list(at, listed.data());
      ASSERT_TRUE(few.is_ok());
      if (few.value() >= 0) {
        listed.resize(size_t(few.value()));
        ASSERT_EQ(listed, all);
      }
      *lists += few.value() >= 0;
      let_through += possible.size();
      if (possible.empty()) {
        ASSERT_TRUE(at.may_end);
        break;
      }
      ASSERT_TRUE(g->accept(&at, possible[random() % possible.size()]).is_ok());
    }
  }
  EXPECT_GT(let_through, 10u);
}

// Where any plain character (~) may follow, up to some length or without end, and where some may not or something else
// may follow too.
TEST(Grammar, MasksInStringsAreWhatTheBytesSay) {
  const std::vector<std::string> roots = {R"("\"" ~{0,1} "\"")",
                                          R"("\"" ~{0,5} "\"")",
                                          R"("\"" ~{3,19} "\":" [0-9])",
                                          "~*",
                                          "~{2}",
                                          "~{40}",
                                          "[^x]*",
                                          "[^x\xC3\xA9]{0,4} \"x\"",
                                          ".{0,18}",
                                          R"(~{0,3} | "long" [a-z]*)",
                                          R"((~ ~)* "\"")",
                                          R"("a" root "b" | [^ab]{0,6})",
                                          "(string \",\")*\nstring ::= "
                                          R"("\"" (~ | "\\" ["\\n])* "\"")",
                                          R"("[" (root | ~{0,2}) "]" | ~{4})",
                                          "item \"e\" item\nitem ::= \"t\" item \"e\" | ~{1,2}",
                                          "~{0,9} item\nitem ::= \"t\" item | ~{1,2}"};
  for (const Vocabulary* v : {&spm(), &rwkv()}) {
    EXPECT_GT(v->order.most_characters, 4u);
    EXPECT_GT(v->order.other.ids.size(), 0u);
    uint32_t seed = 20;
    size_t lists = 0;
    std::vector<std::string> all = roots;
    for (const TokenOrder::Long& l : v->order.long_plain) all.push_back("~{0," + std::to_string(l.characters) + "}");
    for (const std::string& root : all) {
      std::string text = "root ::= ";
      for (const char c : root) text += c == '~' ? R"([^"\\\x00-\x1F])" : std::string(1, c);
      expect_masks(text, *v, ++seed, 2, &lists);
    }
    EXPECT_GT(lists, 10u);
  }
  EXPECT_GT(std::max(spm().order.long_plain.size(), rwkv().order.long_plain.size()), 0u);
}

TEST(Grammar, MasksAreWhatTheBytesSay) {
  size_t lists = 0;
  for (const Vocabulary* v : {&spm(), &rwkv()}) {
    expect_masks(kJson, *v, 1, 8, &lists);
    expect_masks("root ::= (\"a\" root \"b\" | \"(\" root \")\" | [x-z\xC3\xA9]{0,3})", *v, 2, 4, &lists);
    expect_masks("root ::= \"[\" root? \"]\" | root2\nroot2 ::= \"[[[[[[[\" root2? \"]]]]]]]\" | \"1\"", *v, 3, 4,
                 &lists);
  }
  EXPECT_GT(lists, 100u);
  std::mt19937 random(9);
  int done = 0;
  for (int round = 0; done < 30; ++round) {
    Reference reference(random);
    if (!refusal(reference.text()).empty()) continue;
    ++done;
    const auto g = make(reference.text(), rwkv());
    GrammarPosition at;
    g->start(&at);
    std::vector<float> logits(size_t(rwkv().loaded.tokenizer.vocab().count), 0.0f);
    ASSERT_TRUE(g->mask(at, logits.data(), int32_t(logits.size())).is_ok());
    for (size_t id = 0; id < logits.size(); ++id) {
      uint8_t bytes[kMaxTokenBytes];
      const uint32_t n = rwkv().loaded.tokenizer.token_bytes(int32_t(id), bytes);
      if (rwkv().loaded.tokenizer.vocab().ends_turn(int32_t(id))) continue;
      const bool want = n && fit(*g, std::string(reinterpret_cast<char*>(bytes), n)) != Fit::kNo;
      ASSERT_EQ(logits[id] == 0, want) << reference.text() << id;
    }
  }
}

// A repeat of many times is counted, not spelled out: exactly, also beside others that it runs into.
TEST(Grammar, RepeatsAreCounted) {
  const auto g = make("root ::= (([a-z]{1000}){1000}){100} | \"1\"");
  EXPECT_LT(g->cache_bytes(), 100000u);
  EXPECT_EQ(fit(*g, "1"), Fit::kWhole);
  EXPECT_EQ(fit(*g, std::string(123456, 'a')), Fit::kPrefix);
  for (const auto& [least, most] :
       std::vector<std::pair<size_t, size_t>>{{0, 200}, {200, 200}, {1, 70000}, {50000, 50001}, {60000, 100000}})
    for (const char* const body : {"[a-c]", "(\"a\" | [bc])", "x\nx ::= \"a\" | [bc]"}) {
      const std::string name = body, range = "{" + std::to_string(least) + "," + std::to_string(most) + "}";
      const auto r = make(name[0] == 'x' ? "root ::= \"(\" x" + range + " \")\"" + name.substr(1)
                                         : "root ::= \"(\" " + name + range + " \")\"");
      for (const size_t n : {size_t(0), size_t(1), least - 1, least, least + 1, most - 1, most, most + 1}) {
        if (n > most + 1) continue;
        EXPECT_EQ(fit(*r, "(" + std::string(n, 'b') + ")"), n >= least && n <= most ? Fit::kWhole : Fit::kNo)
            << range << n;
        EXPECT_EQ(fit(*r, "(" + std::string(n, 'c')), n <= most ? Fit::kPrefix : Fit::kNo) << range << n;
      }
    }
  // Without an upper bound, and with another behind it that reads the same.
  const auto open = make("root ::= [a-z]{300,} \".\" | [a-y]{20,400} [x-z]{20,400} \"!\"");
  const std::string a(400, 'a'), x(801, 'x'), z(400, 'z');
  for (const auto& [text, want] : std::vector<std::pair<std::string, Fit>>{{a + z + "!", Fit::kWhole},
                                                                           {a + z + z, Fit::kPrefix},
                                                                           {a + "z" + z + "!", Fit::kNo},
                                                                           {x.substr(0, 800) + "!", Fit::kWhole},
                                                                           {x + "!", Fit::kNo},
                                                                           {x + ".", Fit::kWhole},
                                                                           {x.substr(0, 40) + "!", Fit::kWhole},
                                                                           {x.substr(0, 39) + "!", Fit::kNo},
                                                                           {a.substr(0, 19) + z + "!", Fit::kNo},
                                                                           {a.substr(0, 299) + ".", Fit::kNo},
                                                                           {a.substr(0, 300) + ".", Fit::kWhole}})
    EXPECT_EQ(fit(*open, text), want) << text.size();
  EXPECT_FALSE(open->was_limited());
  // What may be empty is no more often nothing.
  const auto maybe = make("root ::= (\"a\"? \"b\"?){500} \"c\"");
  EXPECT_EQ(fit(*maybe, "c"), Fit::kWhole);
  EXPECT_EQ(fit(*maybe, std::string(500, 'a') + "c"), Fit::kWhole);
  EXPECT_EQ(fit(*maybe, std::string(501, 'a') + "c"), Fit::kNo);
  // Counted repeats in recursion, and of recursion.
  const auto tree = make("root ::= \"(\" (root | [0-9a-zA-Z_.!?]){0,99} \")\"");
  EXPECT_EQ(fit(*tree, "((1)" + std::string(97, 'x') + "())"), Fit::kWhole);
  EXPECT_EQ(fit(*tree, "((1)" + std::string(98, 'x') + "()"), Fit::kNo);
}

// Groups and repeats of repeats: the depth that grammar_syntax.h names, and beyond it.
TEST(Grammar, DeepNotation) {
  const auto deep = [](const std::string& before, const std::string& after, size_t n) {
    std::string out = "root ::= ";
    for (size_t i = 0; i < n; ++i) out += before;
    out += "\"a\"";
    for (size_t i = 0; i < n; ++i) out += after;
    return out;
  };
  EXPECT_EQ(refusal(deep("(", ")", 100)), "");
  EXPECT_EQ(refusal(deep("(\"b\" | \"c\" ", ")", 99)), "");
  for (const char* const repeat : {"?", "*", "+", "{1}", "{0,3}"}) {
    EXPECT_EQ(refusal(deep("", repeat, std::string(repeat) == "{0,3}" ? 6 : 299)), "") << repeat;
    for (const size_t n : {300, 3000, 60000})
      EXPECT_NE(refusal(deep("", repeat, n)).find("more than 300 deep"), std::string::npos) << repeat << n;
    for (const size_t n : {101, 60000})
      EXPECT_NE(refusal(deep("(", ")" + std::string(repeat), n)).find("nested"), std::string::npos) << repeat << n;
  }
  for (const char* const open : {"(", "[", "(((\"a\"?"}) EXPECT_FALSE(refusal(deep(open, "", 60000)).empty()) << open;
  // Rules that use each other in a chain.
  for (const size_t n : {290, 400, 20000}) {
    std::string text = "root ::= r0\n";
    for (size_t i = 0; i < n; ++i) text += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string(i + 1) + "?\n";
    const auto g = make(text + "r" + std::to_string(n) + " ::= \"b\"");
    EXPECT_EQ(fit(*g, std::string(n, 'a') + "b"), Fit::kWhole);
    EXPECT_EQ(fit(*g, std::string(n + 1, 'a')), Fit::kNo);
  }
}

// Nesting beyond what a position holds is refused, so that what was begun can always be ended.
TEST(Grammar, DeepNestingIsBounded) {
  const auto g = make(kJson, rwkv());
  GrammarPosition at;
  g->start(&at);
  size_t depth = 0;
  const uint8_t open = '[', close = ']';
  for (;; ++depth) {
    auto r = g->accept_bytes(&at, &open, 1);
    ASSERT_TRUE(r.is_ok());
    if (!r.value()) break;
    ASSERT_LT(depth, 5000u);
  }
  EXPECT_GT(depth, 100u);
  EXPECT_TRUE(g->was_limited());
  for (; depth > 0; --depth) {
    ASSERT_EQ(at.may_end, 0);
    auto r = g->accept_bytes(&at, &close, 1);
    ASSERT_TRUE(r.is_ok() && r.value()) << depth;
  }
  EXPECT_EQ(at.may_end, 1);
}

TEST(Grammar, RefusesAPositionOfAnother) {
  const auto g = make("root ::= \"ab\"");
  GrammarPosition at;
  g->start(&at);
  const uint8_t a = 'a';
  for (int cell = 0; cell < 3; ++cell)
    for (const uint16_t bad : {uint16_t(0), uint16_t(447), uint16_t(500), uint16_t(65535)}) {
      GrammarPosition wrong = at;
      wrong.cells[cell] = bad;
      EXPECT_EQ(g->accept_bytes(&wrong, &a, 1).is_ok(), cell == 0 && bad == 0) << cell << " " << bad;
    }
  for (const uint16_t size : {uint16_t(1), uint16_t(2), uint16_t(4), uint16_t(kGrammarCells + 1)}) {
    GrammarPosition wrong = at;
    wrong.size = size;
    EXPECT_FALSE(g->accept_bytes(&wrong, &a, 1).is_ok()) << size;
  }
}

TEST(Grammar, ThreadsShareOne) {
  const auto g = make(kJson, rwkv());
  const int32_t count = rwkv().loaded.tokenizer.vocab().count;
  const auto walk = [&](uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<int32_t> ids;
    GrammarPosition at;
    g->start(&at);
    for (int i = 0; i < 200; ++i) {
      std::vector<float> logits(size_t(count), 0.0f);
      EXPECT_TRUE(g->mask(at, logits.data(), count).is_ok());
      std::vector<int32_t> possible;
      for (int32_t id = 0; id < count; ++id)
        if (logits[size_t(id)] == 0 && !rwkv().loaded.tokenizer.vocab().ends_turn(id)) possible.push_back(id);
      if (possible.empty()) break;
      ids.push_back(possible[random() % possible.size()]);
      EXPECT_TRUE(g->accept(&at, ids.back()).is_ok());
    }
    return ids;
  };
  std::vector<std::vector<int32_t>> all(4);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { all[i] = walk(i); });
  for (std::thread& t : threads) t.join();
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(walk(i), all[i]);
}

}  // namespace
}  // namespace runnel::convert
