#include <charconv>

#include "converter/text/regex_tree.h"
#include "converter/text/vocabulary.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Kind = RegexNode::Kind;
constexpr uint32_t kMaxRepeat = 1000;

class Parser {
 public:
  Parser(std::string_view pattern, RegexFlavour flavour) : p_(pattern), onig_(flavour == RegexFlavour::kOniguruma) {}

  RegexTree all() {
    if (p_.size() > kMaxPatternBytes)
      refuse(std::to_string(p_.size()) + " bytes where at most " + std::to_string(kMaxPatternBytes) + " can be");
    RegexTree tree = alternatives(false);
    if (!done()) refuse("a parenthesis without its partner");
    return tree;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw UnsupportedTokenizer("the pattern " + shown_pattern(p_) + " has " + what + ", which is not supported");
  }
  bool done() const { return at_ == p_.size(); }
  bool see(std::string_view what) const { return p_.substr(at_, what.size()) == what; }
  bool take(std::string_view what) {
    if (!see(what)) return false;
    at_ += what.size();
    return true;
  }
  uint32_t code_point() {
    if (done()) refuse("an unfinished end");
    const CodePoint c = code_point_at(reinterpret_cast<const uint8_t*>(p_.data()) + at_, p_.size() - at_);
    at_ += c.length;
    return c.value;
  }
  static RegexTree node(Kind kind) {
    RegexTree n = std::make_unique<RegexNode>();
    n->kind = kind;
    return n;
  }
  RegexTree set_node(CodeSet set) {
    RegexTree n = node(Kind::kSet);
    n->set = std::move(set);
    return n;
  }
  RegexTree char_node(uint32_t c) { return set_node(fold_ ? CodeSet(c, c).any_case() : CodeSet(c, c)); }
  CodeSet property(std::string_view name) {
    CodeSet s;
    if (!property_set(name, &s)) refuse("the property " + std::string(name));
    return s;
  }

  RegexTree alternatives(bool group);
  RegexTree sequence(bool group);
  RegexTree quantified(RegexTree atom);
  bool counts(uint32_t* low, uint32_t* high);
  RegexTree atom();
  RegexTree parenthesis();
  RegexTree look(bool behind, bool negative);
  RegexTree boundary(bool at_edge);
  bool escaped_set(char kind, CodeSet* out);
  uint32_t escaped_char(char kind);
  uint32_t hex(size_t at_most);
  CodeSet brackets();
  CodeSet posix();
  CodeSet bracket_item(bool* single, uint32_t* value);

  std::string_view p_;
  size_t at_ = 0;
  bool onig_, fold_ = false;
  int depth_ = 0;
};

RegexTree Parser::alternatives(bool group) {
  if (++depth_ > kMaxPatternGroups) refuse("groups nested more than " + std::to_string(kMaxPatternGroups) + " deep");
  const bool fold = fold_;
  RegexTree n = node(Kind::kAlternate);
  do n->add(sequence(group));
  while (take("|"));
  fold_ = fold;
  --depth_;
  return n->children.size() == 1 ? std::move(n->children[0]) : std::move(n);
}

RegexTree Parser::sequence(bool group) {
  RegexTree n = node(Kind::kConcat);
  while (!done() && !see("|") && !see(")")) {
    if (take("(?i)")) {
      // For the rest of the group, other alternatives included.
      fold_ = true;
      continue;
    }
    n->add(quantified(atom()));
  }
  if (!group && see(")")) refuse("a parenthesis without its partner");
  return n;
}

// Whether {m,n} stands here; else the brace is a character.
bool Parser::counts(uint32_t* low, uint32_t* high) {
  const size_t end = p_.find('}', at_);
  if (!see("{") || end == p_.npos) return false;
  std::string_view text = p_.substr(at_ + 1, end - at_ - 1);
  const size_t comma = text.find(',');
  const auto number = [&](std::string_view digits, uint32_t otherwise, uint32_t* out) {
    *out = otherwise;
    if (digits.empty()) return true;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), *out);
    return read.ec == std::errc() && read.ptr == digits.data() + digits.size();
  };
  if (text.empty() || text == ",") return false;
  if (comma == text.npos) {
    if (!number(text, 0, low)) return false;
    *high = *low;
  } else if (!number(text.substr(0, comma), 0, low) || !number(text.substr(comma + 1), kRegexUnlimited, high)) {
    return false;
  }
  if (*low > *high || *low > kMaxRepeat || (*high != kRegexUnlimited && *high > kMaxRepeat))
    refuse("a repetition {" + std::string(text) + "}");
  at_ = end + 1;
  return true;
}

RegexTree Parser::quantified(RegexTree inner) {
  for (;;) {
    uint32_t low = 0, high = kRegexUnlimited;
    const bool braces = counts(&low, &high);
    if (!braces) {
      if (take("*")) low = 0;
      else if (take("+")) low = 1;
      else if (take("?")) low = 0, high = 1;
      else return inner;
    }
    if (inner->kind == Kind::kLook || inner->kind == Kind::kBegin || inner->kind == Kind::kEnd)
      refuse("a repeated condition");
    RegexTree n = node(Kind::kRepeat);
    n->low = low, n->high = high;
    if (braces && onig_ && low == high && see("?")) refuse("{n}?");
    if (take("?")) n->mode = RegexMode::kLazy;
    else if (!(braces && onig_) && take("+")) n->mode = RegexMode::kPossessive;
    n->add(std::move(inner));
    if (n->height > kMaxPatternHeight)
      refuse("groups and repetitions nested more than " + std::to_string(kMaxPatternHeight) + " deep");
    inner = std::move(n);
  }
}

RegexTree Parser::atom() {
  const uint32_t c = code_point();
  if (c == '(') return parenthesis();
  if (c == '[') return set_node(brackets());
  if (c == '.') return set_node(~CodeSet('\n', '\n'));
  if (c == '^' || c == '$') {
    RegexTree n = node(c == '^' ? Kind::kBegin : Kind::kEnd);
    if (onig_) n->set = CodeSet('\n', '\n');
    return n;
  }
  if (c == '*' || c == '+' || c == '?') refuse("a repetition of nothing");
  if (c != '\\') return char_node(c);
  const char kind = char(code_point());
  if (kind == 'A') return node(Kind::kBegin);
  if (kind == 'z') return node(Kind::kEnd);
  if (kind == 'b' || kind == 'B') return boundary(kind == 'b');
  CodeSet s;
  if (escaped_set(kind, &s)) return set_node(fold_ ? s.any_case() : s);
  return char_node(escaped_char(kind));
}

// Between a character of a word and one that is none, or no such place.
RegexTree Parser::boundary(bool at_edge) {
  CodeSet word;
  escaped_set('w', &word);
  RegexTree n = node(Kind::kAlternate);
  for (const bool before : {true, false}) {
    RegexTree both = node(Kind::kConcat);
    for (const bool behind : {true, false}) {
      RegexTree side = node(Kind::kLook);
      side->behind = behind;
      side->negative = behind ? !before : before == at_edge;
      side->add(set_node(word));
      both->add(std::move(side));
    }
    n->add(std::move(both));
  }
  return n;
}

RegexTree Parser::parenthesis() {
  const bool fold = fold_;
  RegexTree n;
  if (take("?=")) {
    n = look(false, false);
  } else if (take("?!")) {
    n = look(false, true);
  } else if (take("?<=")) {
    n = look(true, false);
  } else if (take("?<!")) {
    n = look(true, true);
  } else if (take("?>")) {
    n = node(Kind::kAtomic);
    n->add(alternatives(true));
  } else {
    if (take("?i:")) fold_ = true;
    else if (take("?-i:")) fold_ = false;
    else if (!take("?:") && see("?")) refuse("the group (" + std::string(p_.substr(at_, 3)));
    n = alternatives(true);
  }
  fold_ = fold;
  if (!take(")")) refuse("a parenthesis without its partner");
  return n;
}

RegexTree Parser::look(bool behind, bool negative) {
  RegexTree n = node(Kind::kLook);
  n->behind = behind, n->negative = negative;
  n->add(alternatives(true));
  return n;
}

bool Parser::escaped_set(char kind, CodeSet* out) {
  const auto give = [&](CodeSet s, bool other) {
    *out = other ? ~s : std::move(s);
    return true;
  };
  switch (kind) {
    case 's':
    case 'S': return give(property("White_Space"), kind == 'S');
    case 'd':
    case 'D': return give(property("Nd"), kind == 'D');
    case 'w':
    case 'W': {
      CodeSet s = property("Alphabetic") | property("M") | property("Nd") | property("Pc");
      return give(onig_ ? s : s | CodeSet(0x200C, 0x200D), kind == 'W');
    }
    case 'h':
    case 'H':
      if (!onig_) return false;
      return give(CodeSet('0', '9') | CodeSet('A', 'F') | CodeSet('a', 'f'), kind == 'H');
    case 'p':
    case 'P': {
      bool other = kind == 'P';
      if (!take("{")) return give(property(p_.substr(at_++, 1)), other);
      if (take("^")) other = !other;
      const size_t end = p_.find('}', at_);
      if (end == p_.npos) refuse("an unfinished property");
      std::string_view name = p_.substr(at_, end - at_);
      at_ = end + 1;
      for (const std::string_view prefix : {"General_Category=", "gc=", "Script=", "sc=", "Is"})
        if (name.substr(0, prefix.size()) == prefix && name.size() > prefix.size()) name.remove_prefix(prefix.size());
      return give(property(name), other);
    }
    default: return false;
  }
}

uint32_t Parser::hex(size_t at_most) {
  const bool braces = take("{");
  const size_t end = braces ? p_.find('}', at_) : std::min(p_.size(), at_ + at_most);
  if (end == p_.npos) refuse("an unfinished number");
  uint32_t value = 0;
  const auto read = std::from_chars(p_.data() + at_, p_.data() + end, value, 16);
  if (read.ec != std::errc() || read.ptr != p_.data() + end || value > 0x10FFFF) refuse("a broken number");
  at_ = end + braces;
  return value;
}

uint32_t Parser::escaped_char(char kind) {
  switch (kind) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case 'a': return '\a';
    case 'e': return 0x1B;
    case 'x': return hex(2);
    case 'u': return hex(4);
    default: break;
  }
  if ((kind >= '0' && kind <= '9') || (kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z') || kind & 0x80)
    refuse(std::string("the escape \\") + kind);
  return uint8_t(kind);
}

CodeSet Parser::posix() {
  const size_t end = p_.find(":]", at_);
  if (end == p_.npos) refuse("an unfinished class");
  std::string_view name = p_.substr(at_, end - at_);
  at_ = end + 2;
  const bool other = !name.empty() && name[0] == '^';
  if (other) name.remove_prefix(1);
  CodeSet s;
  if (name == "alpha") s = onig_ ? property("Alphabetic") : CodeSet('A', 'Z') | CodeSet('a', 'z');
  else if (name == "digit") s = onig_ ? property("Nd") : CodeSet('0', '9');
  else if (name == "space") s = onig_ ? property("White_Space") : CodeSet('\t', '\r') | CodeSet(' ', ' ');
  else if (name == "upper" && !onig_) s = CodeSet('A', 'Z');
  else if (name == "lower" && !onig_) s = CodeSet('a', 'z');
  else if (name == "alnum")
    s = onig_ ? property("Alphabetic") | property("Nd") : CodeSet('A', 'Z') | CodeSet('a', 'z') | CodeSet('0', '9');
  else if (name == "punct")
    s = onig_ ? property("P") | property("S")
              : CodeSet('!', '/') | CodeSet(':', '@') | CodeSet('[', '`') | CodeSet('{', '~');
  else refuse("the class [:" + std::string(name) + ":]");
  return other ? ~s : s;
}

// A character, or a set.
CodeSet Parser::bracket_item(bool* single, uint32_t* value) {
  *single = false;
  if (take("[:")) return posix();
  if (take("[")) return brackets();
  if (!take("\\")) {
    *single = true;
    *value = code_point();
    return CodeSet(*value, *value);
  }
  const char kind = char(code_point());
  CodeSet s;
  if (escaped_set(kind, &s)) return s;
  *single = true;
  *value = kind == 'b' ? 8 : escaped_char(kind);
  return CodeSet(*value, *value);
}

// After the opening bracket.
CodeSet Parser::brackets() {
  if (++depth_ > kMaxPatternGroups) refuse("classes nested more than " + std::to_string(kMaxPatternGroups) + " deep");
  const bool other = take("^");
  CodeSet s, before;
  bool intersect = false, first = true;
  const auto joined = [&] { return intersect ? before & s : s; };
  for (;; first = false) {
    if (done()) refuse("an unfinished class");
    if (!first && take("]")) break;
    if (take("&&")) {
      before = joined();
      s = CodeSet();
      intersect = true;
      continue;
    }
    bool single = false;
    uint32_t low = 0, high = 0;
    const CodeSet item = bracket_item(&single, &low);
    if (single && see("-") && at_ + 1 < p_.size() && p_[at_ + 1] != ']') {
      if (!onig_ && see("--")) refuse("a difference of classes");
      ++at_;
      bracket_item(&single, &high);
      if (!single || high < low) refuse("a broken range");
      s = s | CodeSet(low, high);
      continue;
    }
    s = s | item;
  }
  --depth_;
  s = joined();
  if (fold_) s = s.any_case();
  return other ? ~s : s;
}

}  // namespace

RegexTree parse_regex(std::string_view pattern, RegexFlavour flavour) { return Parser(pattern, flavour).all(); }

}  // namespace runnel::convert
