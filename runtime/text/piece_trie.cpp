#include "text/piece_trie.h"

#include "text/utf8.h"
#include "text/vocab.h"

namespace runnel {

Status piece_trie_open(const uint8_t* data, size_t size, size_t piece_count, PieceTrie* out) {
  const auto bad = [](const char* what) {
    return Status::make(Code::kInvalidModel, "tokenizer: the trie of pieces %s", what);
  };
  if (size < sizeof(PieceTrieHeader) || reinterpret_cast<uintptr_t>(data) % 8) return bad("is too small or misaligned");
  const auto* h = reinterpret_cast<const PieceTrieHeader*>(data);
  if (h->magic != kPieceTrieMagic) return bad("has an unknown layout");
  if (h->piece_count != piece_count) return bad("belongs to another vocabulary");
  if (h->flags > (kWideSums | kUserTenths))
    return Status::make(Code::kUnsupported, "tokenizer: the trie of pieces has unknown flags");
  if (h->prefix_size > kPrefixBytes || h->node_count >> 28) return bad("has sizes out of range");
  const uint64_t scores = h->flags & kWideSums ? uint64_t(piece_count) * 8 : 0;
  if (size != sizeof(PieceTrieHeader) + uint64_t(h->node_count) * 8 + scores) return bad("has a wrong size");
  if (!trie_open(data, size, sizeof(PieceTrieHeader), h->node_count, &out->trie)) return bad("is empty");
  out->header = h;
  out->wide_scores =
      scores ? reinterpret_cast<const double*>(data + sizeof(PieceTrieHeader) + size_t(h->node_count) * 8) : nullptr;
  return Status::ok();
}

namespace {

class Unigram {
 public:
  using Node = UnigramScratch::Node;
  Unigram(const Vocab& vocab, UnigramScratch* scratch, Vec<int32_t>* ids)
      : v_(vocab),
        s_(*scratch),
        nodes_(scratch->nodes),
        ids_(*ids),
        is_wide_(vocab.piece_trie.wide_scores != nullptr) {}
  Status word(const uint8_t* text, size_t size);

 private:
  Status reach(size_t at) {
    while (nodes_.size() <= at - base_) RNL_TRY(nodes_.push({}));
    return Status::ok();
  }
  // A sum as the original has it: of floats it is rounded to one.
  double rounded(double sum) const { return is_wide_ ? sum : double(float(sum)); }
  void offer(size_t begin, size_t end, int32_t id, double score) {
    Node& n = nodes_[end - base_];
    if (n.length != 0 && !(score > n.score)) return;
    n.score = rounded(score);
    n.id = id;
    n.length = uint32_t(end - begin);
  }
  Status flush(size_t end);
  Status unknown(uint32_t begin, uint32_t length);

  const Vocab& v_;
  UnigramScratch& s_;
  Vec<Node>& nodes_;  // of the places base_ and after
  Vec<int32_t>& ids_;
  const uint8_t* text_ = nullptr;
  size_t base_ = 0;
  bool after_unknown_ = false;
  const bool is_wide_;
};

// The ids up to a place where every way cuts. Sums go on from there: they depend on all that was added before.
Status Unigram::flush(size_t end) {
  s_.path.clear();
  for (size_t at = end; at > base_;) {
    const Node& n = nodes_[at - base_];
    if (n.length == 0 || n.length > at - base_)
      return Status::make(Code::kInvalidModel, "tokenizer: the trie of pieces leads nowhere");
    at -= n.length;
    RNL_TRY(s_.path.push({uint32_t(at), n.length, n.id}));
  }
  for (size_t i = s_.path.size(); i > 0; --i) {
    const UnigramScratch::Step& step = s_.path[i - 1];
    if (step.id == v_.unk) {
      RNL_TRY(unknown(step.begin, step.length));
      continue;
    }
    after_unknown_ = false;
    RNL_TRY(ids_.push(step.id));
  }
  const double score = nodes_[end - base_].score;
  base_ = end;
  nodes_.clear();
  RNL_TRY(nodes_.push({}));
  nodes_[0].score = score;
  return Status::ok();
}

// A character without a piece: its bytes, else the unknown piece, once for a run of them.
Status Unigram::unknown(uint32_t begin, uint32_t length) {
  const auto byte_id = [&](uint32_t i) {
    const int32_t id = v_.header->byte_ids[text_[begin + i]];
    return id < v_.count ? id : -1;
  };
  bool bytes = v_.byte_fallback;
  for (uint32_t i = 0; i < length && bytes; ++i) bytes = byte_id(i) >= 0;
  for (uint32_t i = 0; i < length && bytes; ++i) RNL_TRY(ids_.push(byte_id(i)));
  if (bytes) return Status::ok();
  if (v_.unk < 0)
    return Status::make(Code::kInvalidModel, "tokenizer: a character has no piece, and there is no unknown piece");
  if (!after_unknown_) RNL_TRY(ids_.push(v_.unk));
  after_unknown_ = true;
  return Status::ok();
}

Status Unigram::word(const uint8_t* text, size_t size) {
  const PieceTrie& p = v_.piece_trie;
  text_ = text;
  nodes_.clear();
  RNL_TRY(nodes_.push({}));
  size_t furthest = 0;
  for (size_t at = 0; at < size;) {
    if (at == furthest && at > base_) RNL_TRY(flush(at));
    const double here = nodes_[at - base_].score;
    const uint32_t character = code_point_at(text + at, size - at).length;
    bool single = false;
    uint32_t node = 0;
    for (size_t end = at; end < size && p.trie.step(&node, text[end]);) {
      ++end;
      const int32_t id = int32_t(p.trie.value(node)) - 1;
      if (id < 0 || id >= v_.count) continue;
      if (end > furthest) {
        RNL_TRY(reach(end));
        furthest = end;
      }
      single |= end - at == character;
      if (is_wide_) {
        offer(at, end, id, here + p.wide_scores[id]);
      } else if (v_.type(id) == PieceType::kUserDefined) {
        if (p.header->flags & kUserTenths) offer(at, end, id, rounded(here + float(double(end - at) * 0.1 - 0.1)));
        else offer(at, end, id, double(float(end - at) * p.header->user_score) - 0.1 + here);
      } else {
        offer(at, end, id, rounded(here + v_.scores[id]));
      }
    }
    if (!single) {
      RNL_TRY(reach(at + character));
      if (at + character > furthest) furthest = at + character;
      offer(at, at + character, v_.unk, rounded(here + rounded(double(p.header->unknown_score))));
    }
    at += character;
  }
  return flush(size);
}

}  // namespace

Status unigram_encode(const Vocab& vocab, const uint8_t* word, size_t size, UnigramScratch* scratch,
                      Vec<int32_t>* ids) {
  if (size == 0) return Status::ok();
  return Unigram(vocab, scratch, ids).word(word, size);
}

Status word_piece_encode(const Vocab& vocab, const uint8_t* word, size_t size, Vec<int32_t>* ids) {
  const PieceTrie& p = vocab.piece_trie;
  const size_t before = ids->size();
  size_t characters = 0;
  for (size_t i = 0; i < size; ++i) characters += (word[i] & 0xC0) != 0x80;
  uint32_t within = 0;  // the node that pieces within a word begin at
  bool has_within = true;
  for (uint32_t i = 0; i < p.header->prefix_size && has_within; ++i)
    has_within = p.trie.step(&within, p.header->prefix[i]);
  bool good = characters <= p.header->max_chars;
  for (size_t at = 0; at < size && good;) {
    int32_t id = -1;
    size_t longest = 0;
    uint32_t node = at ? within : 0;
    if (at == 0 || has_within)
      for (size_t end = at; end < size && p.trie.step(&node, word[end]);) {
        ++end;
        const uint32_t value = p.trie.value(node);
        if (value && value <= uint32_t(vocab.count)) id = int32_t(value) - 1, longest = end;
      }
    good = id >= 0;
    if (good) RNL_TRY(ids->push(id));
    at = longest;
  }
  if (good) return Status::ok();
  if (vocab.unk < 0)
    return Status::make(Code::kInvalidModel, "tokenizer: a word has no pieces, and there is no unknown piece");
  ids->truncate(before);
  return ids->push(vocab.unk);
}

}  // namespace runnel
