#include "text/longest_match.h"

namespace runnel {
namespace {

Status plain(const Vocab& vocab, const uint8_t* text, size_t size, Vec<int32_t>* ids) {
  for (size_t i = 0; i < size;) {
    const TrieMatch match = vocab.match(text + i, size - i, piece_bit(PieceType::kNormal), false);
    if (match.id < 0) return Status::make(Code::kInvalidModel, "tokenizer: no piece begins with byte 0x%02X", text[i]);
    RNL_TRY(ids->push(match.id));
    i += match.length;
  }
  return Status::ok();
}

}  // namespace

Status longest_match_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special,
                            size_t special_count, Vec<int32_t>* ids) {
  size_t begin = 0;
  for (size_t r = 0; r < special_count; ++r) {
    for (size_t i = special[r].begin; i < special[r].end;) {
      const TrieMatch match = vocab.match(text + i, special[r].end - i, piece_bit(PieceType::kControl), false);
      if (match.id < 0) {
        ++i;
        continue;
      }
      RNL_TRY(plain(vocab, text + begin, i - begin, ids));
      RNL_TRY(ids->push(match.id));
      begin = i += match.length;
    }
  }
  return plain(vocab, text + begin, size - begin, ids);
}

}  // namespace runnel
