#include "converter/text/byte_trie.h"

#include <array>
#include <stdexcept>

namespace runnel::convert {
namespace {

constexpr uint32_t kBlock = 256, kNone = 0xFFFFFFFF;
constexpr uint32_t kOpenBlocks = 64;  // places before them are not looked at again

// Places of a double array. Those that are free form a ring in ascending order.
class Places {
 public:
  uint32_t count() const { return uint32_t(used_.size()); }
  bool used(uint32_t at) const { return used_[at]; }
  bool is_base(uint32_t base) const { return bases_[base]; }
  void take(uint32_t at) {
    used_[at] = true;
    unlink(at);
  }
  // A base from which all of `labels` lead to free places.
  uint32_t find(const std::vector<uint8_t>& labels) {
    for (uint32_t at = first_; at != kNone; at = next_[at]) {
      const uint32_t base = at ^ labels[0];
      if (bases_[base]) continue;
      bool fits = true;
      for (const uint8_t label : labels) fits = fits && !used_[base ^ label];
      if (!fits) continue;
      bases_[base] = true;
      return base;
    }
    grow();
    return find(labels);
  }
  void grow() {
    const uint32_t begin = count();
    if (begin >> 28) throw std::runtime_error("tokenizer: a trie grows too large");
    used_.resize(begin + kBlock, false);
    bases_.resize(begin + kBlock, false);
    next_.resize(begin + kBlock);
    previous_.resize(begin + kBlock);
    for (uint32_t at = begin; at < begin + kBlock; ++at) {
      previous_[at] = last_;
      next_[at] = kNone;
      (last_ == kNone ? first_ : next_[last_]) = at;
      last_ = at;
    }
    if (begin < kOpenBlocks * kBlock) return;
    const uint32_t closed = begin - kOpenBlocks * kBlock;
    for (uint32_t at = closed; at < closed + kBlock; ++at)
      if (!used_[at]) unlink(at);
  }

 private:
  void unlink(uint32_t at) {
    (previous_[at] == kNone ? first_ : next_[previous_[at]]) = next_[at];
    (next_[at] == kNone ? last_ : previous_[next_[at]]) = previous_[at];
  }
  std::vector<bool> used_, bases_;
  std::vector<uint32_t> next_, previous_;
  uint32_t first_ = kNone, last_ = kNone;
};

struct Range {
  size_t begin, end, depth;  // strings that share the node's first `depth` bytes
  uint32_t node;
};

}  // namespace

std::vector<uint64_t> build_byte_trie(const std::map<std::string, uint32_t>& strings) {
  const std::vector<std::pair<std::string, uint32_t>> sorted(strings.begin(), strings.end());
  Places places;
  places.grow();
  places.take(0);
  std::vector<uint32_t> bases(places.count(), kNone), values(places.count(), 0);
  std::vector<uint8_t> labels_of(places.count(), 0);
  std::vector<Range> todo = {{0, sorted.size(), 0, 0}};
  while (!todo.empty()) {
    Range r = todo.back();
    todo.pop_back();
    if (r.begin < r.end && sorted[r.begin].first.size() == r.depth) values[r.node] = sorted[r.begin++].second + 1;
    if (r.begin == r.end) continue;
    std::vector<uint8_t> labels;
    std::vector<size_t> begins;
    for (size_t at = r.begin; at < r.end;) {
      labels.push_back(uint8_t(sorted[at].first[r.depth]));
      begins.push_back(at);
      while (at < r.end && uint8_t(sorted[at].first[r.depth]) == labels.back()) ++at;
    }
    begins.push_back(r.end);
    const uint32_t base = places.find(labels);
    bases.resize(places.count(), kNone), values.resize(places.count(), 0), labels_of.resize(places.count(), 0);
    bases[r.node] = base;
    for (size_t i = 0; i < labels.size(); ++i) {
      const uint32_t node = base ^ labels[i];
      places.take(node);
      labels_of[node] = labels[i];
      todo.push_back({begins[i], begins[i + 1], r.depth + 1, node});
    }
  }
  std::vector<uint64_t> nodes(places.count());
  for (uint32_t at = 0; at < places.count(); ++at) {
    // No base may lead to a free place: it is entered by the label that comes from a base which no node has.
    if (!places.used(at) || at == 0)
      for (uint32_t base = at & ~(kBlock - 1); base < (at & ~(kBlock - 1)) + kBlock; ++base)
        if (!places.is_base(base)) labels_of[at] = uint8_t(base ^ at);
    nodes[at] = uint64_t(bases[at]) | uint64_t(labels_of[at]) << 32 | uint64_t(values[at]) << 40;
  }
  return nodes;
}

}  // namespace runnel::convert
