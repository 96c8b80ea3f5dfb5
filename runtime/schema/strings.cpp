#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

using Range = std::pair<uint32_t, uint32_t>;  // code points, both included
using Set = std::vector<Range>;
constexpr uint32_t kLast = 0x10FFFF;

Set normal(Set s) {
  std::sort(s.begin(), s.end());
  Set out;
  for (const Range& r : s) {
    if (!out.empty() && r.first <= out.back().second + 1) out.back().second = std::max(out.back().second, r.second);
    else out.push_back(r);
  }
  return out;
}
Set complement(const Set& s) {
  Set out;
  uint32_t next = 0;
  for (const Range& r : normal(s)) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.second + 1;
  }
  if (next <= kLast) out.push_back({next, kLast});
  return out;
}
bool holds(const Set& s, uint32_t c) {
  return std::any_of(s.begin(), s.end(), [c](const Range& r) { return r.first <= c && c <= r.second; });
}
std::string code(uint32_t c) {
  char text[16];
  std::snprintf(text, sizeof text, "\\U%08X", c);
  return text;
}

// One character of a set as JSON writes it in a string. Control characters without a short escape are left out.
std::string character(const Set& set) {
  const Set written = complement({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0xD800, 0xDFFF}});
  std::string plain, all;
  for (const Range& a : normal(set))
    for (const Range& b : written)
      if (const uint32_t from = std::max(a.first, b.first), to = std::min(a.second, b.second); from <= to) plain += code(from) + (from == to ? "" : "-" + code(to));
  if (!plain.empty()) all = "[" + plain + "]";
  for (const auto& [c, escape] : {std::pair<uint32_t, const char*>{'"', "\\\\\\\""}, {'\\', "\\\\\\\\"}, {'\n', "\\\\n"}, {'\r', "\\\\r"}, {'\t', "\\\\t"}, {'\b', "\\\\b"}, {'\f', "\\\\f"}})
    if (holds(set, c)) all += (all.empty() ? "\"" : " | \"") + std::string(escape) + "\"";
  if (all.empty()) throw Refused("a class of characters that a string cannot hold");
  return "(" + all + ")";
}

const Set kDigits = {{'0', '9'}};
const Set kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Set kSpace = {{9, 13}, {' ', ' '}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Set kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Regex {
 public:
  explicit Regex(const std::string& s) : s_(s) {}

  std::string string() {
    std::string all;
    do {
      const bool from_start = take('^');
      std::string body = sequence();
      const bool to_end = take('$');
      if (at_ < s_.size() && s_[at_] != '|') refuse(std::string("unexpected '") + s_[at_] + "'");
      if (body.empty()) body = "\"\"";
      all += (all.empty() ? "" : " | ") + std::string("\"\\\"\" ") + (from_start ? "" : std::string(kPlainCharacter) + "* ") + body + (to_end ? "" : std::string(" ") + kPlainCharacter + "*") + " \"\\\"\"";
    } while (take('|'));
    return "(" + all + ")";
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { throw Refused("pattern \"" + s_ + "\": " + what); }
  bool take(char c) {
    if (at_ >= s_.size() || s_[at_] != c) return false;
    ++at_;
    return true;
  }
  uint32_t next() {
    if (at_ >= s_.size()) refuse("it ends early");
    const auto lead = static_cast<unsigned char>(s_[at_++]);
    if (lead < 0x80) return lead;
    uint32_t c = lead >= 0xF0 ? lead & 7u : lead >= 0xE0 ? lead & 15u : lead & 31u;
    for (int n = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1; n > 0 && at_ < s_.size(); --n) c = c << 6 | (static_cast<unsigned char>(s_[at_++]) & 0x3Fu);
    return c;
  }
  std::string choice(int depth) {
    if (depth > 60) refuse("its groups are nested too deep");
    std::string all;
    do {
      std::string body = sequence(depth);
      all += (all.empty() ? "(" : " | ") + (body.empty() ? "\"\"" : body);
    } while (take('|'));
    return all + ")";
  }
  std::string sequence(int depth = 0) {
    std::string out;
    while (at_ < s_.size() && s_[at_] != '|' && s_[at_] != ')') {
      if (s_[at_] == '$' && depth == 0 && (at_ + 1 == s_.size() || s_[at_ + 1] == '|')) break;
      std::string one = item(depth);
      if (at_ < s_.size() && (s_[at_] == '*' || s_[at_] == '+' || s_[at_] == '?')) {
        one += s_[at_++];
        take('?');  // as few as possible: the same texts
      } else if (at_ < s_.size() && s_[at_] == '{') {
        const size_t end = s_.find('}', at_);
        const std::string bounds = end == std::string::npos ? "" : s_.substr(at_, end + 1 - at_);
        if (bounds.size() < 3 || bounds[1] == ',' || bounds.find_first_not_of("0123456789,{}") != std::string::npos) refuse("a '{' that is no repeat");
        one += bounds;
        at_ = end + 1;
        take('?');
      }
      out += (out.empty() ? "" : " ") + one;
    }
    return out;
  }
  std::string item(int depth) {
    const uint32_t c = next();
    switch (c) {
      case '.': return character(complement(kLineEnds));
      case '(':
        if (take('?') && !take(':')) refuse("only plain groups and (?:...) can be expressed");
        else {
          std::string all = choice(depth + 1);
          if (!take(')')) refuse("a group is not closed");
          return all;
        }
      case '[': return character(set());
      case '^':
      case '$': refuse("an anchor within the pattern");
      case '*':
      case '+':
      case '?':
      case '{': refuse("a repeat of nothing");
      case '\\': {
        Set s;
        escape(&s);
        return character(s);
      }
      default: return character({{c, c}});
    }
  }
  // Behind a backslash; true for a set such as \d.
  bool escape(Set* out) {
    const uint32_t c = next();
    const auto add = [&](Set s) { out->insert(out->end(), s.begin(), s.end()); };
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
    if (c < 0x80 && (std::isalnum(int(c)))) refuse(std::string("\\") + char(c) + " cannot be expressed");
    add({{c, c}});
    return false;
  }
  void hex(size_t n, Set* out) {
    const std::string text = s_.substr(at_, n);
    if (text.size() != n || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) refuse("an escape by number that is cut off");
    at_ += n;
    const uint32_t c = uint32_t(std::stoul(text, nullptr, 16));
    out->push_back({c, c});
  }
  Set set() {
    const bool negated = take('^');
    Set out;
    while (at_ < s_.size() && s_[at_] != ']') {
      Set low;
      const uint32_t c = next();
      const bool whole = c == '\\' && escape(&low);
      if (c != '\\') low.push_back({c, c});
      if (!whole && at_ + 1 < s_.size() && s_[at_] == '-' && s_[at_ + 1] != ']') {
        ++at_;
        Set high;
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

// The characters of a text, as they stand in a string of JSON; empty when one has to be escaped.
std::vector<std::string> characters(const std::string& s) {
  std::vector<std::string> out;
  for (size_t i = 0; i < s.size();) {
    const auto lead = static_cast<unsigned char>(s[i]);
    if (lead < 0x20 || lead == '"' || lead == '\\') return {};
    const size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    out.push_back(s.substr(i, n));
    i += n;
  }
  return out;
}
std::string in_class(const std::string& character) {
  return character == "]" || character == "[" || character == "^" || character == "-" ? "\\" + character : character;
}

// What follows a beginning that these names share; `here`: the beginning itself is a name.
std::string other_rest(const std::vector<std::vector<std::string>>& names, size_t depth) {
  std::map<std::string, std::vector<std::vector<std::string>>> by_next;
  bool here = false;
  for (const auto& n : names) {
    if (n.size() == depth) here = true;
    else by_next[n[depth]].push_back(n);
  }
  if (by_next.empty()) return std::string(kPlainCharacter) + (here ? "+" : "*");
  std::string none = "[^\"\\\\\\x00-\\x1F", all;
  for (const auto& [next, those] : by_next) {
    none += in_class(next);
    all += " | " + literal(next) + " " + other_rest(those, depth + 1);
  }
  return "(" + none + "] " + kPlainCharacter + "*" + all + (here ? ")" : " | \"\")");
}

}  // namespace

const char* const kPlainCharacter = "plain";

std::string pattern_string(const std::string& pattern) { return Regex(pattern).string(); }

std::string format_string(const std::string& format) {
  // Days as months have them; February has 28, so that no year is wrong.
  const std::string date = "[1-9] [0-9]{3} \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01]) | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\") | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8]))";
  const std::string clock = "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9]";
  const std::string time = clock + " \":\" [0-5] [0-9] (\".\" [0-9]{1,6})? (\"Z\" | [-+] " + clock + ")";
  const std::string byte = "(\"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9]? [0-9])";
  const std::string label = "[a-z] ([a-z0-9\\-]{0,20} [a-z0-9])?";
  const std::string host = label + " (\".\" " + label + "){0,4}";
  const std::map<std::string, std::string> known = {
      {"date", date},
      {"time", time},
      {"date-time", date + " \"T\" " + time},
      {"uuid", "[0-9a-f]{8} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{4} \"-\" [0-9a-f]{12}"},
      {"ipv4", byte + " \".\" " + byte + " \".\" " + byte + " \".\" " + byte},
      {"hostname", host},
      {"email", "[a-z] [a-z0-9_]{0,30} (\".\" [a-z0-9_]{1,20}){0,3} \"@\" " + label + " (\".\" " + label + "){1,4}"},
      {"uri", "\"http\" \"s\"? \"://\" " + host + " (\"/\" [a-zA-Z0-9_.~\\-]{1,40}){0,8} \"/\"?"},
  };
  const auto it = known.find(format);
  if (it == known.end()) throw Refused("format \"" + format + "\" is not known; date, time, date-time, uuid, ipv4, hostname, email and uri are");
  return "\"\\\"\" " + it->second + " \"\\\"\"";
}

std::string other_string(const std::set<std::string>& names) {
  std::vector<std::vector<std::string>> all;
  for (const std::string& n : names)
    if (n.empty() || !characters(n).empty()) all.push_back(characters(n));
  return "\"\\\"\" " + other_rest(all, 0) + " \"\\\"\"";
}

}  // namespace rnl::schema
