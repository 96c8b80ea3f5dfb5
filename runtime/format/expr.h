// Size expressions: parsed once when a model is opened, evaluated when sizes are bound.
//
// Grammar: integers, symbol names, + - * ( ), floordiv(a,b) ceildiv(a,b) mod(a,b) min(a,b) max(a,b). Every intermediate
// value must lie in [-2^40, 2^40] and divisors must be positive; otherwise evaluation fails with a message that quotes
// the expression.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel {

inline constexpr int kMaxSymbols = 64;
inline constexpr int kMaxExprs = 16384;   // different ones of a file; each is compared with all before it
inline constexpr int kMaxExprDepth = 32;  // of parentheses and calls in each other
inline constexpr int64_t kMaxSize = int64_t(1) << 40;
// Most elements of a value or state, and most bytes of a block of memory up to its last part: with addresses of 32 bits
// so few that their bytes, and the end of what begins there, can still be counted.
inline constexpr bool kIsNarrow = sizeof(size_t) == 4;
inline constexpr int64_t kMaxElements = kIsNarrow ? int64_t(1) << 27 : kMaxSize;
inline constexpr size_t kMaxBlock = size_t(uint64_t(1) << (kIsNarrow ? 30 : 40));

struct SymbolValues {
  int64_t v[kMaxSymbols];
};

using ExprId = uint32_t;

class ExprPool {
 public:
  // Names that later expressions may use, in order. They must stay alive as long as the pool.
  Status add_symbol(const char* name);
  int find_symbol(const char* name, size_t length) const;
  const char* symbol_name(int i) const { return symbols_[size_t(i)]; }
  int symbol_count() const { return int(symbols_.size()); }

  // text must stay alive. Equal texts give equal ids. Only symbols below `known_symbols` may occur.
  Result<ExprId> parse(const char* text, int known_symbols);
  // The expression with others in the place of symbols: by_symbol has one for each, or kSame. Fails where that becomes
  // too long to be evaluated often.
  static constexpr ExprId kSame = UINT32_MAX;
  Result<ExprId> substitute(ExprId id, const ExprId* by_symbol);
  Result<ExprId> constant(int64_t value);
  Result<int64_t> evaluate(ExprId id, const SymbolValues& values) const;
  // The symbol when the expression is one symbol alone, else -1.
  int as_symbol(ExprId id) const;
  bool depends_on(ExprId id, int symbol) const;
  const char* text(ExprId id) const { return roots_[id].text; }
  size_t size() const { return roots_.size(); }

  enum class Kind : uint8_t { kConstant, kSymbol, kAdd, kSub, kMul, kFloorDiv, kCeilDiv, kMod, kMin, kMax };

 private:
  struct Node {
    Kind kind;
    uint16_t depth, weight;  // levels of nodes, and nodes, counted as often as they are evaluated
    int32_t a, b;
    int64_t value;
  };
  struct Root {
    const char* text;
    int32_t node;
    uint64_t hash;
  };
  struct Parser;
  Result<int32_t> add_node(Kind kind, int32_t a, int32_t b, int64_t value);
  Result<ExprId> add_root(const char* text, int32_t node, uint64_t hash);
  Result<int32_t> substitute_node(int32_t node, const ExprId* by_symbol);
  Status evaluate_node(int32_t node, const SymbolValues& values, int64_t* out) const;
  bool node_depends(int32_t node, int symbol) const;

  Vec<const char*> symbols_;
  Vec<Node> nodes_;
  Vec<Root> roots_;
};

}  // namespace runnel
