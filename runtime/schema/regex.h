// Regular expressions (ECMA-262) over whole texts: as a tree, as an expression of a grammar, and several of them at
// once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rnl::schema {

// Code points: ranges with both ends included, ascending and apart.
using CodeSet = std::vector<std::pair<uint32_t, uint32_t>>;

struct Regex {
  enum class Kind : uint8_t { kSet, kSequence, kChoice, kRepeat };
  static constexpr uint64_t kUnbounded = UINT64_MAX;
  Kind kind = Kind::kSequence;
  CodeSet set;               // kSet: never empty
  std::vector<Regex> parts;  // kRepeat: one
  uint64_t least = 0, most = 0;
};
struct Lengths {
  uint64_t least = 0, most = Regex::kUnbounded;  // characters
};
// A text is one of `regex`, or is none where negated.
struct Condition {
  Regex regex;
  bool negated = false;
};

// The conditions of a pattern that may match anywhere in a text, as it says; the first is not negated.
std::vector<Condition> parse_pattern(const std::string& pattern);
Lengths lengths_of(const Regex& r);
// The regular expression of those texts that have such lengths; false where the tree has no single place for it.
bool set_lengths(Regex* r, const Lengths& l);
// An expression of a grammar.
std::string text_of(const Regex& r);
bool matches(const std::vector<Condition>& all, const std::string& text);

enum class Together : uint8_t { kDone, kNoText, kTooLarge };
// An expression of the texts that meet all conditions, by rules named `name` and a number. A longer upper length than
// fits is cut.
Together intersect(const std::vector<Condition>& all, Lengths l, const std::string& name, std::string* expression,
                   std::string* rules);

}  // namespace rnl::schema
