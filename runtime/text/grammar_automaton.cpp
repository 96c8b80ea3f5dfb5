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
    for (GrammarAutomaton::Repeat& r : out_.repeats) r.start = rule_starts_[r.start];
    out_.start = rule_starts_[tree_.root];
    RNL_TRY(put_in_order());
    RNL_TRY(drop_endless());
    return refuse_left_recursion();
  }

 private:
  struct Set {
    uint32_t first, count;  // of members_, ascending
  };
  struct Called {
    uint32_t rule, next;
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
    if (sets_.size() > kMaxGrammarStates || (sets_.size() + 1) * uint64_t(out_.class_count) > kMaxCells ||
        members_.size() > kMaxSets) {
      Vec<uint32_t> parts;
      RNL_TRY(parts.assign(tree_.rules.size()));
      for (const Set& s : sets_)
        if (s.count) ++parts[nfa_.nodes[members_[s.first]].rule];
      return too_large(tree_, parts, "states");
    }
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
      return sets_[s].count == set_.size() &&
             std::memcmp(members_.data() + sets_[s].first, set_.data(), set_.size() * sizeof(uint32_t)) == 0;
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
    called_.clear();
    for (uint32_t i = 0; i < set.count; ++i) {
      const GrammarNfa::Node& n = member(i);
      if (n.kind == Kind::kEnd) out_.states[state].ends = true;
      if (n.kind == Kind::kCall) RNL_TRY(called_.push({n.other, n.next}));
      if (n.kind == Kind::kBytes)
        std::fill(reads + out_.class_of[n.low], reads + out_.class_of[n.high] + 1, true), reads_any = true;
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
    std::sort(called_.begin(), called_.end(), [](const Called& a, const Called& b) { return a.rule < b.rule; });
    for (size_t k = 0; k < called_.size();) {
      const uint32_t rule = called_[k].rule;
      RNL_TRY(begin_set());
      for (; k < called_.size() && called_[k].rule == rule; ++k) RNL_TRY(reach(called_[k].next));
      RNL_ASSIGN(back, intern());
      if (back) RNL_TRY(add_call(rule, uint16_t(back)));
    }
    out_.states[state].call_count = uint16_t(out_.calls.size() - out_.states[state].first_call);
    return Status::ok();
  }

  // The rule's number stands in for its first state until all are known.
  Status add_call(uint32_t callee, uint16_t back) {
    const bool counted = callee & GrammarNfa::kCounted;
    const GrammarNfa::Count count =
        counted ? nfa_.counts[callee & ~GrammarNfa::kCounted] : GrammarNfa::Count{callee, 1, 1};
    RNL_CHECK_ARG(count.rule <= UINT16_MAX, "grammar: it is too large: rule number %u is called", count.rule);
    if (!counted) return out_.calls.push({uint16_t(count.rule), back});
    const GrammarAutomaton::Repeat made{uint16_t(count.rule), back, count.least, count.most};
    const uint64_t hash = xxh64(&made, sizeof made);
    int64_t repeat =
        repeat_index_.find(hash, [&](uint32_t r) { return std::memcmp(&out_.repeats[r], &made, sizeof made) == 0; });
    if (repeat < 0) {
      repeat = int64_t(out_.repeats.size());
      constexpr int kMost = GrammarAutomaton::kOpen - GrammarAutomaton::kFirstRepeat;
      RNL_CHECK_ARG(repeat < kMost, "grammar: it is too large: it needs more than %d repeats that are counted", kMost);
      RNL_TRY(out_.repeats.push(made));
      RNL_TRY(repeat_index_.add(hash, uint32_t(repeat)));
    }
    return out_.calls.push({made.start, uint16_t(GrammarAutomaton::kFirstRepeat + repeat)});
  }
  // The state that a call goes on at in the end.
  uint16_t back_of(const GrammarAutomaton::Call& call) const {
    const GrammarAutomaton::Repeat* const r = out_.repeat(call.back);
    return r ? r->back : call.back;
  }

  // States behind those that they lead to, as far as there are no loops: what spreads backwards then takes a few
  // rounds, not one a state.
  Status put_in_order() {
    Vec<uint8_t> seen;
    struct Visit {
      uint16_t state;
      uint32_t at;  // what is to be looked at next: byte classes, then calls with their two states
    };
    Vec<Visit> way;
    RNL_TRY(seen.assign(sets_.size()));
    for (size_t s = 1; s < sets_.size(); ++s) {
      if (!seen[s]) RNL_TRY(way.push({uint16_t(s), 0}));
      seen[s] = 1;
      while (!way.empty()) {
        Visit& v = way.back();
        const GrammarAutomaton::State& state = out_.states[v.state];
        if (v.at == out_.class_count + 2u * state.call_count) {
          RNL_TRY(order_.push(v.state));
          way.pop();
          continue;
        }
        uint16_t to = 0;
        if (v.at < out_.class_count) {
          to = out_.next[size_t(v.state) * out_.class_count + v.at];
        } else {
          const uint32_t call = v.at - out_.class_count;
          const GrammarAutomaton::Call& c = out_.calls[state.first_call + call / 2];
          to = call % 2 ? back_of(c) : c.start;
        }
        ++v.at;
        if (to == 0 || seen[to]) continue;
        seen[to] = 1;
        RNL_TRY(way.push({to, 0}));
      }
    }
    return Status::ok();
  }

  // Takes away what can never come to an end, so that every step that is left leads to a text of the grammar.
  Status drop_endless() {
    Vec<uint8_t> good;
    RNL_TRY(good.assign(sets_.size()));
    const uint32_t classes = out_.class_count;
    for (bool changed = true; changed;) {
      changed = false;
      for (const uint16_t s : order_) {
        if (good[s]) continue;
        const GrammarAutomaton::State& state = out_.states[s];
        bool g = state.ends;
        for (uint32_t c = 0; c < classes && !g; ++c) g = good[out_.next[size_t(s) * classes + c]];
        for (uint32_t k = 0; k < state.call_count && !g; ++k) {
          const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
          g = good[call.start] && good[back_of(call)];
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
        if (good[call.start] && good[back_of(call)]) out_.calls[state.first_call + kept++] = call;
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
      for (const uint16_t s : order_) {
        const GrammarAutomaton::State& state = out_.states[s];
        bool e = state.ends;
        for (uint32_t k = 0; k < state.call_count && !e; ++k) {
          const GrammarAutomaton::Call call = out_.calls[state.first_call + k];
          e = empty[call.start] && empty[back_of(call)];
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
        if (std::find(f.starts.begin(), f.starts.end(), call.start) == f.starts.end())
          RNL_TRY(f.starts.push(call.start));
        if (empty[call.start] && std::find(states.begin(), states.end(), back_of(call)) == states.end())
          RNL_TRY(states.push(back_of(call)));
      }
    }
    return way->push(std::move(f));
  }
  Status left_recursive(uint16_t start) const {
    for (size_t r = 0; r < rule_starts_.size(); ++r) {
      if (rule_starts_[r] != start) continue;
      // What a counted repeat repeats is named by the rule in whose text it begins.
      const GrammarRule& rule = tree_.rules[r < tree_.rules.size() ? r : nfa_.nodes[nfa_.starts[r]].rule];
      return Status::make(Code::kInvalidArgument,
                          "grammar, line %u: rule \"%.*s\" begins with itself (left recursion); write it as a repeat, "
                          "or with itself at its end",
                          rule.line, int(rule.size), rule.name);
    }
    return Status::make(Code::kInternal, "grammar: a rule begins with itself");
  }

  const GrammarTree& tree_;
  const GrammarNfa& nfa_;
  GrammarAutomaton& out_;
  Vec<Set> sets_;  // by state
  Vec<uint32_t> members_, set_, todo_;
  Vec<Called> called_;
  Vec<uint16_t> order_;
  Vec<uint32_t> seen_;  // by node: mark_ when it is in the set under construction
  uint32_t mark_ = 0;
  HashIndex index_, repeat_index_;
  Vec<uint16_t> rule_starts_;
};

}  // namespace

Status compile_grammar(const GrammarTree& tree, GrammarAutomaton* out) {
  GrammarNfa nfa;
  RNL_TRY(expand_grammar(tree, &nfa));
  return Builder(tree, nfa, out).build();
}

}  // namespace runnel
