#include "text/vocab.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace runnel {

int32_t Vocab::find(const uint8_t* data, size_t size, uint32_t type_bits) const {
  if (size == 0 || size > header->max_piece_bytes) return -1;
  const uint64_t h = piece_hash(data, size);
  const uint32_t mask = header->slot_count - 1, id_bits = header->id_bits;
  const uint32_t id_mask = (1u << id_bits) - 1, tag = uint32_t(h >> 32) & ~id_mask;
  for (uint32_t i = 0; i < kMaxProbe; ++i) {
    const uint32_t slot = slots[(uint32_t(h) + i) & mask];
    if (slot == 0) return -1;
    if ((slot & ~id_mask) != tag) continue;
    const int32_t id = int32_t(slot & id_mask) - 1;
    const PieceView p = piece(id);
    if (p.size == size && (type_bits >> (types[id] & 31) & 1) && std::memcmp(p.data, data, size) == 0) return id;
  }
  return -1;
}

bool Vocab::child(uint32_t* node, uint8_t byte) const {
  const TrieNode& t = nodes[*node];
  uint32_t low = t.first_child, high = low + t.child_count;
  if (low <= *node || high < low || high > header->node_count) return false;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (nodes[middle].byte < byte) low = middle + 1;
    else high = middle;
  }
  if (low >= t.first_child + t.child_count || nodes[low].byte != byte) return false;
  *node = low;
  return true;
}

TrieMatch Vocab::match(const uint8_t* data, size_t size, uint32_t type_bits, bool raw) const {
  TrieMatch best;
  uint32_t node = 0, depth = 0;
  size_t at = 0;
  const auto step = [&](uint8_t byte) { return child(&node, byte); };
  while (at < size && depth++ < kMaxPieceBytes) {
    if (raw && data[at] == ' ') {
      if (!step(uint8_t(kSpaceMark[0])) || !step(uint8_t(kSpaceMark[1])) || !step(uint8_t(kSpaceMark[2]))) break;
    } else if (!step(data[at])) {
      break;
    }
    ++at;
    const int32_t id = nodes[node].id;
    if (id >= 0 && id < count && (type_bits >> (types[id] & 31) & 1)) best = {id, uint32_t(at)};
  }
  return best;
}

uint8_t Vocab::flags_of(int32_t id) const {
  const int32_t* at = std::lower_bound(added, added + added_size, id);
  return at != added + added_size && *at == id ? added_flags[at - added] : 0;
}

Status vocab_open(const VocabTables& t, Vocab* out) {
  const auto bad = [](const char* what) { return Status::make(Code::kInvalidModel, "tokenizer: %s", what); };
  if (t.kind > TokenizerKind::kWordPiece)
    return Status::make(Code::kUnsupported, "tokenizer: kind %d is unknown to this version", int(t.kind));
  const size_t n = t.types_size;
  if (n == 0 || n >= kMaxPieces) return bad("the number of pieces is out of range");
  if (t.offsets_size != n + 1 || (t.scores_size != n && !(has_pipeline(t.kind) && t.scores_size == 0)))
    return bad("the tables have different lengths");
  if (t.index_size < sizeof(VocabIndexHeader) || reinterpret_cast<uintptr_t>(t.index) % 4)
    return bad("the index is too small or misaligned");
  const auto* h = reinterpret_cast<const VocabIndexHeader*>(t.index);
  if (h->magic != kVocabIndexMagic) return bad("the index has an unknown layout");
  if (h->piece_count != n) return bad("the index belongs to another vocabulary");
  if (h->id_bits < 1 || h->id_bits > 24 || n >= (size_t(1) << h->id_bits)) return bad("the index cannot hold its ids");
  if (h->slot_count == 0 || h->slot_count > (1u << 28) || (h->slot_count & (h->slot_count - 1)))
    return bad("the index has a bad number of slots");
  if (h->node_count == 0 || h->node_count > (1u << 28) || h->max_piece_bytes > kMaxPieceBytes)
    return bad("the index has a bad trie");
  // In 64 bits, or the sum could wrap on a 32-bit machine.
  if (t.index_size !=
      sizeof(VocabIndexHeader) + uint64_t(h->slot_count) * 4 + uint64_t(h->node_count) * sizeof(TrieNode))
    return bad("the index has a wrong size");
  for (const int32_t id : {t.bos, t.eos, t.unk})
    if (id < -1 || id >= int64_t(n)) return bad("bos, eos or unk is not a piece");
  const auto are_pieces = [&](const int32_t* ids, size_t size) {
    return std::all_of(ids, ids + size, [&](int32_t id) { return id >= 0 && size_t(id) < n; });
  };
  if (!are_pieces(t.end_of_turn, t.end_of_turn_size)) return bad("an end-of-turn id is not a piece");
  if (!are_pieces(t.prefix, t.prefix_size) || !are_pieces(t.suffix, t.suffix_size))
    return bad("an id that is put around texts is not a piece");
  if (t.added_size != t.added_flags_size) return bad("the lists of added tokens have different lengths");
  if ((t.add_bos && t.bos < 0 && !t.prefix_size) || (t.add_eos && t.eos < 0 && !t.suffix_size))
    return bad("bos or eos is to be added but missing");
  static_cast<VocabTables&>(*out) = t;
  out->header = h;
  out->slots = reinterpret_cast<const uint32_t*>(t.index + sizeof(VocabIndexHeader));
  out->nodes = reinterpret_cast<const TrieNode*>(t.index + sizeof(VocabIndexHeader) + size_t(h->slot_count) * 4);
  out->count = int32_t(n);
  if (t.first_space > FirstSpace::kNone)
    return Status::make(Code::kUnsupported, "tokenizer: first_space %d is unknown to this version", int(t.first_space));
  RNL_TRY(norm_open(t.normalizer, t.normalizer_size, &out->norm));
  if (!has_pipeline(t.kind)) return Status::ok();
  RNL_TRY(pre_open(t.pre_tokenizer, t.pre_tokenizer_size, &out->pre));
  if (t.kind == TokenizerKind::kByteBpe) return merges_open(t.merge_table, t.merge_table_size, n, &out->merges);
  RNL_TRY(piece_trie_open(t.piece_trie_table, t.piece_trie_size, n, &out->piece_trie));
  if (t.kind == TokenizerKind::kUnigram && !out->piece_trie.wide_scores && t.scores_size != n)
    return bad("a unigram model has no scores");
  return Status::ok();
}

}  // namespace runnel
