// Which tokens may come next in a text that must follow a grammar.
//
// A position (a set of stacks, see grammar_automaton.h) is computed once, gets a number, and its steps by byte are
// remembered, so that a token costs a few look-ups a byte. The tokens that a position allows as a whole are worked out
// over the vocabulary in order, only when somebody asks, and are kept by the innermost states of the stacks: what lies
// deeper is the same for nearly every token. The few tokens that reach deeper are looked at each time. Counts that no
// token can bring to their bounds are the same to it, so that a long string has one set of tokens but for its beginning
// and its end. Where any plain character may follow, as in a string, plain pieces are not walked over (token_order.h).
//
// A grammar is shared by sessions and threads; calls lock it. What a stream remembers is a GrammarPosition, plain data.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/hash_index.h"
#include "base/status.h"
#include "base/vec.h"
#include "text/grammar_automaton.h"
#include "text/token_order.h"

namespace runnel {

inline constexpr uint32_t kGrammarCells = 448;  // of a position: what bounds the nesting
inline constexpr uint32_t kMaxStacks = 256;     // of a position, with those on the way to it
inline constexpr size_t kMostListed = 2048;     // tokens that list() gives

// Where a text stands. Stacks in ascending order, the outermost state first: how many states a stack has in common with
// the one before, how many follow, and these. The text cannot go on where there is none. (A counted repeat stands there
// as three cells, see grammar_automaton.h.)
struct GrammarPosition {
  uint16_t may_end;  // 1: the text may end here
  uint16_t size;     // cells in use
  uint16_t cells[kGrammarCells];
};

class Grammar {
 public:
  // order outlives the grammar. Errors as in parse_grammar() and compile_grammar().
  static Result<std::unique_ptr<Grammar>> create(const TokenOrder& order, const char* text, size_t size);

  // Of the grammar's text: never 0.
  uint64_t fingerprint() const { return fingerprint_; }
  void start(GrammarPosition* out) const;
  // Whether the token's bytes can come next. End tokens can where the text may end.
  Result<bool> allows(const GrammarPosition& at, int32_t token);
  // Moves on by a token that allows() lets through and that is no end token; else kInvalidArgument, and `at` stays.
  Status accept(GrammarPosition* at, int32_t token);
  // Sets the logits of all tokens that cannot come next to minus infinity; vocab logits.
  Status mask(const GrammarPosition& at, float* logits, int32_t vocab);
  // All tokens that can come next, ascending, when they are few: how many were written to ids, which has room for
  // kMostListed; else -1. quickly: also -1 where finding out would take a walk over much of the vocabulary.
  Result<int32_t> list(const GrammarPosition& at, int32_t* ids, bool quickly = false);
  // accept() for bytes, for tests.
  Result<bool> accept_bytes(GrammarPosition* at, const uint8_t* bytes, size_t size);
  // Whether texts were refused because their nesting or their readings outgrew a position.
  bool was_limited() const { return limited_.load(std::memory_order_relaxed); }
  size_t cache_bytes() const;
  const TokenOrder& order() const { return *order_; }

 private:
  struct Known {
    uint32_t first;  // of cells_: how many states, then these, for each stack
    uint32_t size;
    uint8_t may_end;
    uint8_t open;     // a return below the states that were kept: anything may follow
    int32_t mask;     // number in masks_, -1: not worked out
    int32_t context;  // the position that masks are kept by, -1: not looked up
  };
  struct Mask {
    uint32_t plain = 0;  // plain pieces of at most so many characters
    Vec<uint64_t> bits;  // and these, by token; empty: `few` are all, ascending
    Vec<int32_t> few;
    Vec<uint32_t> deeper;  // entries of the order that have to be looked at each time: of other, then of plain
    Status add(int32_t id, size_t words);
  };

  Status make_room();
  // Numbers of positions; 0 is where no text leads to. kStateMismatch for one that is none of this grammar's.
  Result<int32_t> number_of(const GrammarPosition& at);
  Result<int32_t> intern(bool may_end, bool open);
  Result<int32_t> step_class(int32_t at, uint32_t byte_class) {
    const int32_t known = next_[size_t(at) * automaton_.class_count + byte_class];
    if (known >= 0) return known;
    return make_step(at, byte_class);
  }
  Result<int32_t> step(int32_t at, uint8_t byte) { return step_class(at, automaton_.class_of[byte]); }
  Result<int32_t> make_step(int32_t at, uint32_t byte_class);
  Result<int32_t> walk(int32_t at, const uint8_t* bytes, size_t size);
  Result<int32_t> context_of(int32_t at);
  bool is_stack(const uint16_t* cells, uint32_t depth) const;
  uint32_t inner_cells(const uint16_t* cells, uint32_t depth) const;
  void forget_counts(uint16_t* cells, uint32_t depth) const;
  bool join(uint16_t* a, const uint16_t* b, uint32_t depth) const;
  Status settle(bool* may_end, bool* open);
  Status take_back(const uint16_t* below, uint32_t depth, bool* may_end, bool* open);
  size_t sort_stacks(size_t count);
  Status add_stack(const uint16_t* states, uint32_t depth, const uint16_t* more, uint32_t more_count);
  Result<const Mask*> mask_of(int32_t context);
  Result<bool> is_quick(int32_t context);
  Status make_mask(int32_t at, Mask* out);
  Result<int32_t> plain_run(int32_t at);
  Status walk_pieces(int32_t at, const TokenOrder::Pieces& pieces, uint32_t number, Mask* out);
  Result<int32_t> walk_entry(const TokenOrder::Pieces& pieces, size_t entry, size_t* alive, size_t* open_at);
  Status look_deeper(int32_t at, const Mask& mask);
  void write(int32_t at, GrammarPosition* out) const;

  GrammarAutomaton automaton_;
  const TokenOrder* order_ = nullptr;
  uint32_t longest_ = 0;  // token, bytes: of what is repeated no token holds more
  uint64_t fingerprint_ = 0;
  GrammarPosition start_{};
  std::mutex mutex_;
  // Everything below is remembered work and may be dropped at any time.
  Vec<Known> known_;
  Vec<uint16_t> cells_;
  Vec<int32_t> next_;  // [known_, classes], -1: not worked out
  HashIndex index_;
  Vec<Mask> masks_;
  size_t mask_bytes_ = 0;
  Vec<int32_t> deeper_;  // tokens of a mask's `deeper` that can come next
  struct Kept {
    int32_t id;
    float logit;
  };
  Vec<Kept> kept_;     // logits that a mask leaves
  Vec<int32_t> path_;  // positions along the bytes of an entry
  // Stacks under construction: where each stands in work_, and its depth.
  struct Stack {
    uint32_t first;
    uint16_t depth;
    bool stays;  // its last state reads a byte
  };
  Vec<uint16_t> work_;
  Vec<Stack> stacks_;
  Vec<uint16_t> sorted_;
  std::atomic<bool> limited_{false};
};

}  // namespace runnel
