#include "text/byte_bpe.h"

#include <algorithm>

#include "text/utf8.h"
#include "text/vocab.h"

namespace runnel {

Merge Merges::find(uint32_t left, uint32_t right) const {
  const uint64_t h = merge_hash(left, right);
  const uint32_t mask = header->slot_count - 1, low = (1u << header->bits) - 1, tag = uint32_t(h >> 32) & ~low;
  for (uint32_t i = 0; i < kMaxMergeProbe; ++i) {
    const uint32_t slot = slots[(uint32_t(h) + i) & mask];
    if (slot == 0) break;
    const uint32_t at = (slot & low) - 1;
    if ((slot & ~low) != tag || at >= header->merge_count) continue;
    const uint32_t* m = table + size_t(at) * 3;
    if ((m[0] & 0xFFFFFF) != left || (m[0] >> 24 | (m[1] & 0xFFFF) << 8) != right) continue;
    const uint32_t id = m[2] >> 8;
    if (id < header->piece_count) return {m[1] >> 16 | (m[2] & 0xFF) << 16, id};
  }
  return {kNoMerge, 0};
}

Status merges_open(const uint8_t* data, size_t size, size_t piece_count, Merges* out) {
  const auto bad = [](const char* what) {
    return Status::make(Code::kInvalidModel, "tokenizer: the table of merges %s", what);
  };
  if (size < sizeof(MergeHeader) || reinterpret_cast<uintptr_t>(data) % 4) return bad("is too small or misaligned");
  const auto* h = reinterpret_cast<const MergeHeader*>(data);
  if (h->magic != kMergeMagic) return bad("has an unknown layout");
  if (h->piece_count != piece_count) return bad("belongs to another vocabulary");
  if (h->bits < 1 || h->bits > 24 || h->merge_count >= 1u << h->bits) return bad("cannot hold its numbers");
  if (h->slot_count == 0 || h->slot_count > 1u << 28 || (h->slot_count & (h->slot_count - 1)))
    return bad("has a bad number of slots");
  const uint64_t whole = (uint64_t(piece_count) + 31) / 32;
  if (size != sizeof(MergeHeader) + 4 * (uint64_t(h->slot_count) + 3 * uint64_t(h->merge_count) + whole))
    return bad("has a wrong size");
  out->header = h;
  out->slots = reinterpret_cast<const uint32_t*>(data + sizeof(MergeHeader));
  out->table = out->slots + h->slot_count;
  out->whole = out->table + size_t(h->merge_count) * 3;
  return Status::ok();
}

namespace {

constexpr uint32_t kShortWord = 48;  // symbols; so many are merged without a heap

struct LaterFirst {
  bool operator()(const BpeScratch::Pair& a, const BpeScratch::Pair& b) const { return a.order > b.order; }
};

class Encoder {
 public:
  Encoder(const Vocab& vocab, BpeScratch* scratch, Vec<int32_t>* ids) : v_(vocab), s_(*scratch), ids_(*ids) {}
  Status word(const uint8_t* text, size_t size);

 private:
  Status units(const uint8_t* text, size_t size);
  Status unit(uint32_t begin, int32_t id) {
    const int32_t at = int32_t(s_.symbols.size());
    return s_.symbols.push({begin, uint32_t(id), at - 1, at + 1, false});
  }
  Status unknown(const uint8_t* text, uint32_t begin, uint32_t size);
  Status short_word();
  Status long_word();
  Status offer(int32_t left);

  const Vocab& v_;
  BpeScratch& s_;
  Vec<int32_t>& ids_;
  bool after_unknown_ = false;
};

// A character without a piece: its bytes, else the unknown piece, else nothing, as the original does.
Status Encoder::unknown(const uint8_t* text, uint32_t begin, uint32_t size) {
  const auto byte_id = [&](uint32_t i) {
    const int32_t id = v_.header->byte_ids[text[begin + i]];
    return id < v_.count ? id : -1;
  };
  bool bytes = v_.byte_fallback;
  for (uint32_t i = 0; i < size && bytes; ++i) bytes = byte_id(i) >= 0;
  if (bytes) {
    after_unknown_ = false;
    for (uint32_t i = 0; i < size; ++i) RNL_TRY(unit(begin + i, byte_id(i)));
    return Status::ok();
  }
  if (v_.unk < 0 || (after_unknown_ && v_.fuse_unknown)) return Status::ok();
  after_unknown_ = true;
  return unit(begin, v_.unk);
}

Status Encoder::units(const uint8_t* text, size_t size) {
  s_.symbols.clear();
  after_unknown_ = false;
  for (size_t i = 0; i < size;) {
    const uint32_t length = v_.char_units ? code_point_at(text + i, size - i).length : 1;
    int32_t id = v_.char_units ? v_.find(text + i, length, kMergeTypes) : v_.header->byte_ids[text[i]];
    if (id >= v_.count) id = -1;
    if (id >= 0) {
      after_unknown_ = false;
      RNL_TRY(unit(uint32_t(i), id));
    } else {
      RNL_TRY(unknown(text, uint32_t(i), length));
    }
    i += length;
  }
  if (!s_.symbols.empty()) s_.symbols.back().next = -1;
  return Status::ok();
}

// Looks for the lowest rank among all pairs each time: few pairs, and they lie side by side.
Status Encoder::short_word() {
  uint32_t id[kShortWord];
  Merge merge[kShortWord];  // of symbol i with the one after it
  uint32_t n = uint32_t(s_.symbols.size());
  for (uint32_t i = 0; i < n; ++i) id[i] = s_.symbols[i].id;
  for (uint32_t i = 0; i + 1 < n; ++i) merge[i] = v_.merges.find(id[i], id[i + 1]);
  while (n > 1) {
    uint32_t best = 0;
    for (uint32_t i = 1; i + 1 < n; ++i)
      if (merge[i].rank < merge[best].rank) best = i;
    if (merge[best].rank == kNoMerge) break;
    id[best] = merge[best].id;
    --n;
    for (uint32_t i = best + 1; i < n; ++i) id[i] = id[i + 1];
    for (uint32_t i = best + 1; i + 1 < n; ++i) merge[i] = merge[i + 1];
    if (best > 0) merge[best - 1] = v_.merges.find(id[best - 1], id[best]);
    if (best + 1 < n) merge[best] = v_.merges.find(id[best], id[best + 1]);
  }
  for (uint32_t i = 0; i < n; ++i) RNL_TRY(ids_.push(int32_t(id[i])));
  return Status::ok();
}

Status Encoder::offer(int32_t left) {
  if (left < 0) return Status::ok();
  const BpeScratch::Symbol& a = s_.symbols[size_t(left)];
  if (a.next < 0) return Status::ok();
  const Merge m = v_.merges.find(a.id, s_.symbols[size_t(a.next)].id);
  if (m.rank == kNoMerge) return Status::ok();
  RNL_TRY(s_.heap.push({uint64_t(m.rank) << 32 | uint32_t(left), m.id}));
  std::push_heap(s_.heap.begin(), s_.heap.end(), LaterFirst());
  return Status::ok();
}

Status Encoder::long_word() {
  s_.heap.clear();
  for (int32_t i = 0; i + 1 < int32_t(s_.symbols.size()); ++i) RNL_TRY(offer(i));
  while (!s_.heap.empty()) {
    std::pop_heap(s_.heap.begin(), s_.heap.end(), LaterFirst());
    const BpeScratch::Pair top = s_.heap.back();
    s_.heap.pop();
    const int32_t left = int32_t(uint32_t(top.order));
    BpeScratch::Symbol& a = s_.symbols[size_t(left)];
    if (a.gone || a.next < 0) continue;
    BpeScratch::Symbol& b = s_.symbols[size_t(a.next)];
    const Merge m = v_.merges.find(a.id, b.id);
    if (m.rank != uint32_t(top.order >> 32) || m.id != top.id) continue;  // one of the two has merged since
    a.id = m.id;
    a.next = b.next;
    b.gone = true;
    if (a.next >= 0) s_.symbols[size_t(a.next)].prev = left;
    RNL_TRY(offer(a.prev));
    RNL_TRY(offer(left));
  }
  for (int32_t i = 0; i >= 0; i = s_.symbols[size_t(i)].next) RNL_TRY(ids_.push(int32_t(s_.symbols[size_t(i)].id)));
  return Status::ok();
}

Status Encoder::word(const uint8_t* text, size_t size) {
  if (const int32_t id = v_.find(text, size, kMergeTypes); id >= 0 && v_.merges.is_whole(id)) return ids_.push(id);
  RNL_TRY(units(text, size));
  if (s_.symbols.empty()) return Status::ok();
  return s_.symbols.size() <= kShortWord ? short_word() : long_word();
}

}  // namespace

Status bpe_encode(const Vocab& vocab, const uint8_t* word, size_t size, BpeScratch* scratch, Vec<int32_t>* ids) {
  return Encoder(vocab, scratch, ids).word(word, size);
}

}  // namespace runnel
