#include "schema/regex.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

constexpr uint32_t kLast = 0x10FFFF;
constexpr int kMaxGroups = 60;  // one within the other
constexpr uint64_t kMaxRepeat = 100000;

CodeSet normal(CodeSet s) {
  std::sort(s.begin(), s.end());
  CodeSet out;
  for (const auto& r : s) {
    if (!out.empty() && r.first <= out.back().second + 1) out.back().second = std::max(out.back().second, r.second);
    else out.push_back(r);
  }
  return out;
}
CodeSet complement(const CodeSet& s) {
  CodeSet out;
  uint32_t next = 0;
  for (const auto& r : normal(s)) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.second + 1;
  }
  if (next <= kLast) out.push_back({next, kLast});
  return out;
}
CodeSet both(const CodeSet& x, const CodeSet& y) {
  CodeSet out;
  for (const auto& a : normal(x))
    for (const auto& b : y)
      if (const uint32_t from = std::max(a.first, b.first), to = std::min(a.second, b.second); from <= to)
        out.push_back({from, to});
  return out;
}

const CodeSet kDigits = {{'0', '9'}};
const CodeSet kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodeSet kSpace = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                        {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodeSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
struct Escape {
  uint32_t code;
  const char* written;
};
constexpr Escape kEscapes[] = {{'"', "\\\\\\\""}, {'\\', "\\\\\\\\"}, {'\n', "\\\\n"}, {'\r', "\\\\r"},
                               {'\t', "\\\\t"},   {'\b', "\\\\b"},    {'\f', "\\\\f"}};
// What stands in a string as it is, and what is written at all: control characters without a short escape are left out.
CodeSet plain() { return complement({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0xD800, 0xDFFF}}); }
CodeSet writable() {
  CodeSet all = plain();
  for (const Escape& e : kEscapes) all.push_back({e.code, e.code});
  return normal(all);
}

Regex sequence(std::vector<Regex> parts) {
  if (parts.size() == 1) return std::move(parts[0]);
  return {Regex::Kind::kSequence, {}, std::move(parts), 0, 0};
}
Regex repeat(Regex what, uint64_t least, uint64_t most) {
  return {Regex::Kind::kRepeat, {}, {std::move(what)}, least, most};
}
Regex one_of(const CodeSet& set) {
  Regex r{Regex::Kind::kSet, both(set, writable()), {}, 0, 0};
  if (r.set.empty()) throw Refused("a class of characters that a string cannot hold");
  return r;
}
Regex anything() { return repeat(one_of({{0, kLast}}), 0, Regex::kUnbounded); }

class Parser {
 public:
  explicit Parser(const std::string& s) : s_(s) {}

  std::vector<Condition> parse() {
    std::vector<Condition> out(1);
    out[0].regex = whole(false, &out);
    if (at_ < s_.size()) refuse(std::string("unexpected '") + s_[at_] + "'");
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { throw Refused("pattern \"" + shown(s_) + "\": " + what); }
  bool take(char c) {
    if (at_ >= s_.size() || s_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(const char* text) {
    const std::string t = text;
    if (s_.compare(at_, t.size(), t) != 0) return false;
    at_ += t.size();
    return true;
  }
  uint32_t next() {
    if (at_ >= s_.size()) refuse("it ends early");
    const auto lead = static_cast<unsigned char>(s_[at_++]);
    if (lead < 0x80) return lead;
    uint32_t c = lead >= 0xF0 ? lead & 7u : lead >= 0xE0 ? lead & 15u : lead & 31u;
    for (int n = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1; n > 0 && at_ < s_.size(); --n)
      c = c << 6 | (static_cast<unsigned char>(s_[at_++]) & 0x3Fu);
    return c;
  }

  // Alternatives that say at their ends whether the text may go on there. ahead: they begin where the text does.
  Regex whole(bool ahead, std::vector<Condition>* conditions) {
    std::vector<Regex> all;
    bool looks = false;
    do {
      const bool from_start = take('^') || ahead;
      while (conditions && from_start && (s_.compare(at_, 3, "(?!") == 0 || s_.compare(at_, 3, "(?=") == 0)) {
        const bool negated = s_[at_ + 2] == '!';
        at_ += 3;
        Regex behind = whole(true, nullptr);
        if (!take(')')) refuse("a group is not closed");
        conditions->push_back({std::move(behind), negated});
        looks = true;
      }
      std::vector<Regex> parts;
      if (!from_start) parts.push_back(anything());
      parts.push_back(items(0));
      if (!take('$')) parts.push_back(anything());
      all.push_back(sequence(std::move(parts)));
    } while (take('|'));
    if (looks && all.size() > 1) refuse("looking ahead in one of several alternatives cannot be expressed");
    return any_of(std::move(all));
  }
  static Regex any_of(std::vector<Regex> all) {
    if (all.size() == 1) return std::move(all[0]);
    return {Regex::Kind::kChoice, {}, std::move(all), 0, 0};
  }
  Regex group(int depth) {
    if (depth > kMaxGroups) refuse("its groups are nested too deep");
    std::vector<Regex> all;
    do all.push_back(items(depth));
    while (take('|'));
    if (!take(')')) refuse("a group is not closed");
    return any_of(std::move(all));
  }
  Regex items(int depth) {
    std::vector<Regex> out;
    while (at_ < s_.size() && s_[at_] != '|' && s_[at_] != ')') {
      if (s_[at_] == '$' && depth == 0 && (at_ + 1 == s_.size() || s_[at_ + 1] == '|' || s_[at_ + 1] == ')')) break;
      Regex one = item(depth);
      uint64_t least = 1, most = 1;
      if (bounds(&least, &most)) {
        take('?');  // as few as possible: the same texts
        one = repeat(std::move(one), least, most);
      }
      out.push_back(std::move(one));
    }
    return sequence(std::move(out));
  }
  bool bounds(uint64_t* least, uint64_t* most) {
    if (at_ < s_.size() && (s_[at_] == '*' || s_[at_] == '+' || s_[at_] == '?')) {
      const char c = s_[at_++];
      *least = c == '+', *most = c == '?' ? 1 : Regex::kUnbounded;
      return true;
    }
    if (!take('{')) return false;
    if (!number(least)) refuse("a '{' that is no repeat");
    *most = *least;
    if (take(',') && !number(most)) *most = Regex::kUnbounded;
    if (!take('}')) refuse("a '{' that is no repeat");
    if (*most < *least) refuse("a repeat that ends before it begins");
    return true;
  }
  bool number(uint64_t* out) {
    if (at_ >= s_.size() || !std::isdigit(static_cast<unsigned char>(s_[at_]))) return false;
    for (*out = 0; at_ < s_.size() && std::isdigit(static_cast<unsigned char>(s_[at_])); ++at_)
      if ((*out = *out * 10 + uint64_t(s_[at_] - '0')) > kMaxRepeat)
        refuse("a repeat of more than " + std::to_string(kMaxRepeat));
    return true;
  }
  Regex item(int depth) {
    const uint32_t c = next();
    switch (c) {
      case '.': return one_of(complement(kLineEnds));
      case '(': {
        const bool named =
            take("?P<") || (s_.compare(at_, 3, "?<=") != 0 && s_.compare(at_, 3, "?<!") != 0 && take("?<"));
        if (named) at_ = std::min(s_.find('>', at_), s_.size() - 1) + 1;
        else if (take('?') && !take(':'))
          refuse("only plain groups and (?:...) can be expressed, and (?=...) and (?!...) at the beginning");
        return group(depth + 1);
      }
      case '[': return one_of(set());
      case '^':
      case '$': refuse("an anchor within the pattern");
      case '*':
      case '+':
      case '?':
      case '{': refuse("a repeat of nothing");
      case '\\': {
        CodeSet s;
        escape(&s);
        return one_of(s);
      }
      default: return one_of({{c, c}});
    }
  }
  // Behind a backslash; true for a set such as \d.
  bool escape(CodeSet* out) {
    const uint32_t c = next();
    const auto add = [&](const CodeSet& s) { out->insert(out->end(), s.begin(), s.end()); };
    switch (c) {
      case 'd': return add(kDigits), true;
      case 'D': return add(complement(kDigits)), true;
      case 'w': return add(kWord), true;
      case 'W': return add(complement(kWord)), true;
      case 's': return add(kSpace), true;
      case 'S': return add(complement(kSpace)), true;
      case 'n': return add({{'\n', '\n'}}), false;
      case 'r': return add({{'\r', '\r'}}), false;
      case 't': return add({{'\t', '\t'}}), false;
      case 'f': return add({{'\f', '\f'}}), false;
      case 'v': return add({{'\v', '\v'}}), false;
      case 'x': return hex(2, out), false;
      case 'u': return hex(4, out), false;
      default: break;
    }
    if (c < 0x80 && std::isalnum(int(c))) refuse(std::string("\\") + char(c) + " cannot be expressed");
    add({{c, c}});
    return false;
  }
  void hex(size_t n, CodeSet* out) {
    const std::string text = s_.substr(at_, n);
    if (text.size() != n || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      refuse("an escape by number that is cut off");
    at_ += n;
    const uint32_t c = uint32_t(std::stoul(text, nullptr, 16));
    out->push_back({c, c});
  }
  CodeSet set() {
    const bool negated = take('^');
    CodeSet out;
    while (at_ < s_.size() && s_[at_] != ']') {
      CodeSet low;
      const uint32_t c = next();
      const bool whole = c == '\\' && escape(&low);
      if (c != '\\') low.push_back({c, c});
      if (!whole && at_ + 1 < s_.size() && s_[at_] == '-' && s_[at_ + 1] != ']') {
        ++at_;
        CodeSet high;
        const uint32_t d = next();
        if (d == '\\' && escape(&high)) refuse("a range of characters that ends with a class");
        if (d != '\\') high.push_back({d, d});
        if (high[0].first < low[0].first) refuse("a range of characters that ends before it begins");
        out.push_back({low[0].first, high[0].first});
      } else {
        out.insert(out.end(), low.begin(), low.end());
      }
    }
    if (!take(']')) refuse("a class of characters is not closed");
    return negated ? complement(out) : normal(out);
  }

  const std::string& s_;
  size_t at_ = 0;
};

uint64_t plus(uint64_t a, uint64_t b) { return a > Regex::kUnbounded - b ? Regex::kUnbounded : a + b; }
uint64_t times(uint64_t a, uint64_t b) { return a && b > Regex::kUnbounded / a ? Regex::kUnbounded : a * b; }

std::string code(uint32_t c) {
  char text[16];
  std::snprintf(text, sizeof text, "\\U%08X", c);
  return text;
}

}  // namespace

std::vector<Condition> parse_pattern(const std::string& pattern) { return Parser(pattern).parse(); }

Lengths lengths_of(const Regex& r) {
  if (r.kind == Regex::Kind::kSet) return {1, 1};
  Lengths all{r.kind == Regex::Kind::kChoice ? Regex::kUnbounded : 0, 0};
  for (const Regex& part : r.parts) {
    const Lengths l = lengths_of(part);
    if (r.kind == Regex::Kind::kChoice) all = {std::min(all.least, l.least), std::max(all.most, l.most)};
    else if (r.kind == Regex::Kind::kSequence) all = {plus(all.least, l.least), plus(all.most, l.most)};
    else all = {times(l.least, r.least), times(l.most, r.most)};
  }
  return all;
}

bool set_lengths(Regex* r, const Lengths& l) {
  const Lengths has = lengths_of(*r);
  if (has.least >= l.least && has.most <= l.most) return true;
  if (has.most < l.least || has.least > l.most) {
    *r = {Regex::Kind::kChoice, {}, {}, 0, 0};
    return true;
  }
  if (r->kind == Regex::Kind::kChoice) {
    return std::all_of(r->parts.begin(), r->parts.end(), [&](Regex& part) { return set_lengths(&part, l); });
  }
  if (r->kind == Regex::Kind::kRepeat) {
    const Lengths one = lengths_of(r->parts[0]);
    if (one.least != one.most || one.least == 0) return false;
    r->least = std::max(r->least, l.least / one.least + (l.least % one.least != 0));
    if (l.most != Regex::kUnbounded) r->most = std::min(r->most, l.most / one.least);
    if (r->least > r->most) *r = {Regex::Kind::kChoice, {}, {}, 0, 0};
    return true;
  }
  // One part that the length depends on.
  Regex* open = nullptr;
  uint64_t fixed = 0;
  for (Regex& part : r->parts) {
    const Lengths one = lengths_of(part);
    if (one.least == one.most) fixed += one.least;
    else if (open) return false;
    else open = &part;
  }
  return open && set_lengths(open, {l.least > fixed ? l.least - fixed : 0,
                                    l.most == Regex::kUnbounded ? l.most : l.most - fixed});
}

std::string text_of(const Regex& r) {
  if (r.kind == Regex::Kind::kSet) {
    if (r.set == writable()) return kPlainCharacter;
    std::string ranges, all;
    for (const auto& [from, to] : both(r.set, plain())) ranges += code(from) + (from == to ? "" : "-" + code(to));
    if (!ranges.empty()) all = "[" + ranges + "]";
    for (const Escape& e : kEscapes)
      if (!both({{e.code, e.code}}, r.set).empty())
        all += (all.empty() ? "\"" : " | \"") + std::string(e.written) + "\"";
    return all.find('|') == std::string::npos ? all : "(" + all + ")";
  }
  std::string all;
  for (const Regex& part : r.parts) {
    const std::string one = text_of(part);
    const bool wrap = part.kind == Regex::Kind::kSequence || part.kind == Regex::Kind::kChoice ||
                      (r.kind == Regex::Kind::kRepeat && part.kind == Regex::Kind::kRepeat);
    all += (all.empty() ? "" : r.kind == Regex::Kind::kChoice ? " | " : " ") + (wrap ? "(" + one + ")" : one);
  }
  if (r.kind == Regex::Kind::kRepeat)
    return all + "{" + std::to_string(r.least) + "," + (r.most == Regex::kUnbounded ? "" : std::to_string(r.most)) +
           "}";
  if (all.empty()) return r.kind == Regex::Kind::kChoice ? kNoText : "\"\"";
  return all;
}

}  // namespace rnl::schema
