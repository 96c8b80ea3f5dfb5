// The vocabulary's pieces in the order of the bytes that they add to a text, so that a walk over all of them shares their beginnings.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "text/tokenizer.h"

namespace runnel {

struct TokenOrder {
  Vec<int32_t> ids;       // of every piece that adds bytes
  Vec<uint16_t> shared;   // how many of its first bytes the piece has in common with the one before
  Vec<uint16_t> sizes;    // bytes
  Vec<uint32_t> rest;     // where the bytes from `shared` on stand in `bytes`
  Vec<uint8_t> bytes;
  uint32_t first[257];    // the first entry whose first byte is not below this
  Tokenizer tokenizer;

  // About 0.1 s for 262,144 pieces.
  static Status build(const Tokenizer& tokenizer, TokenOrder* out);
};

}  // namespace runnel
