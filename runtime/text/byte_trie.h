// A trie of byte strings as a double array, walked one byte at a time from node 0. It lies in the file and is
// untrusted.
//
// One u64 for each node: base in the low half, then the byte that leads to the node, then its value in the high 24
// bits, 0: no string ends here. The child of a node for byte b is base ^ b, where the node there is entered by b; a
// node without children has base 0xFFFFFFFF.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runnel {

struct ByteTrie {
  const uint64_t* nodes = nullptr;
  uint32_t count = 0;  // below 2^31

  bool step(uint32_t* node, uint8_t byte) const {
    const uint32_t next = uint32_t(nodes[*node]) ^ byte;
    if (next >= count || uint8_t(nodes[next] >> 32) != byte) return false;
    *node = next;
    return true;
  }
  uint32_t value(uint32_t node) const { return uint32_t(nodes[node] >> 40); }
  // Calls found(value, length) for every string of the trie that begins data[0 .. size), the shorter ones first.
  template <class F>
  void walk(const uint8_t* data, size_t size, F found) const {
    uint32_t node = 0;
    for (size_t at = 0; at < size && count && step(&node, data[at]); ++at)
      if (const uint32_t v = value(node)) found(v, at + 1);
  }
};

// A view of `count` nodes at `offset` of tables[0 .. size); false: they do not lie there.
inline bool trie_open(const uint8_t* tables, size_t size, uint32_t offset, uint32_t count, ByteTrie* out) {
  if (offset > size || reinterpret_cast<uintptr_t>(tables + offset) % 8 || count == 0 || count >> 31 ||
      (size - offset) / 8 < count)
    return false;
  *out = {reinterpret_cast<const uint64_t*>(tables + offset), count};
  return true;
}

}  // namespace runnel
