// BPE whose merges have ranks, on the bytes of a word or on its characters: merges the adjacent pair of the lowest
// rank, the leftmost of equal ones.
//
// The tensor: MergeHeader, u32 slots[slot_count], u32 merges[3 * merge_count], u32 whole[ceil(pieces / 32)].
// slots: open addressing from the pair's hash, linear probing over at most kMaxMergeProbe slots. A slot is 0 when
// empty, else the merge's number + 1 in the low `bits` bits under high bits of the hash. merges: left, right, rank and
// the joined id, 24 bits each, in this order from the lowest bit on. whole: bit i % 32 of word i / 32: a word that
// equals piece i becomes this id, and merging need not be tried.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/vec.h"

namespace runnel {

struct Vocab;

inline constexpr uint32_t kMergeMagic = 0x3147524D;  // "MRG1"
inline constexpr uint32_t kMaxMergeProbe = 256;

struct MergeHeader {
  uint32_t magic;
  uint32_t piece_count;
  uint32_t merge_count;
  uint32_t slot_count;  // a power of two
  uint32_t bits;        // of a slot that hold the merge's number
  uint32_t reserved[3];
};
static_assert(sizeof(MergeHeader) == 32);

struct Merge {
  uint32_t rank, id;
};
inline constexpr uint32_t kNoMerge = 0xFFFFFFFF;  // as a rank

inline uint64_t merge_hash(uint32_t left, uint32_t right) {
  uint64_t h = (uint64_t(left) << 24 | right) * 0x9E3779B97F4A7C15ull;
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93ull;
  return h ^ h >> 29;
}

struct Merges {
  const MergeHeader* header = nullptr;
  const uint32_t* slots = nullptr;
  const uint32_t* table = nullptr;
  const uint32_t* whole = nullptr;

  Merge find(uint32_t left, uint32_t right) const;
  bool is_whole(int32_t id) const { return whole[id / 32] >> (id % 32) & 1; }
};
Status merges_open(const uint8_t* data, size_t size, size_t piece_count, Merges* out);

struct BpeScratch {
  struct Symbol {
    uint32_t begin;
    uint32_t id;
    int32_t prev, next;  // -1: none
    bool gone;           // merged into an earlier one
  };
  struct Pair {
    uint64_t order;  // rank in the high half, then the leftmost first
    uint32_t id;
  };
  Vec<Symbol> symbols;
  Vec<Pair> heap;
};

// Appends the ids of one word.
Status bpe_encode(const Vocab& vocab, const uint8_t* word, size_t size, BpeScratch* scratch, Vec<int32_t>* ids);

}  // namespace runnel
