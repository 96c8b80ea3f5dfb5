#include "schema/json_text.h"

#include <cstdio>

#include "runnel/json_schema.hpp"
#include "schema/schema_parts.h"

namespace rnl::schema {

// Surrogates come in pairs, so that every string is one of Unicode characters; the pair counts as one. Digits and space
// are bounded: a model that has lost its way would go on with them for ever.
const char* const kJsonRules = R"gbnf(value ::= object | array | string | number | boolean | null
object ::= "{" ws (string ws ":" ws value ("," ws string ws ":" ws value)*)? ws "}"
array ::= "[" ws (value ("," ws value)*)? ws "]"
string ::= "\"" char* "\""
char ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" ([0-9A-CE-Fa-ce-f] hex{3} | [Dd] [0-7] hex{2} | [Dd] [89ABab] hex{2} "\\u" [Dd] [C-Fc-f] hex{2}))
hex ::= [0-9A-Fa-f]
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
ws ::= (" " | "\n" [ \t]{0,20})?
)gbnf";

std::string literal(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    char escaped[8];
    if (c == '"' || c == '\\') out += std::string("\\") + c;
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      std::snprintf(escaped, sizeof escaped, "\\x%02X", unsigned(c));
      out += escaped;
    } else out += c;
  }
  return out + "\"";
}

void refuse(const std::string& where, const std::string& what) { throw Refused(shown(where) + ": " + what); }

std::string shown(std::string s) {
  constexpr size_t kMost = 200;
  for (char& c : s)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  if (s.size() <= kMost) return s;
  size_t from = s.size() - kMost;
  while (from < s.size() && (static_cast<unsigned char>(s[from]) & 0xC0) == 0x80) ++from;
  return "..." + s.substr(from);
}

}  // namespace rnl::schema

namespace rnl {

std::string json_grammar() { return std::string("root ::= value\n") + schema::kJsonRules; }

}  // namespace rnl
