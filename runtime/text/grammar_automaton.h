// A grammar as an automaton over bytes: a deterministic one for each rule that is called, which may call others.
//
// Rules that do not contain themselves are put in where they are used while they are small, so that calls are left for
// recursion. A position in a text is a set of stacks of states, the innermost last: a stack's last state goes on by a
// byte, by a call (which leaves behind the state to return to) or, where the rule may end, by a return. A repeat of
// many times is a call too: what it leaves behind is how often the repeat's body was read so far, as the lowest and the
// highest number that this may be, and the number of the repeat.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel {

struct GrammarTree;

inline constexpr uint32_t kMaxGrammarStates = 60000;

struct GrammarAutomaton {
  static constexpr uint16_t kFirstRepeat = kMaxGrammarStates + 2;  // numbers of repeats; smaller ones are states
  static constexpr uint16_t kOpen = 0xFFFF;                        // no repeat: what lies below is not known
  struct Call {
    uint16_t start;  // the rule's first state
    uint16_t back;   // where it returns to, or a repeat
  };
  struct Repeat {
    uint16_t start;        // the body's first state
    uint16_t back;         // where it goes on
    uint16_t least, most;  // times, at least one
  };
  struct State {
    uint32_t first_call;
    uint16_t call_count;
    bool ends;   // the rule may end here
    bool reads;  // some byte goes on from here
    // Nothing follows but the rule's end: who calls with this state to return to need not come back to it.
    bool is_last() const { return ends && !reads && call_count == 0; }
  };
  uint32_t class_count = 0;
  uint8_t class_of[256];  // bytes that no state tells apart
  Vec<uint16_t> next;     // [states, classes], 0: none
  Vec<State> states;      // state 0 is no state
  Vec<Call> calls;
  Vec<Repeat> repeats;
  uint16_t start = 0;

  uint16_t step(uint16_t state, uint32_t byte_class) const { return next[size_t(state) * class_count + byte_class]; }
  const Repeat* repeat(uint16_t number) const {
    return number >= kFirstRepeat && number != kOpen ? &repeats[number - kFirstRepeat] : nullptr;
  }
};

// kInvalidArgument: the grammar is left-recursive or matches no text (named), or needs more states than there may be
// (with the rule that needs the most).
Status compile_grammar(const GrammarTree& tree, GrammarAutomaton* out);

}  // namespace runnel
