#include "text/grammar_nfa.h"

#include <algorithm>

#include "text/utf8.h"

namespace runnel {
namespace {

constexpr uint32_t kMaxNodes = 1000000;
constexpr uint64_t kSmallRule = 400;  // nodes of a rule that is put in wherever it is used
constexpr int kMaxDepth = 500;        // of trees within trees

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
      const uint32_t rule = wanted_[i];
      if (out_.starts[rule] != GrammarNfa::kNone) continue;
      RNL_ASSIGN(end, add({GrammarNfa::Kind::kEnd, 0, 0, GrammarNfa::kNone, 0}));
      RNL_ASSIGN(start, build(tree_.rules[rule].node, end, 0));
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
    for (uint64_t& s : sizes_) s = kUnknown;
    for (const GrammarNode& node : tree_.nodes)
      if (node.kind == Kind::kRule) ++uses_[node.first];
    // A rule whose rules are all measured can be measured; what never can be is recursive or uses recursion. Rules usually stand before those
    // that they use; what some passes leave out is called.
    bool changed = true;
    for (int pass = 0; pass < 50 && changed; ++pass) {
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
  uint64_t size_of(uint32_t number) const {
    const GrammarNode& node = tree_.nodes[number];
    uint64_t size = 1;
    switch (node.kind) {
      case Kind::kLiteral: return node.count;
      case Kind::kClass: return 4 * uint64_t(node.count);
      case Kind::kRule: return sizes_[node.first] != kUnknown && sizes_[node.first] > kSmallRule && uses_[node.first] > 1 ? 1 : sizes_[node.first];
      case Kind::kRepeat: {
        const uint64_t one = size_of(node.first), times = node.most == kUnbounded ? node.least + 1 : node.most;
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

  Result<uint32_t> add(const GrammarNfa::Node& node) {
    RNL_CHECK_ARG(out_.nodes.size() < kMaxNodes, "grammar: it is too large: its rules spelled out need more than %u nodes", kMaxNodes);
    RNL_TRY(out_.nodes.push(node));
    return uint32_t(out_.nodes.size() - 1);
  }
  Result<uint32_t> bytes(uint32_t low, uint32_t high, uint32_t next) { return add({GrammarNfa::Kind::kBytes, uint8_t(low), uint8_t(high), next, 0}); }
  Result<uint32_t> split(uint32_t one, uint32_t other) {
    if (one == GrammarNfa::kNone) return other;
    return add({GrammarNfa::Kind::kSplit, 0, 0, one, other});
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
    if (small && depth < kMaxDepth) return build(tree_.rules[rule].node, next, depth + 1);
    RNL_TRY(wanted_.push(rule));
    return add({GrammarNfa::Kind::kCall, 0, 0, next, rule});
  }
  Result<uint32_t> build_repeat(const GrammarNode& node, uint32_t next, int depth) {
    uint32_t at = next;
    if (node.most == kUnbounded) {
      RNL_ASSIGN(loop, add({GrammarNfa::Kind::kSplit, 0, 0, GrammarNfa::kNone, next}));
      RNL_ASSIGN(body, build(node.first, loop, depth + 1));
      out_.nodes[loop].next = body;
      at = loop;
    }
    for (uint32_t i = node.least; node.most != kUnbounded && i < node.most; ++i) {
      RNL_ASSIGN(body, build(node.first, at, depth + 1));
      RNL_ASSIGN(joined, split(body, next));
      at = joined;
    }
    for (uint32_t i = 0; i < node.least; ++i) {
      RNL_ASSIGN(body, build(node.first, at, depth + 1));
      at = body;
    }
    return at;
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
  Vec<uint32_t> uses_, wanted_;
  uint32_t class_next_ = 0, class_all_ = 0, tails_[3];
};

}  // namespace

Status expand_grammar(const GrammarTree& tree, GrammarNfa* out) { return Expander(tree, out).expand(); }

}  // namespace runnel
