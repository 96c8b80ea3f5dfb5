#include <algorithm>
#include <map>
#include <vector>

#include "schema/regex.h"
#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

constexpr uint64_t kShort = 60;  // characters: a name between the points of a host may have so many

// Formats as patterns; all others are annotations. They hold the usual values of the format, not all.
const std::map<std::string, std::string>& formats() {
  static const std::map<std::string, std::string> known = [] {
    // Days as months have them; February has 28, so that no year is wrong.
    const std::string date =
        "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|"
        "2[0-8]))";
    const std::string clock = "([01][0-9]|2[0-3]):[0-5][0-9]";
    const std::string time = clock + ":[0-5][0-9](\\.[0-9]{1,6})?(Z|[-+]" + clock + ")";
    const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    const std::string label = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?";
    const std::string host = label + "(\\." + label + "){0,4}";
    return std::map<std::string, std::string>{
        {"date", date},
        {"time", time},
        {"date-time", date + "T" + time},
        {"duration", "P([0-9]{1,6}D(T[0-9]{1,6}S)?|T([0-9]{1,6}H)?[0-9]{1,6}M|T[0-9]{1,6}S|[0-9]{1,6}W)"},
        {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
        {"ipv4", byte + "(\\." + byte + "){3}"},
        {"ipv6", "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}"},
        {"hostname", host},
        {"email", "[a-z][a-z0-9_]{0,30}(\\.[a-z0-9_]{1,20}){0,3}@" + label + "(\\." + label + "){1,4}"},
        {"uri", "https?://" + host + "(/[a-zA-Z0-9_.~-]{1,40}){0,8}/?"},
    };
  }();
  return known;
}

std::string in_quotes(const std::string& expression) { return "\"\\\"\" " + expression + " \"\\\"\""; }

// Long repeats without an upper bound: a format's are there to end it, which a short text's length does.
Regex loosened(Regex r) {
  if (r.kind == Regex::Kind::kRepeat && r.most > 8) r.most = Regex::kUnbounded;
  for (Regex& part : r.parts) part = loosened(std::move(part));
  return r;
}

Together string_of(std::vector<Condition> all, const Lengths& l, const std::string& name, std::string* expression,
                   std::string* rules) {
  if (all.size() == 1 && set_lengths(&all[0].regex, l)) {
    *expression = "(" + text_of(all[0].regex) + ")";
    const Lengths left = lengths_of(all[0].regex);
    return left.least > left.most ? Together::kNoText : Together::kDone;
  }
  return intersect(all, l, name, expression, rules);
}

// The characters of a text; empty when one has to be escaped in a string of JSON.
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

// Characters that are not escaped: the names below cannot be written in another way.
constexpr char kUnescaped[] = "[^\"\\\\\\x00-\\x1F]";

using Names = std::vector<std::vector<std::string>>;
// The rules of what follows the beginning of `depth` characters that names [from, to), which are in order, share.
// Returns the rule's name.
std::string other_rest(const Names& names, size_t from, size_t to, size_t depth, const std::string& name,
                       std::string* rules) {
  // The beginning itself may be a name.
  const bool here = names[from].size() == depth;
  from += here;
  if (from == to) return std::string(kUnescaped) + "+";
  std::string none = "[^\"\\\\\\x00-\\x1F", ways;
  for (size_t i = from; i < to;) {
    size_t end = i;
    while (end < to && names[end][depth] == names[i][depth]) ++end;
    none += in_class(names[i][depth]);
    ways += " | " + literal(names[i][depth]) + " " +
            other_rest(names, i, end, depth + 1, name + "n" + std::to_string(i - from), rules);
    i = end;
  }
  *rules += name + " ::= " + none + "] " + kUnescaped + "*" + ways + (here ? "\n" : " | \"\"\n");
  return name;
}

}  // namespace

const char* const kPlainCharacter = "plain";

bool is_format(const std::string& format) { return formats().count(format) > 0; }

Expression string_text(const StringAsk& ask, const std::string& name, std::string* rules, std::string* not_enforced) {
  std::vector<Condition> all;
  for (const std::string& p : ask.patterns)
    for (Condition& c : parse_pattern(p)) all.push_back(std::move(c));
  std::string expression;
  if (const auto format = formats().find(ask.format); format != formats().end()) {
    std::vector<Condition> with = parse_pattern("^(" + format->second + ")$");
    Lengths l = ask.lengths;
    if (all.empty() && l.least <= kShort && !set_lengths(&with[0].regex, l)) {
      with[0].regex = loosened(with[0].regex);
      l.most = std::min(l.most, kShort);
    }
    with.insert(with.end(), all.begin(), all.end());
    if (string_of(with, l, name, &expression, rules) == Together::kDone) return in_quotes(expression);
    // A format is an annotation; what the schema asks for beside it is none.
    *not_enforced = "format \"" + ask.format + "\" beside pattern or lengths";
    rules->clear();
  }
  if (all.empty()) {
    const std::string most = ask.lengths.most == Regex::kUnbounded
                                 ? ""
                                 : std::to_string(std::max(ask.lengths.least, std::min(ask.lengths.most, kMaxLength)));
    return in_quotes(std::string(kPlainCharacter) + "{" + std::to_string(ask.lengths.least) + "," + most + "}");
  }
  switch (string_of(all, ask.lengths, name, &expression, rules)) {
    case Together::kDone: return in_quotes(expression);
    case Together::kNoText: return std::nullopt;
    case Together::kTooLarge: break;
  }
  throw Refused("patterns and lengths together are too large for a grammar");
}

std::string other_string(const std::set<std::string>& names, const std::string& name, std::string* rules) {
  Names all;
  for (const std::string& n : names)
    if (n.empty() || !characters(n).empty()) all.push_back(characters(n));
  std::sort(all.begin(), all.end());
  return in_quotes(all.empty() ? std::string(kUnescaped) + "*" : other_rest(all, 0, all.size(), 0, name, rules));
}

}  // namespace rnl::schema
