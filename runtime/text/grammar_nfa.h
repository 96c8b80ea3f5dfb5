// A grammar's rules with their bodies spelled out as bytes: what compile_grammar() makes deterministic. Repeats are
// spelled out too where they are small; what others repeat is called like a rule, and counted.
#pragma once

#include <cstdint>

#include "base/vec.h"
#include "text/grammar_syntax.h"

namespace runnel {

struct GrammarNfa {
  enum class Kind : uint8_t { kSplit, kBytes, kCall, kEnd };
  struct Node {
    Kind kind;
    uint8_t low, high;  // kBytes
    uint32_t next;      // kNone: nothing
    uint32_t other;     // kSplit: the other way; kCall: the rule, or kCounted with the place in `counts`
    uint32_t rule;      // in whose text it stands
  };
  struct Count {
    uint32_t rule;         // what is repeated; it never matches the empty text
    uint16_t least, most;  // times, at least one
  };
  static constexpr uint32_t kNone = UINT32_MAX, kCounted = 1u << 31;
  Vec<Node> nodes;
  Vec<uint32_t> starts;  // by rule, then by body of a counted repeat; kNone: it is never called
  Vec<Count> counts;
};

// kInvalidArgument for a grammar that takes too much: how much of it, and which rule takes the most. parts: by rule.
Status too_large(const GrammarTree& tree, const Vec<uint32_t>& parts, const char* what);
Status expand_grammar(const GrammarTree& tree, GrammarNfa* out);

}  // namespace runnel
