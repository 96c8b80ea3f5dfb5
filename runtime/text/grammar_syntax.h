// The text of a grammar, in the notation of GBNF (rules of literals, character classes, groups, alternatives and
// repeats), as a tree.
//
//   root  ::= "yes" | "no" | number      the answer as a whole; every rule that is used must be there, in any order
//   number ::= "-"? [0-9]+ ("." [0-9]{1,4})?
//   "..."           text; \" \\ \n \r \t, \xHH, \uHHHH and \UHHHHHHHH are characters
//   [a-z_] [^"\\]   one character of these, or any other; \] \[ \- \^ and the escapes above stand for themselves
//   .               any character
//   ( ) |           groups and alternatives; an alternative may be empty
//   * + ? {m} {m,} {m,n}   repeats of what stands before
//   # to the end of the line is a comment. A line may end anywhere: a rule goes on until the next `name ::=`.
// A comment on a line of its own is the note of the rule behind it: errors that name the rule tell it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel {

inline constexpr uint32_t kUnbounded = UINT32_MAX;
inline constexpr int kMaxGrammarNesting = 100;      // of groups
inline constexpr uint32_t kMaxGrammarHeight = 300;  // of nodes, groups and repeats: what walks over a tree calls itself
                                                    // so often

struct GrammarNode {
  enum class Kind : uint8_t {
    kLiteral,   // bytes [first, first + count)
    kClass,     // one character of ranges [first, first + count)
    kSequence,  // children [first, first + count), one after the other; none: the empty text
    kChoice,    // one of the children [first, first + count)
    kRepeat,    // node `first`, `least` to `most` times
    kRule,      // rule number `first`
  };
  Kind kind = Kind::kSequence;
  uint32_t first = 0, count = 0;
  uint32_t least = 0, most = 0;
};

struct CodeRange {
  uint32_t low, high;  // code points, both included
};

struct GrammarRule {
  const char* name;  // in the text that was parsed
  uint32_t size;
  uint32_t line;  // where it was first named
  uint32_t node;
  bool defined;
  const char* note;  // the comment before it, without '#'
  uint32_t note_size;
};

struct GrammarTree {
  Vec<GrammarNode> nodes;
  Vec<uint32_t> children;  // numbers of nodes
  Vec<CodeRange> ranges;   // ascending and apart within a class
  Vec<uint8_t> bytes;
  Vec<GrammarRule> rules;
  uint32_t root = 0;  // the rule of that name
};

// kInvalidArgument names the line and what is wrong there. The tree refers to the text.
Status parse_grammar(const char* text, size_t size, GrammarTree* out);

}  // namespace runnel
