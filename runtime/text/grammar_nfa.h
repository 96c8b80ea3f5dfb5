// A grammar's rules with their bodies spelled out as bytes: what compile_grammar() makes deterministic.
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
    uint32_t other;     // kSplit: the other way; kCall: the rule
  };
  static constexpr uint32_t kNone = UINT32_MAX;
  Vec<Node> nodes;
  Vec<uint32_t> starts;  // by rule; kNone: it is never called
};

Status expand_grammar(const GrammarTree& tree, GrammarNfa* out);

}  // namespace runnel
