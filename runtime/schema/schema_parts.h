// Grammar expressions for single values: numbers within bounds, strings of a pattern or a format. Internal to the library.
#pragma once

#include <optional>
#include <set>
#include <stdexcept>
#include <string>

#include "schema/json_text.h"

namespace rnl::schema {

// What the schema asks for and a grammar cannot express, or what is wrong in it.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Bound {
  double value = 0;
  bool excluded = false;
};
// Expressions; empty when there is no such number. Without bounds on a side, 16 digits bound it.
std::optional<std::string> integer_between(const std::optional<Bound>& low, const std::optional<Bound>& high);
std::optional<std::string> number_between(const std::optional<Bound>& low, const std::optional<Bound>& high);

// One character within a JSON string, but for escapes by number; and any number of them.
extern const char* const kPlainCharacter;
// A string in quotes that a regular expression (ECMA-262) matches somewhere, as it says.
std::string pattern_string(const std::string& pattern);
// A string in quotes of a format that JSON Schema names.
std::string format_string(const std::string& format);
// A string in quotes that is none of these.
std::string other_string(const std::set<std::string>& names);

}  // namespace rnl::schema
