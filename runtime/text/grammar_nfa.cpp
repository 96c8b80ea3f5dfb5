#include "text/grammar_nfa.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace runnel {
namespace {

constexpr uint32_t kMaxNodes = 1000000;
constexpr uint64_t kSmallRule = 400;    // nodes of a rule that is put in wherever it is used
constexpr uint64_t kSmallRepeat = 400;  // nodes of a repeat that is spelled out
constexpr uint64_t kCalls = 40;         // what a body counts that calls rules
constexpr uint32_t kMostCounted = 50000;
constexpr int kMaxDepth = 300;  // of trees within trees
constexpr int kMostPasses = 50;

using Kind = GrammarNode::Kind;

class Expander {
 public:
  Expander(const GrammarTree& tree, GrammarNfa* out) : tree_(tree), out_(*out) {}

  Status expand() {
    RNL_TRY(measure());
    RNL_TRY(out_.starts.assign(tree_.rules.size()));
    for (uint32_t& s : out_.starts) s = GrammarNfa::kNone;
    RNL_TRY(wanted_.push(tree_.root));
    // Expanding a rule may want others.
    for (size_t i = 0; i < wanted_.size(); ++i) {
      const uint32_t rule = wanted_[i], rules = uint32_t(tree_.rules.size());
      if (out_.starts[rule] != GrammarNfa::kNone) continue;
      rule_ = rule < rules ? rule : bodies_[rule - rules].rule;
      RNL_ASSIGN(end, add(GrammarNfa::Kind::kEnd, GrammarNfa::kNone, 0));
      RNL_ASSIGN(start, build(rule < rules ? tree_.rules[rule].node : bodies_[rule - rules].node, end, 0));
      out_.starts[rule] = start;
    }
    return Status::ok();
  }

 private:
  // Sizes of rules that contain no recursion, uses of all.
  Status measure() {
    const size_t n = tree_.rules.size();
    RNL_TRY(sizes_.assign(n));
    RNL_TRY(uses_.assign(n));
    RNL_TRY(never_empty_.assign(n));
    RNL_TRY(body_of_.assign(tree_.nodes.size()));
    bool more = true;
    for (int pass = 0; pass < kMostPasses && more; ++pass) {
      more = false;
      for (size_t i = n; i-- > 0;)
        if (!never_empty_[i] && !may_be_empty(tree_.rules[i].node)) never_empty_[i] = more = true;
    }
    for (uint64_t& s : sizes_) s = kUnknown;
    for (const GrammarNode& node : tree_.nodes)
      if (node.kind == Kind::kRule) ++uses_[node.first];
    // A rule whose rules are all measured can be measured; what never can be is recursive or uses recursion. Rules
    // usually stand before those that they use; what some passes leave out is called.
    bool changed = true;
    for (int pass = 0; pass < kMostPasses && changed; ++pass) {
      changed = false;
      for (size_t i = n; i-- > 0;) {
        if (sizes_[i] != kUnknown) continue;
        const uint64_t size = size_of(tree_.rules[i].node);
        if (size == kUnknown) continue;
        sizes_[i] = size;
        changed = true;
      }
    }
    return Status::ok();
  }
  // False only where no text of the node is empty. Rules that were not looked at may be.
  bool may_be_empty(uint32_t number) const {
    const GrammarNode& node = tree_.nodes[number];
    if (node.kind == Kind::kLiteral) return node.count == 0;
    if (node.kind == Kind::kClass) return false;
    if (node.kind == Kind::kRule) return !never_empty_[node.first];
    if (node.kind == Kind::kRepeat) return node.least == 0 || may_be_empty(node.first);
    for (uint32_t i = 0; i < node.count; ++i)
      if (may_be_empty(tree_.children[node.first + i]) == (node.kind == Kind::kChoice))
        return node.kind == Kind::kChoice;
    return node.kind == Kind::kSequence;
  }
  // Whether a repeat is counted; one: the size of what it repeats.
  bool is_counted(const GrammarNode& node, uint64_t one) const {
    const uint64_t times = node.most == kUnbounded ? node.least : node.most;
    return times > 1 && (one < kUnknown ? one + 1 : kCalls) * times > kSmallRepeat && !may_be_empty(node.first);
  }
  uint64_t size_of(uint32_t number) const {
    const GrammarNode& node = tree_.nodes[number];
    uint64_t size = 1;
    switch (node.kind) {
      case Kind::kLiteral: return node.count;
      case Kind::kClass: return 4 * uint64_t(node.count);
      case Kind::kRule:
        return sizes_[node.first] != kUnknown && sizes_[node.first] > kSmallRule && uses_[node.first] > 1
                   ? 1
                   : sizes_[node.first];
      case Kind::kRepeat: {
        const uint64_t one = size_of(node.first),
                       times = node.most == kUnbounded ? std::max(node.least, 1u) : node.most;
        if (is_counted(node, one) && (node.most != kUnbounded || one < kUnknown))
          return node.most == kUnbounded ? one + 2 : 2;
        return one == kUnknown ? kUnknown : std::min<uint64_t>((one + 1) * times, kUnknown - 1);
      }
      default: break;
    }
    for (uint32_t i = 0; i < node.count; ++i) {
      const uint64_t one = size_of(tree_.children[node.first + i]);
      if (one == kUnknown) return kUnknown;
      size = std::min<uint64_t>(size + one, kUnknown - 1);
    }
    return size;
  }

  Result<uint32_t> add(GrammarNfa::Kind kind, uint32_t next, uint32_t other, uint8_t low = 0, uint8_t high = 0) {
    if (out_.nodes.size() == kMaxNodes) {
      Vec<uint32_t> parts;
      RNL_TRY(parts.assign(tree_.rules.size()));
      for (const GrammarNfa::Node& n : out_.nodes) ++parts[n.rule];
      return too_large(tree_, parts, "nodes");
    }
    RNL_TRY(out_.nodes.push({kind, low, high, next, other, rule_}));
    return uint32_t(out_.nodes.size() - 1);
  }
  Result<uint32_t> bytes(uint32_t low, uint32_t high, uint32_t next) {
    return add(GrammarNfa::Kind::kBytes, next, 0, uint8_t(low), uint8_t(high));
  }
  Result<uint32_t> split(uint32_t one, uint32_t other) {
    if (one == GrammarNfa::kNone) return other;
    return add(GrammarNfa::Kind::kSplit, one, other);
  }

  // The first node of what matches tree node `number` and then goes on at `next`.
  Result<uint32_t> build(uint32_t number, uint32_t next, int depth) {
    const GrammarNode& node = tree_.nodes[number];
    switch (node.kind) {
      case Kind::kLiteral:
        for (uint32_t i = node.count; i-- > 0;) {
          const uint8_t b = tree_.bytes[node.first + i];
          RNL_ASSIGN(one, bytes(b, b, next));
          next = one;
        }
        return next;
      case Kind::kClass: return build_class(node, next);
      case Kind::kSequence:
        for (uint32_t i = node.count; i-- > 0;) {
          RNL_ASSIGN(one, build(tree_.children[node.first + i], next, depth + 1));
          next = one;
        }
        return next;
      case Kind::kChoice: {
        uint32_t all = GrammarNfa::kNone;
        for (uint32_t i = node.count; i-- > 0;) {
          RNL_ASSIGN(one, build(tree_.children[node.first + i], next, depth + 1));
          RNL_ASSIGN(joined, split(all, one));
          all = joined;
        }
        return all;
      }
      case Kind::kRepeat: return build_repeat(node, next, depth);
      case Kind::kRule: break;
    }
    const uint32_t rule = node.first;
    const bool small = sizes_[rule] <= kSmallRule || (sizes_[rule] < kUnknown && uses_[rule] == 1);
    if (small && depth < kMaxDepth) {
      const uint32_t outer = std::exchange(rule_, rule);
      Result<uint32_t> start = build(tree_.rules[rule].node, next, depth + 1);
      rule_ = outer;
      return start;
    }
    RNL_TRY(wanted_.push(rule));
    return add(GrammarNfa::Kind::kCall, next, rule);
  }
  Result<uint32_t> build_repeat(const GrammarNode& node, uint32_t next, int depth) {
    uint32_t at = next, least = node.least;
    const bool counted = is_counted(node, size_of(node.first));
    if (node.most == kUnbounded) {
      RNL_ASSIGN(loop, add(GrammarNfa::Kind::kSplit, GrammarNfa::kNone, next));
      RNL_ASSIGN(body, build(node.first, loop, depth + 1));
      out_.nodes[loop].next = body;
      at = loop;
      if (least && !counted) at = body, --least;
    }
    if (counted) {
      RNL_ASSIGN(body, body_of(node.first));
      return count(body, least, node.most == kUnbounded ? least : node.most, at);
    }
    for (uint32_t i = least; node.most != kUnbounded && i < node.most; ++i) {
      RNL_ASSIGN(body, build(node.first, at, depth + 1));
      if (body == at) break;  // it is the empty text, however often
      RNL_ASSIGN(joined, split(body, next));
      at = joined;
    }
    for (uint32_t i = 0; i < least; ++i) {
      RNL_ASSIGN(body, build(node.first, at, depth + 1));
      if (body == at) break;
      at = body;
    }
    return at;
  }

  // The number among `starts` of what a counted repeat repeats.
  Result<uint32_t> body_of(uint32_t number) {
    uint32_t body = tree_.nodes[number].first;
    if (tree_.nodes[number].kind != Kind::kRule) {
      if (body_of_[number] == 0) {
        RNL_TRY(bodies_.push({number, rule_}));
        RNL_TRY(out_.starts.push(GrammarNfa::kNone));
        body_of_[number] = uint32_t(out_.starts.size()) - 1;
      }
      body = body_of_[number];
    }
    RNL_TRY(wanted_.push(body));
    return body;
  }
  // A body `least` to `most` times. A count is a number of 16 bits: more is two counts, one after the other.
  Result<uint32_t> count(uint32_t body, uint32_t least, uint32_t most, uint32_t next) {
    if (most == 0) return next;
    uint32_t after = next, last = most;
    if (most > kMostCounted) {
      RNL_ASSIGN(rest, count(body, least > kMostCounted ? least - kMostCounted : 1, most - kMostCounted, next));
      after = rest, last = kMostCounted;
    }
    const uint32_t first = least > last || after != next ? last : std::max(least, 1u);
    RNL_TRY(out_.counts.push({body, uint16_t(first), uint16_t(last)}));
    RNL_ASSIGN(call, add(GrammarNfa::Kind::kCall, after, GrammarNfa::kCounted | uint32_t(out_.counts.size() - 1)));
    if (after != next && least <= last) {
      RNL_ASSIGN(fewer, count(body, least, last, next));
      return split(call, fewer);
    }
    return least ? call : split(call, next);
  }

  // One character of a class: the ways through its UTF-8.
  Result<uint32_t> build_class(const GrammarNode& node, uint32_t next) {
    class_next_ = next, class_all_ = GrammarNfa::kNone;
    for (uint32_t& t : tails_) t = GrammarNfa::kNone;
    for (uint32_t i = 0; i < node.count; ++i) {
      const CodeRange r = tree_.ranges[node.first + i];
      RNL_TRY(add_codes(r.low, std::min(r.high, 0xD7FFu)));  // surrogates are no characters
      RNL_TRY(add_codes(std::max(r.low, 0xE000u), r.high));
    }
    // A class without characters: nothing goes on from here.
    if (class_all_ == GrammarNfa::kNone) return bytes(1, 0, next);
    return class_all_;
  }
  Status add_codes(uint32_t low, uint32_t high) {
    while (low <= high) {
      // Up to the last code point of the same length that differs from `low` in whole runs of continuation bytes.
      uint32_t last = low < 0x80 ? 0x7F : low < 0x800 ? 0x7FF : low < 0x10000 ? 0xFFFF : 0x10FFFF;
      last = std::min(last, high);
      for (uint32_t bits = 6; bits <= 18 && low >= 0x80; bits += 6) {
        const uint32_t mask = (1u << bits) - 1;
        if ((low & ~mask) == (last & ~mask)) break;
        if (low & mask) last = low | mask;
        else if ((last & mask) != mask) last = (last & ~mask) - 1;
      }
      RNL_TRY(add_sequence(low, last));
      low = last + 1;
    }
    return Status::ok();
  }
  // Code points low .. high, whose bytes each span a range of their own.
  Status add_sequence(uint32_t low, uint32_t high) {
    unsigned char from[4], to[4];
    const uint32_t n = utf8_write(low, from);
    utf8_write(high, to);
    uint32_t at = class_next_, i = n;
    // Whole continuation bytes at the end are shared by all sequences.
    for (; i > 1 && from[i - 1] == 0x80 && to[i - 1] == 0xBF; --i) {
      uint32_t& tail = tails_[n - i];
      if (tail == GrammarNfa::kNone) {
        RNL_ASSIGN(made, bytes(0x80, 0xBF, at));
        tail = made;
      }
      at = tail;
    }
    for (; i > 0; --i) {
      RNL_ASSIGN(one, bytes(from[i - 1], to[i - 1], at));
      at = one;
    }
    RNL_ASSIGN(joined, split(class_all_, at));
    class_all_ = joined;
    return Status::ok();
  }

  static constexpr uint64_t kUnknown = UINT64_MAX;
  const GrammarTree& tree_;
  GrammarNfa& out_;
  Vec<uint64_t> sizes_;
  struct Body {
    uint32_t node, rule;  // of the tree
  };
  Vec<uint32_t> uses_, wanted_;
  Vec<uint8_t> never_empty_;  // by rule
  Vec<uint32_t> body_of_;     // by node: what a counted repeat of it calls, 0: none yet
  Vec<Body> bodies_;
  uint32_t rule_ = 0;  // whose text is being spelled out
  uint32_t class_next_ = 0, class_all_ = 0, tails_[3];
};

}  // namespace

Status too_large(const GrammarTree& tree, const Vec<uint32_t>& parts, const char* what) {
  uint32_t all = 0;
  size_t most = 0;
  for (size_t r = 0; r < parts.size(); ++r) {
    all += parts[r];
    if (parts[r] > parts[most]) most = r;
  }
  const GrammarRule& rule = tree.rules[most];
  return Status::make(Code::kInvalidArgument,
                      "grammar, line %u: it is too large: of more than %u %s, %u are for rule \"%.*s\"%s%.*s",
                      rule.line, all, what, parts[most], int(std::min(rule.size, 100u)), rule.name,
                      rule.note_size ? ", " : "", int(std::min(rule.note_size, 200u)), rule.note);
}

Status expand_grammar(const GrammarTree& tree, GrammarNfa* out) { return Expander(tree, out).expand(); }

}  // namespace runnel
