// Random grammars over a few characters, and a matcher that tries all ways to read a text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace runnel::convert {

enum class Fit { kNo, kPrefix, kWhole };

class Reference {
 public:
  explicit Reference(std::mt19937& random, int largest = 2)
      : random_(random), largest_(uint32_t(largest)), rules_(1 + random() % 4) {
    for (int& r : rules_) r = node(3);
    productive_.assign(rules_.size(), false);
    for (size_t i = 0; i < rules_.size() * 2; ++i)
      for (size_t r = 0; r < rules_.size(); ++r) productive_[r] = productive_[r] || productive(rules_[r]);
  }
  std::string text() const {
    std::string out;
    for (size_t r = 0; r < rules_.size(); ++r)
      out += (r ? "r" + std::to_string(r) : std::string("root")) + " ::= " + text(rules_[r]) + "\n";
    return out;
  }
  // Only for grammars without left recursion.
  Fit fit(const std::string& s) {
    s_ = s;
    exhausted_ = false;
    if (!productive_[0]) return Fit::kNo;
    memo_.clear();
    const std::set<size_t> ends = match(rules_[0], 0);
    return ends.count(s.size()) ? Fit::kWhole : exhausted_ ? Fit::kPrefix : Fit::kNo;
  }
  static constexpr const char* kCharacters[] = {"a", "b", "c", "\"", "\xC3\xA9", "\xC3\xA8", "\xE2\x82\xAC"};

 private:
  struct Node {
    char kind;  // l literal, c class, s sequence, | choice, r repeat, n rule
    std::vector<int> children;
    std::string bytes;              // l
    std::set<std::string> members;  // c
    std::string shown;
    int least = 0, most = 0;  // most -1: unbounded
  };
  int add(Node n) {
    nodes_.push_back(std::move(n));
    return int(nodes_.size() - 1);
  }
  int node(int depth) {
    const uint32_t pick = random_() % (depth == 0 ? 4 : 9);
    if (pick < 2) {
      Node n{'l', {}, "", {}, "\"", 0, 0};
      for (uint32_t i = random_() % 3; i-- > 0;) {
        const std::string c = kCharacters[random_() % 7];
        n.bytes += c;
        n.shown += c == "\"" ? "\\\"" : c;
      }
      n.shown += "\"";
      return add(n);
    }
    if (pick == 2) {
      const bool negated = random_() % 3 == 0;
      Node n{'c', {}, "", {}, negated ? "[^" : "[", 0, 0};
      for (const char* c : kCharacters) {
        const bool named = random_() % 2;
        if (named) n.shown += c;
        if (named != negated) n.members.insert(c);
      }
      n.shown += "]";
      return add(n);
    }
    if (pick == 3) return add({'n', {int(random_() % rules_.size())}, "", {}, "", 0, 0});
    if (pick < 6) {
      Node n{pick == 4 ? 's' : '|', {}, "", {}, "", 0, 0};
      for (uint32_t i = 1 + random_() % 3; i-- > 0;) n.children.push_back(node(depth - 1));
      return add(n);
    }
    Node n{'r', {node(depth - 1)}, "", {}, "", 0, 0};
    const uint32_t kind = random_() % 4;
    n.least = kind == 1 ? 1 : kind == 3 ? int(random_() % (largest_ + 1)) : 0;
    n.most = kind < 2 ? -1 : kind == 2 ? 1 : n.least + int(random_() % (largest_ + 1));
    n.shown = kind == 0   ? "*"
              : kind == 1 ? "+"
              : kind == 2 ? "?"
                          : "{" + std::to_string(n.least) + "," + std::to_string(n.most) + "}";
    return add(n);
  }
  std::string text(int number) const {
    const Node& n = nodes_[size_t(number)];
    std::string out;
    switch (n.kind) {
      case 'n': return n.children[0] ? "r" + std::to_string(n.children[0]) : "root";
      case 'l':
      case 'c': return n.shown;
      case 'r': return "(" + text(n.children[0]) + ")" + n.shown;
      default:
        for (const int c : n.children) out += (out.empty() ? "(" : n.kind == '|' ? " | " : " ") + text(c);
        return out + ")";
    }
  }
  bool productive(int number) const {
    const Node& n = nodes_[size_t(number)];
    switch (n.kind) {
      case 'l': return true;
      case 'c': return n.shown[1] == '^' || !n.members.empty();
      case 'n': return productive_[size_t(n.children[0])];
      case 's': return std::all_of(n.children.begin(), n.children.end(), [&](int c) { return productive(c); });
      case '|': return std::any_of(n.children.begin(), n.children.end(), [&](int c) { return productive(c); });
      default: return n.least == 0 || productive(n.children[0]);
    }
  }
  // Ends of the texts that begin at `at`.
  std::set<size_t> match(int number, size_t at) {
    const Node& n = nodes_[size_t(number)];
    std::set<size_t> ends;
    if (!productive(number)) return ends;
    switch (n.kind) {
      case 'l': {
        size_t i = 0;
        while (i < n.bytes.size() && at + i < s_.size() && s_[at + i] == n.bytes[i]) ++i;
        if (i == n.bytes.size()) ends.insert(at + i);
        else if (at + i == s_.size()) exhausted_ = true;
        break;
      }
      case 'c':
        if (at == s_.size()) exhausted_ = true;
        for (const char* c : kCharacters) {
          const std::string left = s_.substr(at, std::strlen(c));
          if (n.members.count(c) && left == c) ends.insert(at + left.size());
        }
        // A negated class holds others that begin alike; the bytes of ours are told apart by their last ones.
        if (at < s_.size() && s_.size() - at < 3) {
          const std::string left = s_.substr(at);
          for (const char* c : kCharacters)
            if (std::string(c).size() > left.size() && std::string(c).compare(0, left.size(), left) == 0 &&
                (n.members.count(c) || n.shown[1] == '^'))
              exhausted_ = true;
        }
        break;
      case 'n': {
        const auto key = std::make_pair(n.children[0], at);
        if (const auto it = memo_.find(key); it != memo_.end()) return it->second;
        ends = match(rules_[size_t(n.children[0])], at);
        memo_[key] = ends;
        break;
      }
      case '|':
        for (const int c : n.children) ends.merge(match(c, at));
        break;
      case 's': {
        ends.insert(at);
        // What follows is read only as far as what stands before ends; all of it can come to an end.
        for (const int c : n.children) {
          std::set<size_t> next;
          for (const size_t e : ends) next.merge(match(c, e));
          ends = std::move(next);
        }
        break;
      }
      default: {
        std::set<size_t> now{at};
        if (n.least == 0) ends.insert(at);
        for (int i = 1; (n.most < 0 ? i <= int(s_.size()) + n.least + 1 : i <= n.most) && !now.empty(); ++i) {
          if (!productive(n.children[0])) break;
          std::set<size_t> next;
          for (const size_t e : now) next.merge(match(n.children[0], e));
          now = std::move(next);
          if (i >= n.least) ends.insert(now.begin(), now.end());
        }
      }
    }
    return ends;
  }

  std::mt19937& random_;
  uint32_t largest_;  // count of a repeat beyond its least
  std::vector<Node> nodes_;
  std::vector<int> rules_;
  std::vector<bool> productive_;
  std::string s_;
  bool exhausted_ = false;
  std::map<std::pair<int, size_t>, std::set<size_t>> memo_;
};

}  // namespace runnel::convert
