#include "text/grammar_syntax.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/hash_index.h"
#include "base/xxh64.h"
#include "text/utf8.h"

namespace runnel {
namespace {

constexpr uint32_t kMaxRepeat = 100000;
constexpr uint32_t kLastCode = 0x10FFFF;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Parser {
 public:
  Parser(const char* text, size_t size, GrammarTree* out) : at_(text), end_(text + size), out_(*out) {}

  Status parse() {
    begin_ = at_;
    skip();
    while (at_ < end_) {
      const Note note = note_;
      RNL_ASSIGN(rule, name());
      skip();
      if (!starts_with("::=")) return bad("\"::=\" is expected after the name of a rule");
      if (out_.rules[rule].defined)
        return bad("rule \"%.*s\" is defined twice", int(out_.rules[rule].size), out_.rules[rule].name);
      out_.rules[rule].defined = true;
      out_.rules[rule].note = note.at;
      out_.rules[rule].note_size = note.size;
      note_ = {};
      at_ += 3;
      skip();
      RNL_ASSIGN(node, choice(0));
      out_.rules[rule].node = node;
      if (at_ < end_ && !begins_rule()) return bad("unexpected '%c'", *at_);
    }
    const int64_t root = find("root", 4);
    RNL_CHECK_ARG(root >= 0 && out_.rules[size_t(root)].defined, "grammar: it has no rule \"root\"");
    out_.root = uint32_t(root);
    for (const GrammarRule& r : out_.rules)
      RNL_CHECK_ARG(r.defined, "grammar, line %u: rule \"%.*s\" is not defined", r.line, int(r.size), r.name);
    return Status::ok();
  }

 private:
  [[gnu::format(printf, 2, 3)]] Status bad(const char* format, ...) const {
    char what[200];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return Status::make(Code::kInvalidArgument, "grammar, line %u: %s", line_, what);
  }
  bool starts_with(const char* s) const {
    return size_t(end_ - at_) >= std::strlen(s) && std::memcmp(at_, s, std::strlen(s)) == 0;
  }
  // Blanks, ends of lines and comments.
  void skip() {
    for (; at_ < end_; ++at_) {
      if (*at_ == '#') comment();
      else if (*at_ == '\n') ++line_;
      else if (*at_ != ' ' && *at_ != '\t' && *at_ != '\r') break;
    }
  }
  // Stops at its last byte.
  void comment() {
    const char* const hash = at_;
    while (at_ + 1 < end_ && at_[1] != '\n') ++at_;
    if (hash > begin_ && hash[-1] != '\n') return;
    const char* first = hash + 1;
    while (first <= at_ && *first == ' ') ++first;
    note_ = {first, uint32_t(at_ + 1 - first)};
  }
  // Whether a name and "::=" stand here.
  bool begins_rule() {
    if (at_ == end_ || !is_name(*at_)) return false;
    const char* const at = at_;
    const uint32_t line = line_;
    while (at_ < end_ && is_name(*at_)) ++at_;
    skip();
    const bool yes = starts_with("::=");
    at_ = at, line_ = line;
    return yes;
  }
  int64_t find(const char* s, uint32_t size) const {
    return names_.find(xxh64(s, size), [&](uint32_t r) {
      return out_.rules[r].size == size && std::memcmp(out_.rules[r].name, s, size) == 0;
    });
  }
  Result<uint32_t> name() {
    const char* const begin = at_;
    while (at_ < end_ && is_name(*at_)) ++at_;
    if (at_ == begin) return bad("the name of a rule is expected, not '%c'", *at_);
    const uint32_t size = uint32_t(at_ - begin);
    const int64_t known = find(begin, size);
    if (known >= 0) return uint32_t(known);
    const uint32_t rule = uint32_t(out_.rules.size());
    RNL_TRY(out_.rules.push({begin, size, line_, 0, false, nullptr, 0}));
    RNL_TRY(names_.add(xxh64(begin, size), rule));
    return rule;
  }
  // height: of the highest node below it.
  Result<uint32_t> add(const GrammarNode& node, uint32_t height = 0) {
    if (height >= kMaxGrammarHeight) return bad("groups and repeats are nested more than %u deep", kMaxGrammarHeight);
    RNL_TRY(out_.nodes.push(node));
    RNL_TRY(heights_.push(uint16_t(height + 1)));
    return uint32_t(out_.nodes.size() - 1);
  }
  // A node over what was collected since `mark`.
  Result<uint32_t> gather(GrammarNode::Kind kind, size_t mark) {
    const size_t n = open_.size() - mark;
    if (n == 1) {
      const uint32_t only = open_.back();
      open_.pop();
      return only;
    }
    GrammarNode node{kind, uint32_t(out_.children.size()), uint32_t(n), 0, 0};
    RNL_TRY(out_.children.append(open_.data() + mark, n));
    uint32_t height = 0;
    for (size_t i = mark; i < open_.size(); ++i) height = std::max<uint32_t>(height, heights_[open_[i]]);
    open_.truncate(mark);
    return add(node, height);
  }

  Result<uint32_t> choice(int depth) {
    if (depth > kMaxGrammarNesting) return bad("groups are nested more than %d deep", kMaxGrammarNesting);
    const size_t mark = open_.size();
    for (;;) {
      RNL_ASSIGN(node, sequence(depth));
      RNL_TRY(open_.push(node));
      if (at_ == end_ || *at_ != '|') return gather(GrammarNode::Kind::kChoice, mark);
      ++at_;
      skip();
    }
  }
  Result<uint32_t> sequence(int depth) {
    const size_t mark = open_.size();
    while (at_ < end_ && *at_ != '|' && *at_ != ')' && !begins_rule()) {
      RNL_ASSIGN(one, item(depth));
      uint32_t node = one;
      skip();
      while (at_ < end_ && (*at_ == '*' || *at_ == '+' || *at_ == '?' || *at_ == '{')) {
        GrammarNode repeat{GrammarNode::Kind::kRepeat, node, 1, 0, kUnbounded};
        RNL_TRY(bounds(&repeat));
        RNL_ASSIGN(added, add(repeat, heights_[node]));
        node = added;
        skip();
      }
      RNL_TRY(open_.push(node));
    }
    return gather(GrammarNode::Kind::kSequence, mark);
  }
  Status bounds(GrammarNode* repeat) {
    const char c = *at_++;
    if (c == '+') repeat->least = 1;
    if (c == '?') repeat->most = 1;
    if (c != '{') return Status::ok();
    skip();
    RNL_TRY(number(&repeat->least));
    repeat->most = repeat->least;
    if (at_ < end_ && *at_ == ',') {
      ++at_;
      skip();
      repeat->most = kUnbounded;
      if (at_ < end_ && is_digit(*at_)) RNL_TRY(number(&repeat->most));
    }
    if (at_ == end_ || *at_ != '}') return bad("a repeat is written {m}, {m,} or {m,n}");
    ++at_;
    if (repeat->most < repeat->least)
      return bad("the repeat {%u,%u} ends before it begins", repeat->least, repeat->most);
    return Status::ok();
  }
  Status number(uint32_t* out) {
    if (at_ == end_ || !is_digit(*at_)) return bad("a repeat is written {m}, {m,} or {m,n}");
    *out = 0;
    for (; at_ < end_ && is_digit(*at_); ++at_) {
      *out = *out * 10 + uint32_t(*at_ - '0');
      if (*out > kMaxRepeat) return bad("a repeat of more than %u", kMaxRepeat);
    }
    skip();
    return Status::ok();
  }
  Result<uint32_t> item(int depth) {
    switch (*at_) {
      case '"': return literal();
      case '[': return char_class();
      case '.': {
        ++at_;
        RNL_TRY(out_.ranges.push({0, kLastCode}));
        return add({GrammarNode::Kind::kClass, uint32_t(out_.ranges.size() - 1), 1, 0, 0});
      }
      case '(': {
        ++at_;
        skip();
        RNL_ASSIGN(node, choice(depth + 1));
        if (at_ == end_ || *at_ != ')') return bad("a group is not closed");
        ++at_;
        return node;
      }
      default: break;
    }
    if (!is_name(*at_)) return bad("unexpected '%c'", *at_);
    RNL_ASSIGN(rule, name());
    return add({GrammarNode::Kind::kRule, rule, 1, 0, 0});
  }
  // One character of a literal or a class, escaped or not.
  Result<uint32_t> code() {
    if (*at_ != '\\') return plain_code();
    if (++at_ == end_) return bad("the text ends within an escape");
    const char c = *at_++;
    int digits = 0;
    switch (c) {
      case 'n': return uint32_t('\n');
      case 'r': return uint32_t('\r');
      case 't': return uint32_t('\t');
      case 'x': digits = 2; break;
      case 'u': digits = 4; break;
      case 'U': digits = 8; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x80 || c < ' ' || (is_name(c) && c != '-' && c != '_'))
          return bad("unknown escape \\%c", c);
        return uint32_t(c);
    }
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int d = at_ == end_                                ? -1
                    : *at_ >= '0' && *at_ <= '9'               ? *at_ - '0'
                    : (*at_ | 32) >= 'a' && (*at_ | 32) <= 'f' ? (*at_ | 32) - 'a' + 10
                                                               : -1;
      if (d < 0) return bad("\\%c needs %d hexadecimal digits", c, digits);
      value = value << 4 | uint32_t(d);
    }
    if (value > kLastCode || (value >= 0xD800 && value < 0xE000))
      return bad("\\%c%0*X is not a character", c, digits, value);
    return value;
  }
  Result<uint32_t> plain_code() {
    const auto* p = reinterpret_cast<const unsigned char*>(at_);
    const Utf8Step step = utf8_step(p, size_t(end_ - at_));
    if (step.kind != Utf8::kValid) return bad("malformed UTF-8");
    if (*at_ == '\n') ++line_;
    at_ += step.length;
    return code_point_at(p, step.length).value;
  }
  Result<uint32_t> literal() {
    ++at_;
    const uint32_t first = uint32_t(out_.bytes.size());
    while (at_ < end_ && *at_ != '"') {
      RNL_ASSIGN(c, code());
      uint8_t utf8[4];
      RNL_TRY(out_.bytes.append(utf8, utf8_write(c, utf8)));
    }
    if (at_ == end_) return bad("a text in quotes is not closed");
    ++at_;
    return add({GrammarNode::Kind::kLiteral, first, uint32_t(out_.bytes.size()) - first, 0, 0});
  }
  Result<uint32_t> char_class() {
    ++at_;
    const bool negated = at_ < end_ && *at_ == '^';
    if (negated) ++at_;
    Vec<CodeRange> given;
    while (at_ < end_ && *at_ != ']') {
      RNL_ASSIGN(low, code());
      uint32_t high = low;
      if (end_ - at_ >= 2 && *at_ == '-' && at_[1] != ']') {
        ++at_;
        RNL_ASSIGN(last, code());
        high = last;
        if (high < low) return bad("a range of characters ends before it begins");
      }
      RNL_TRY(given.push({low, high}));
    }
    if (at_ == end_) return bad("a class of characters is not closed");
    ++at_;
    std::sort(given.begin(), given.end(), [](const CodeRange& a, const CodeRange& b) { return a.low < b.low; });
    const uint32_t first = uint32_t(out_.ranges.size());
    uint32_t next = 0;  // the lowest code point not looked at yet
    for (size_t i = 0; i < given.size();) {
      CodeRange r = given[i];
      while (++i < given.size() && given[i].low <= r.high + 1) r.high = std::max(r.high, given[i].high);
      if (!negated) RNL_TRY(out_.ranges.push(r));
      else if (r.low > next) RNL_TRY(out_.ranges.push({next, r.low - 1}));
      next = r.high + 1;
    }
    if (negated && next <= kLastCode) RNL_TRY(out_.ranges.push({next, kLastCode}));
    return add({GrammarNode::Kind::kClass, first, uint32_t(out_.ranges.size()) - first, 0, 0});
  }

  const char* at_;
  const char* const end_;
  uint32_t line_ = 1;
  GrammarTree& out_;
  struct Note {
    const char* at = nullptr;
    uint32_t size = 0;
  };
  const char* begin_ = nullptr;
  Note note_;
  HashIndex names_;
  Vec<uint16_t> heights_;  // of nodes
  Vec<uint32_t> open_;     // nodes whose parents are not complete
};

}  // namespace

Status parse_grammar(const char* text, size_t size, GrammarTree* out) { return Parser(text, size, out).parse(); }

}  // namespace runnel
