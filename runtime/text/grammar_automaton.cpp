#include "text/grammar_automaton.h"

#include <algorithm>
#include <cstring>

#include "base/hash_index.h"
#include "base/xxh64.h"
#include "text/grammar_nfa.h"

namespace runnel {
namespace {

constexpr uint64_t kMaxCells = 16u << 20;  // of the table
constexpr uint64_t kMaxSets = 32u << 20;   // members of all sets together

using Kind = GrammarNfa::Kind;

// Each called rule by the construction of subsets: a state is the set of nodes that a text may have led to.
class Builder {
 public:
  Builder(const GrammarTree& tree, const GrammarNfa& nfa, GrammarAutomaton* out) : tree_(tree), nfa_(nfa), out_(*out) {}

  Status build() {
    number_classes();
    RNL_TRY(rule_starts_.assign(nfa_.starts.size()));
    RNL_TRY(seen_.assign(nfa_.nodes.size()));
    RNL_TRY(new_state(0, 0));  // no state
    for (uint32_t rule = 0; rule < nfa_.starts.size(); ++rule) {
      if (nfa_.starts[rule] == GrammarNfa::kNone) continue;
      RNL_TRY(begin_set());
      RNL_TRY(reach(nfa_.starts[rule]));
      RNL_ASSIGN(start, intern());
      rule_starts_[rule] = uint16_t(start);
    }
    for (uint32_t state = 1; state < sets_.size(); ++state) RNL_TRY(fill(state));
    for (GrammarAutomaton::Call& c : out_.calls) c.start = rule_starts_[c.start];
    out_.start = rule_starts_[tree_.root];
    RNL_TRY(drop_endless());
    return refuse_left_recursion();
  }

 private:
  struct Set {
    uint32_t first, count;  // of members_, ascending
  };

  void number_classes() {
    bool begins[257] = {true};
    for (const GrammarNfa::Node& n : nfa_.nodes)
      if (n.kind == Kind::kBytes && n.low <= n.high) begins[n.low] = begins[n.high + 1] = true;
    uint32_t count = 0;
    for (int b = 0; b < 256; ++b) {
      count += begins[b];
      out_.class_of[b] = uint8_t(count - 1);
    }
    out_.class_count = count;
  }
  Status new_state(uint32_t first, uint32_t count) {
    RNL_CHECK_ARG(sets_.size() <= kMaxGrammarStates && (sets_.size() + 1) * uint64_t(out_.class_count) <= kMaxCells && members_.size() <= kMaxSets,
                  "grammar: it is too large: it needs more than %zu states", sets_.size());
    RNL_TRY(sets_.push({first, count}));
    RNL_TRY(out_.states.push({0, 0, false, false}));
    for (uint32_t c = 0; c < out_.class_count; ++c) RNL_TRY(out_.next.push(0));
    return Status::ok();
  }
  // The set under construction.
  Status begin_set() {
    set_.clear();
    ++mark_;
    return Status::ok();
  }
  // Adds what can be reached from a node without a byte or a call.
  Status reach(uint32_t node) {
    RNL_TRY(todo_.push(node));
    while (!todo_.empty()) {
      const uint32_t n = todo_.back();
      todo_.pop();
      if (n == GrammarNfa::kNone || seen_[n] == mark_) continue;
      seen_[n] = mark_;
      const GrammarNfa::Node& node_n = nfa_.nodes[n];
      if (node_n.kind == Kind::kSplit) {
        RNL_TRY(todo_.push(node_n.other));
        RNL_TRY(todo_.push(node_n.next));
      } else if (node_n.kind != Kind::kBytes || node_n.low <= node_n.high) {
        RNL_TRY(set_.push(n));
      }
    }
    return Status::ok();
  }
  // The state of the set under construction.
  Result<uint32_t> intern() {
    if (set_.empty()) return 0u;
    std::sort(set_.begin(), set_.end());
    const uint64_t hash = xxh64(set_.data(), set_.size() * sizeof(uint32_t));
    const int64_t known = index_.find(hash, [&](uint32_t s) {
      return sets_[s].count == set_.size() && std::memcmp(members_.data() + sets_[s].first, set_.data(), set_.size() * sizeof(uint32_t)) == 0;
    });
    if (known >= 0) return uint32_t(known);
    const uint32_t state = uint32_t(sets_.size());
    RNL_TRY(new_state(uint32_t(members_.size()), uint32_t(set_.size())));
    RNL_TRY(members_.append(set_.data(), set_.size()));
    RNL_TRY(index_.add(hash, state));
    return state;
  }
  // Where a state goes on to.
  Status fill(uint32_t state) {
    const Set set = sets_[state];
    const auto member = [&](uint32_t i) -> const GrammarNfa::Node& { return nfa_.nodes[members_[set.first + i]]; };
    bool reads[256] = {}, reads_any = false;
    rules_.clear();
    for (uint32_t i = 0; i < set.count; ++i) {
      const GrammarNfa::Node& n = member(i);
      if (n.kind == Kind::kEnd) out_.states[state].ends = true;
      if (n.kind == Kind::kCall) RNL_TRY(rules_.push(n.other));
      if (n.kind == Kind::kBytes) std::fill(reads + out_.class_of[n.low], reads + out_.class_of[n.high] + 1, true), reads_any = true;
    }
    for (uint32_t c = 0; reads_any && c < out_.class_count; ++c) {
      if (!reads[c]) continue;
      RNL_TRY(begin_set());
      for (uint32_t i = 0; i < set.count; ++i) {
        const GrammarNfa::Node& n = member(i);
        if (n.kind == Kind::kBytes && out_.class_of[n.low] <= c && c <= out_.class_of[n.high]) RNL_TRY(reach(n.next));
      }
      RNL_ASSIGN(to, intern());
      out_.next[size_t(state) * out_.class_count + c] = uint16_t(to);
    }
    out_.states[state].first_call = uint32_t(out_.calls.size());
    std::sort(rules_.begin(), rules_.end());
    for (size_t k = 0; k < rules_.size(); ++k) {
      const uint32_t rule = rules_[k];
      if (k && rule == rules_[k - 1]) continue;
      RNL_TRY(begin_set());
      for (uint32_t i = 0; i < set.count; ++i) {
        const GrammarNfa::Node& n = member(i);
        if (n.kind == Kind::kCall && n.other == rule) RNL_TRY(reach(n.next));
      }
      RNL_ASSIGN(back, intern());
      // The rule's number stands in for its first state until all are known.
      RNL_CHECK_ARG(rule <= UINT16_MAX, "grammar: it is too large: rule number %u is called", rule);
      if (back) RNL_TRY(out_.calls.push({uint16_t(rule), uint16_t(back)}));
    }
    out_.states[state].call_count = uint16_t(out_.calls.size() - out_.states[state].first_call);
    return Status::ok();
  }

  // Takes away what can never come to an end, so that every step that is left leads to a text of the grammar.
  Status drop_endless() {
    Vec<uint8_t> good;
    RNL_TRY(good.assign(sets_.size()));
    const uint32_t classes = out_.class_count;
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t s = sets_.size(); s-- > 1;) {
        if (good[s]) continue;
        const GrammarAutomaton::State& state = out_.states[s];
        bool g = state.ends;
        for (uint32_t c = 0; c < classes && !g; ++c) g = good[out_.next[s * classes + c]];
        for (uint32_t k = 0; k < state.call_count && !g; ++k) {
          const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
          g = good[call.start] && good[call.back];
        }
        if (g) good[s] = changed = true;
      }
    }
    RNL_CHECK_ARG(good[out_.start], "grammar: no text matches it");
    for (size_t s = 1; s < sets_.size(); ++s) {
      GrammarAutomaton::State& state = out_.states[s];
      for (uint32_t c = 0; c < classes; ++c) {
        uint16_t& to = out_.next[s * classes + c];
        if (!good[to]) to = 0;
        state.reads = state.reads || to;
      }
      uint16_t kept = 0;
      for (uint32_t k = 0; k < state.call_count; ++k) {
        const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
        if (good[call.start] && good[call.back]) out_.calls[state.first_call + kept++] = call;
      }
      state.call_count = kept;
    }
    return Status::ok();
  }

  // A rule that calls itself before a byte was read would be called for ever.
  Status refuse_left_recursion() {
    Vec<uint8_t> empty;  // by state: the rule may end from here without a byte
    RNL_TRY(empty.assign(sets_.size()));
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t s = sets_.size(); s-- > 1;) {
        const GrammarAutomaton::State& state = out_.states[s];
        bool e = state.ends;
        for (uint32_t k = 0; k < state.call_count && !e; ++k) {
          const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
          e = empty[call.start] && empty[call.back];
        }
        if (e && !empty[s]) empty[s] = changed = true;
      }
    }
    // Depth first over the rules, from each to those that it may call before a byte is read.
    Vec<uint8_t> done;  // 1: on the way, 2: no loop from here
    Vec<Frame> way;
    RNL_TRY(done.assign(sets_.size()));
    for (uint32_t rule = 0; rule < rule_starts_.size(); ++rule) {
      if (rule_starts_[rule] == 0 || done[rule_starts_[rule]]) continue;
      RNL_TRY(enter(rule_starts_[rule], empty, &done, &way));
      while (!way.empty()) {
        Frame& f = way.back();
        if (f.at == f.starts.size()) {
          done[f.state] = 2;
          way.pop();
          continue;
        }
        const uint16_t to = f.starts[f.at++];
        if (done[to] == 1) return left_recursive(to);
        if (done[to] == 0) RNL_TRY(enter(to, empty, &done, &way));
      }
    }
    return Status::ok();
  }
  struct Frame {
    uint16_t state;
    size_t at;
    Vec<uint16_t> starts;  // of the rules that may be called before a byte is read
  };
  Status enter(uint16_t start, const Vec<uint8_t>& empty, Vec<uint8_t>* done, Vec<Frame>* way) {
    (*done)[start] = 1;
    Frame f{start, 0, {}};
    Vec<uint16_t> states;
    RNL_TRY(states.push(start));
    for (size_t i = 0; i < states.size(); ++i) {
      const GrammarAutomaton::State& state = out_.states[states[i]];
      for (uint32_t k = 0; k < state.call_count; ++k) {
        const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
        if (std::find(f.starts.begin(), f.starts.end(), call.start) == f.starts.end()) RNL_TRY(f.starts.push(call.start));
        if (empty[call.start] && std::find(states.begin(), states.end(), call.back) == states.end()) RNL_TRY(states.push(call.back));
      }
    }
    return way->push(std::move(f));
  }
  Status left_recursive(uint16_t start) const {
    for (size_t r = 0; r < rule_starts_.size(); ++r)
      if (rule_starts_[r] == start)
        return Status::make(Code::kInvalidArgument, "grammar, line %u: rule \"%.*s\" begins with itself (left recursion); write it as a repeat, or with itself at its end",
                            tree_.rules[r].line, int(tree_.rules[r].size), tree_.rules[r].name);
    return Status::make(Code::kInternal, "grammar: a rule begins with itself");
  }

  const GrammarTree& tree_;
  const GrammarNfa& nfa_;
  GrammarAutomaton& out_;
  Vec<Set> sets_;  // by state
  Vec<uint32_t> members_, set_, todo_, rules_;
  Vec<uint32_t> seen_;  // by node: mark_ when it is in the set under construction
  uint32_t mark_ = 0;
  HashIndex index_;
  Vec<uint16_t> rule_starts_;
};

// The bytes of plain characters.
struct PlainForm {
  uint8_t count;
  uint8_t range[4][2];
};
constexpr PlainForm kPlainForms[] = {
    {1, {{0x20, 0x21}}},
    {1, {{0x23, 0x5B}}},
    {1, {{0x5D, 0x7F}}},
    {2, {{0xC2, 0xDF}, {0x80, 0xBF}}},
    {3, {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
    {3, {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}},
};

// A few states, each once.
struct Few {
  uint16_t states[8];
  uint32_t count = 0;
  bool overflows = false;
  void add(uint16_t state) {
    if (std::find(states, states + count, state) != states + count) return;
    if (count < 8) states[count++] = state;
    else overflows = true;
  }
};

}  // namespace

int32_t GrammarAutomaton::plain_run(uint16_t state, bool whole_text, int32_t most) const {
  Few at;
  at.add(state);
  for (int32_t length = 0; length < most; ++length) {
    Few after;
    bool some_cannot = false, leaves = false;
    for (const PlainForm& form : kPlainForms) {
      Few from = at;
      for (int i = 0; i < form.count; ++i) {
        Few to;
        for (uint32_t k = 0; k < from.count; ++k)
          for (uint32_t c = class_of[form.range[i][0]]; c <= class_of[form.range[i][1]]; ++c) {
            const uint16_t s = step(from.states[k], c);
            some_cannot |= s == 0;
            if (s == 0) continue;
            leaves |= this->states[s].call_count > 0 || (this->states[s].ends && !whole_text);
            to.add(s);
          }
        from = to;
        after.overflows |= to.overflows;
      }
      for (uint32_t k = 0; k < from.count; ++k) after.add(from.states[k]);
    }
    if (some_cannot && after.count == 0) return length;
    if (some_cannot || leaves || after.overflows) return -1;
    if (after.count == at.count && std::equal(after.states, after.states + after.count, at.states)) return most;
    at = after;
  }
  return most;
}

Status compile_grammar(const GrammarTree& tree, GrammarAutomaton* out) {
  GrammarNfa nfa;
  RNL_TRY(expand_grammar(tree, &nfa));
  return Builder(tree, nfa, out).build();
}

}  // namespace runnel
