// Grammar expressions for single values: numbers within bounds, strings of a pattern or a format. Internal to the
// library.
#pragma once

#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "schema/json_text.h"
#include "schema/regex.h"

namespace rnl::schema {

// What the schema asks for and a grammar cannot express, or what is wrong in it.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse(const std::string& where, const std::string& what);
// Text of the schema as it stands in messages: at most 200 bytes, the last ones, in one line.
std::string shown(std::string s);

using Expression = std::optional<std::string>;  // empty: no value matches

struct Bound {
  double value = 0;
  bool excluded = false;
};
// Without bounds on a side, 16 digits bound it.
Expression integer_between(const std::optional<Bound>& low, const std::optional<Bound>& high);
Expression number_between(const std::optional<Bound>& low, const std::optional<Bound>& high);

// The rule of one character within a JSON string, but for escapes by number; and an expression of nothing at all.
extern const char* const kPlainCharacter;
inline constexpr char kNoText[] = "[^\\x00-\\U0010FFFF]";
inline constexpr uint64_t kMaxLength = 100000;  // a longer maxLength is cut to this: fewer texts, none wrong

// What a string has to be, all at once.
struct StringAsk {
  std::vector<std::string> patterns;
  std::string format;  // empty: none
  Lengths lengths;
};
bool is_format(const std::string& format);
// A string in quotes. Rules that it needs, named `name` and more, are added to *rules; *not_enforced: what they do not
// ensure.
Expression string_text(const StringAsk& ask, const std::string& name, std::string* rules, std::string* not_enforced);
// A string in quotes that is none of these.
std::string other_string(const std::set<std::string>& names, const std::string& name, std::string* rules);

}  // namespace rnl::schema
