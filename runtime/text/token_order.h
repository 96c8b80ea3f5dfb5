// The vocabulary's pieces in the order of the bytes that they add to a text, so that a walk over all of them shares
// their beginnings.
//
// Most pieces of a vocabulary are plain: whole characters that a JSON string holds as they are, so no quote, no
// backslash and nothing below U+0020. Where a grammar lets all of these characters follow, which plain pieces fit
// depends on their length alone and is known beforehand.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "text/tokenizer.h"

namespace runnel {

struct TokenOrder {
  static constexpr uint32_t kPlainSteps = 16;  // characters up to which plain pieces are told apart in plain_bits

  struct Pieces {
    Vec<int32_t> ids;
    Vec<uint16_t> shared;  // how many of its first bytes the piece has in common with the one before
    Vec<uint16_t> sizes;   // bytes
    Vec<uint32_t> rest;    // where the bytes from `shared` on stand in `bytes`
    Vec<uint8_t> bytes;
    uint32_t first[257];  // the first entry whose first byte is not below this
  };
  // Every piece that adds bytes and ends no turn.
  Pieces plain, other;
  size_t words;              // of a set of tokens, a bit each
  Vec<uint64_t> plain_bits;  // [kPlainSteps + 1, words] plain pieces of at most so many characters; of any length in
                             // place 0
  struct Long {
    int32_t id;
    uint32_t characters;  // more than kPlainSteps
  };
  Vec<Long> long_plain;
  uint32_t most_characters;  // of a plain piece
  Tokenizer tokenizer;

  const uint64_t* plain_up_to(uint32_t characters) const {
    return plain_bits.data() + (characters > kPlainSteps ? 0 : characters) * words;
  }
  // About 0.1 s for 262,144 pieces.
  static Status build(const Tokenizer& tokenizer, TokenOrder* out);
};

}  // namespace runnel
