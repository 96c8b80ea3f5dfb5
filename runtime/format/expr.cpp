#include "format/expr.h"

#include <algorithm>
#include <cstring>

#include "base/xxh64.h"

namespace runnel {
namespace {

constexpr size_t kMaxText = 512;
constexpr uint16_t kMaxDepth = 512, kMaxWeight = 1024;  // of nodes; a text has fewer than its characters
static_assert(kMaxExprDepth == 32);                     // as the message says

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

}  // namespace

struct ExprPool::Parser {
  ExprPool& pool;
  const char* text;
  int known_symbols;
  const char* p;
  int depth = 0;

  Status fail(const char* why) {
    return Status::make(Code::kInvalidModel, "size expression \"%.80s\": %s at character %d", text, why,
                        int(p - text) + 1);
  }
  void skip() {
    while (*p == ' ') ++p;
  }
  Result<int32_t> sum() {
    if (++depth > kMaxExprDepth) return fail("nested more than 32 deep");
    RNL_ASSIGN(left, product());
    for (skip(); *p == '+' || *p == '-'; skip()) {
      const Kind kind = *p++ == '+' ? Kind::kAdd : Kind::kSub;
      RNL_ASSIGN(right, product());
      RNL_ASSIGN(node, pool.add_node(kind, left, right, 0));
      left = node;
    }
    --depth;
    return left;
  }
  Result<int32_t> product() {
    RNL_ASSIGN(left, atom());
    for (skip(); *p == '*'; skip()) {
      ++p;
      RNL_ASSIGN(right, atom());
      RNL_ASSIGN(node, pool.add_node(Kind::kMul, left, right, 0));
      left = node;
    }
    return left;
  }
  Result<int32_t> atom() {
    skip();
    if (*p == '(') {
      ++p;
      RNL_ASSIGN(inner, sum());
      skip();
      if (*p != ')') return fail("missing )");
      ++p;
      return inner;
    }
    if (*p >= '0' && *p <= '9') {
      int64_t v = 0;
      while (*p >= '0' && *p <= '9') {
        v = v * 10 + (*p++ - '0');
        if (v > kMaxSize) return fail("number too large");
      }
      return pool.add_node(Kind::kConstant, -1, -1, v);
    }
    const char* begin = p;
    while (is_name_char(*p)) ++p;
    const size_t length = size_t(p - begin);
    if (length == 0) return fail(*p ? "unexpected character" : "unexpected end");
    skip();
    if (*p == '(') return function(begin, length);
    const int symbol = pool.find_symbol(begin, length);
    if (symbol < 0 || symbol >= known_symbols) {
      p = begin;
      return fail("unknown symbol");
    }
    return pool.add_node(Kind::kSymbol, -1, -1, symbol);
  }
  Result<int32_t> function(const char* name, size_t length) {
    struct Row {
      const char* name;
      Kind kind;
    };
    static constexpr Row kFunctions[] = {{"floordiv", Kind::kFloorDiv},
                                         {"ceildiv", Kind::kCeilDiv},
                                         {"mod", Kind::kMod},
                                         {"min", Kind::kMin},
                                         {"max", Kind::kMax}};
    for (const Row& row : kFunctions) {
      if (std::strlen(row.name) != length || std::memcmp(row.name, name, length) != 0) continue;
      ++p;
      RNL_ASSIGN(a, sum());
      skip();
      if (*p != ',') return fail("missing comma");
      ++p;
      RNL_ASSIGN(b, sum());
      skip();
      if (*p != ')') return fail("missing )");
      ++p;
      return pool.add_node(row.kind, a, b, 0);
    }
    p = name;
    return fail("unknown function");
  }
};

Status ExprPool::add_symbol(const char* name) {
  if (symbols_.size() >= kMaxSymbols) return Status::make(Code::kInvalidModel, "more than %d symbols", kMaxSymbols);
  const size_t length = std::strlen(name);
  bool good = length > 0 && length <= 64 && !(name[0] >= '0' && name[0] <= '9');
  for (size_t i = 0; i < length; ++i) good = good && is_name_char(name[i]);
  if (!good) return Status::make(Code::kInvalidModel, "\"%.80s\" is not a symbol name", name);
  if (find_symbol(name, length) >= 0) return Status::make(Code::kInvalidModel, "symbol \"%s\" is declared twice", name);
  return symbols_.push(name);
}

int ExprPool::find_symbol(const char* name, size_t length) const {
  for (size_t i = 0; i < symbols_.size(); ++i)
    if (std::strlen(symbols_[i]) == length && std::memcmp(symbols_[i], name, length) == 0) return int(i);
  return -1;
}

Result<ExprId> ExprPool::parse(const char* text, int known_symbols) {
  const size_t length = std::strlen(text);
  if (length > kMaxText)
    return Status::make(Code::kInvalidModel, "size expression of %zu characters, at most %zu", length, kMaxText);
  const uint64_t hash = xxh64(text, length) + uint64_t(known_symbols);
  for (size_t i = 0; i < roots_.size(); ++i)
    if (roots_[i].hash == hash && std::strcmp(roots_[i].text, text) == 0) return ExprId(i);
  Parser parser{*this, text, known_symbols, text};
  RNL_ASSIGN(node, parser.sum());
  parser.skip();
  if (*parser.p) return parser.fail("unexpected character");
  return add_root(text, node, hash);
}

Result<int32_t> ExprPool::add_node(Kind kind, int32_t a, int32_t b, int64_t value) {
  uint32_t depth = 1, weight = 1;
  for (const int32_t part : {a, b}) {
    if (part < 0) continue;
    depth = std::max<uint32_t>(depth, nodes_[size_t(part)].depth + 1u);
    weight += nodes_[size_t(part)].weight;
  }
  if (depth > kMaxDepth || weight > kMaxWeight)
    return Status::make(Code::kUnsupported, "a size expression becomes too long");
  RNL_TRY(nodes_.push(Node{kind, uint16_t(depth), uint16_t(weight), a, b, value}));
  return int32_t(nodes_.size() - 1);
}

Result<ExprId> ExprPool::add_root(const char* text, int32_t node, uint64_t hash) {
  if (roots_.size() == size_t(kMaxExprs))
    return Status::make(Code::kUnsupported, "more than %d different size expressions", kMaxExprs);
  RNL_TRY(roots_.push(Root{text, node, hash}));
  return ExprId(roots_.size() - 1);
}

Result<ExprId> ExprPool::constant(int64_t value) {
  RNL_ASSIGN(node, add_node(Kind::kConstant, -1, -1, value));
  return add_root("a constant", node, 0);
}

Result<int32_t> ExprPool::substitute_node(int32_t index, const ExprId* by_symbol) {
  const Node n = nodes_[size_t(index)];
  if (n.kind == Kind::kConstant) return index;
  if (n.kind == Kind::kSymbol) {
    const ExprId other = by_symbol[n.value];
    return other == kSame ? index : roots_[other].node;
  }
  RNL_ASSIGN(a, substitute_node(n.a, by_symbol));
  RNL_ASSIGN(b, substitute_node(n.b, by_symbol));
  if (a == n.a && b == n.b) return index;
  return add_node(n.kind, a, b, 0);
}

Result<ExprId> ExprPool::substitute(ExprId id, const ExprId* by_symbol) {
  RNL_ASSIGN(node, substitute_node(roots_[id].node, by_symbol));
  if (node == roots_[id].node) return id;
  return add_root(roots_[id].text, node, 0);
}

Status ExprPool::evaluate_node(int32_t index, const SymbolValues& values, int64_t* out) const {
  const Node& n = nodes_[size_t(index)];
  if (n.kind == Kind::kConstant) return *out = n.value, Status::ok();
  if (n.kind == Kind::kSymbol) return *out = values.v[n.value], Status::ok();
  int64_t a, b;
  RNL_TRY(evaluate_node(n.a, values, &a));
  RNL_TRY(evaluate_node(n.b, values, &b));
  const bool divides = n.kind == Kind::kFloorDiv || n.kind == Kind::kCeilDiv || n.kind == Kind::kMod;
  if (divides && b <= 0) return Status::make(Code::kInvalidModel, "division by %lld", static_cast<long long>(b));
  int64_t floor = 0;
  if (divides) floor = a / b - (a % b < 0 ? 1 : 0);
  bool overflow = false;
  switch (n.kind) {
    case Kind::kAdd: *out = a + b; break;
    case Kind::kSub: *out = a - b; break;
    case Kind::kMul: overflow = __builtin_mul_overflow(a, b, out); break;
    case Kind::kFloorDiv: *out = floor; break;
    case Kind::kCeilDiv: *out = floor + (a - floor * b > 0 ? 1 : 0); break;
    case Kind::kMod: *out = a - floor * b; break;
    case Kind::kMin: *out = a < b ? a : b; break;
    default: *out = a > b ? a : b; break;
  }
  if (overflow || *out > kMaxSize || *out < -kMaxSize) return Status::make(Code::kInvalidModel, "value out of range");
  return Status::ok();
}

Result<int64_t> ExprPool::evaluate(ExprId id, const SymbolValues& values) const {
  int64_t v = 0;
  Status s = evaluate_node(roots_[id].node, values, &v);
  if (!s.is_ok()) return std::move(s).with_context("size expression \"%.80s\"", roots_[id].text);
  return v;
}

int ExprPool::as_symbol(ExprId id) const {
  const Node& n = nodes_[size_t(roots_[id].node)];
  return n.kind == Kind::kSymbol ? int(n.value) : -1;
}

bool ExprPool::node_depends(int32_t index, int symbol) const {
  const Node& n = nodes_[size_t(index)];
  if (n.kind == Kind::kConstant) return false;
  if (n.kind == Kind::kSymbol) return n.value == symbol;
  return node_depends(n.a, symbol) || node_depends(n.b, symbol);
}

bool ExprPool::depends_on(ExprId id, int symbol) const { return node_depends(roots_[id].node, symbol); }

}  // namespace runnel
