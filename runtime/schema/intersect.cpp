#include <algorithm>
#include <map>

#include "schema/regex.h"
#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

constexpr size_t kMostNodes = 20000;   // of all conditions, spelled out
constexpr size_t kMostStates = 1000;   // of all at once
constexpr size_t kMostCounted = 4000;  // of these with the number of characters

struct TooLarge : Refused {
  TooLarge() : Refused("the pattern is too large") {}
};

// A condition by the construction of Thompson: node 0 is the end.
class Nfa {
 public:
  explicit Nfa(const Regex& r) : nodes_(1) { start_ = build(r, 0); }
  using States = std::vector<uint32_t>;  // ascending

  States start() const {
    States out;
    reach(start_, &out);
    std::sort(out.begin(), out.end());
    return out;
  }
  States step(const States& from, uint32_t c) const {
    States out;
    for (const uint32_t n : from)
      if (nodes_[n].set && std::any_of(nodes_[n].set->begin(), nodes_[n].set->end(),
                                       [c](const auto& r) { return r.first <= c && c <= r.second; }))
        reach(nodes_[n].next, &out);
    std::sort(out.begin(), out.end());
    return out;
  }
  static bool ends(const States& s) { return !s.empty() && s[0] == 0; }
  void add_borders(std::vector<uint32_t>* out) const {
    for (const Node& n : nodes_)
      if (n.set)
        for (const auto& [from, to] : *n.set) out->push_back(from), out->push_back(to + 1);
  }

 private:
  struct Node {
    const CodeSet* set = nullptr;  // null: both ways without a character
    uint32_t next = 0, other = 0;
  };
  uint32_t add(const CodeSet* set, uint32_t next, uint32_t other) {
    if (nodes_.size() >= kMostNodes) throw TooLarge();
    nodes_.push_back({set, next, other});
    return uint32_t(nodes_.size() - 1);
  }
  uint32_t build(const Regex& r, uint32_t next) {
    if (r.kind == Regex::Kind::kSet) return add(&r.set, next, next);
    if (r.kind == Regex::Kind::kSequence) {
      for (size_t i = r.parts.size(); i-- > 0;) next = build(r.parts[i], next);
      return next;
    }
    if (r.kind == Regex::Kind::kChoice) {
      static const CodeSet kNone;
      uint32_t all = add(&kNone, next, next);
      for (const Regex& part : r.parts) {
        const uint32_t one = build(part, next);
        all = add(nullptr, one, all);
      }
      return all;
    }
    uint32_t at = next;
    if (r.most == Regex::kUnbounded) {
      at = add(nullptr, next, next);
      const uint32_t body = build(r.parts[0], at);
      nodes_[at].next = body;
    } else {
      for (uint64_t i = r.least; i < r.most; ++i) {
        const uint32_t body = build(r.parts[0], at);
        at = add(nullptr, body, next);
      }
    }
    for (uint64_t i = 0; i < r.least; ++i) at = build(r.parts[0], at);
    return at;
  }
  void reach(uint32_t node, States* out) const {
    std::vector<uint32_t> todo{node};
    if (seen_.size() < nodes_.size()) seen_.resize(nodes_.size());
    if (out->empty()) ++mark_;
    while (!todo.empty()) {
      const uint32_t n = todo.back();
      todo.pop_back();
      if (seen_[n] == mark_) continue;
      seen_[n] = mark_;
      if (n == 0 || nodes_[n].set) {
        out->push_back(n);
        continue;
      }
      todo.push_back(nodes_[n].other);
      todo.push_back(nodes_[n].next);
    }
  }

  std::vector<Node> nodes_;
  uint32_t start_ = 0;
  mutable std::vector<uint32_t> seen_;  // by node: mark_ when it is among those that are being gathered
  mutable uint32_t mark_ = 0;
};

// All conditions at once, deterministic: of each state whether a text may end there, and where classes of characters
// lead to.
class Product {
 public:
  explicit Product(const std::vector<Condition>& all) {
    for (const Condition& c : all) nfas_.emplace_back(c.regex), negated_.push_back(c.negated);
    std::vector<uint32_t> borders{0, 0x110000};
    for (const Nfa& n : nfas_) n.add_borders(&borders);
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    Key first;
    for (const Nfa& n : nfas_) first.push_back(n.start());
    number(first);
    for (size_t s = 0; s < keys_.size(); ++s)
      for (size_t b = 0; b + 1 < borders.size(); ++b) {
        Key to;
        for (size_t i = 0; i < nfas_.size(); ++i) to.push_back(nfas_[i].step(keys_[s][i], borders[b]));
        bool dead = false;
        for (size_t i = 0; i < to.size(); ++i) dead = dead || (to[i].empty() && !negated_[i]);
        if (dead) continue;
        const size_t then = number(to);
        CodeSet& set = next_[s][then];
        if (!set.empty() && set.back().second + 1 == borders[b]) set.back().second = borders[b + 1] - 1;
        else set.push_back({borders[b], borders[b + 1] - 1});
      }
    drop_endless();
  }
  size_t size() const { return keys_.size(); }
  bool ends(size_t s) const { return ends_[s]; }
  const std::map<size_t, CodeSet>& next(size_t s) const { return next_[s]; }

 private:
  using Key = std::vector<Nfa::States>;
  size_t number(const Key& key) {
    const auto [it, is_new] = numbers_.emplace(key, keys_.size());
    if (!is_new) return it->second;
    if (keys_.size() == kMostStates) throw TooLarge();
    keys_.push_back(key);
    next_.emplace_back();
    bool ends = true;
    for (size_t i = 0; i < key.size(); ++i) ends = ends && Nfa::ends(key[i]) != negated_[i];
    ends_.push_back(ends);
    return it->second;
  }
  // Ways that lead to no end.
  void drop_endless() {
    std::vector<bool> good = ends_;
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t s = size(); s-- > 0;)
        for (const auto& [to, unused] : next_[s])
          if (good[to] && !good[s]) good[s] = changed = true;
    }
    for (auto& ways : next_) std::erase_if(ways, [&](const auto& way) { return !good[way.first]; });
  }

  std::vector<Nfa> nfas_;
  std::vector<bool> negated_, ends_;
  std::map<Key, size_t> numbers_;
  std::vector<Key> keys_;
  std::vector<std::map<size_t, CodeSet>> next_;
};

}  // namespace

bool matches(const std::vector<Condition>& all, const std::string& text) {
  const Regex::Kind kSequence = Regex::Kind::kSequence;
  Regex exact{kSequence, {}, {}, 0, 0};
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t c = n == 1 ? lead : lead & (0x7Fu >> n);
    for (size_t k = 1; k < n && i + k < text.size(); ++k)
      c = c << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3Fu);
    exact.parts.push_back({Regex::Kind::kSet, {{c, c}}, {}, 0, 0});
    i += n;
  }
  for (const Condition& condition : all) {
    const Nfa nfa(condition.regex);
    Nfa::States at = nfa.start();
    for (const Regex& one : exact.parts) at = nfa.step(at, one.set[0].first);
    if (Nfa::ends(at) == condition.negated) return false;
  }
  return true;
}

Together intersect(const std::vector<Condition>& all, Lengths l, const std::string& name, std::string* expression,
                   std::string* rules) try {
  const Product p(all);
  // With a number of characters behind each state; above the lengths that matter all are one.
  const bool endless = l.most == Regex::kUnbounded;
  if (l.least * p.size() > kMostCounted) return Together::kTooLarge;
  if (!endless) l.most = std::min<uint64_t>(l.most, std::max<uint64_t>(kMostCounted / p.size(), l.least));
  const uint64_t last = endless ? l.least : l.most, width = last + 1;
  std::vector<std::vector<bool>> good(p.size(), std::vector<bool>(width));
  for (bool changed = true; changed;) {
    changed = false;
    for (uint64_t n = width; n-- > 0;)
      for (size_t s = 0; s < p.size(); ++s) {
        if (good[s][n]) continue;
        bool g = p.ends(s) && n >= l.least;
        if (n < last || endless)
          for (const auto& [to, unused] : p.next(s)) g = g || good[to][std::min(n + 1, last)];
        if (g) good[s][n] = changed = true;
      }
  }
  if (!good[0][0]) return Together::kNoText;
  const auto rule = [&](size_t s, uint64_t n) { return name + "q" + std::to_string(s * width + n); };
  std::vector<std::pair<size_t, uint64_t>> todo{{0, 0}};
  std::vector<std::vector<bool>> seen(p.size(), std::vector<bool>(width));
  seen[0][0] = true;
  for (size_t i = 0; i < todo.size(); ++i) {
    const auto [s, n] = todo[i];
    std::string body;
    for (const auto& [to, set] : p.next(s)) {
      const uint64_t then = std::min(n + 1, last);
      if ((n == last && !endless) || !good[to][then]) continue;
      body += (body.empty() ? "" : " | ") + text_of({Regex::Kind::kSet, set, {}, 0, 0}) + " " + rule(to, then);
      if (!seen[to][then]) todo.push_back({to, then});
      seen[to][then] = true;
    }
    if (p.ends(s) && n >= l.least) body += body.empty() ? "\"\"" : " | \"\"";
    *rules += rule(s, n) + " ::= " + body + "\n";
  }
  *expression = rule(0, 0);
  return Together::kDone;
} catch (const TooLarge&) {
  return Together::kTooLarge;
}

}  // namespace rnl::schema
