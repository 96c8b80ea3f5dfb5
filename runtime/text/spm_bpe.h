// SentencePiece's BPE: text -> ids. Merges the adjacent pair whose joined piece has the highest score, the leftmost of
// equal ones.
#pragma once

#include "base/vec.h"
#include "text/vocab.h"

namespace runnel {

// Memory that calls reuse. It grows with the longest text seen: about 3 bytes for each byte of text and 40 for each
// character of the longest stretch that has to be merged as one.
struct SpmScratch {
  struct Symbol {
    uint32_t begin, size;  // bytes of `text`; size 0: merged into an earlier symbol
    int32_t prev, next;    // neighbours, -1: none
    int32_t id;            // -1: no piece
  };
  struct Pair {
    uint64_t order;        // ordered score in the high half, then the leftmost first
    uint32_t right, size;  // right symbol, bytes of both when the pair was entered
    int32_t id;
  };
  Vec<uint8_t> text;  // escaped
  Vec<Symbol> symbols;
  Vec<Pair> heap;
  NormScratch norm;
  RegexScratch regex;    // of the normaliser's patterns
  Vec<uint16_t> splits;  // bytes of the left half of pieces of type kUnused, by id; empty until one is met
};

// Appends the ids of `text`, without bos and eos. Control pieces written within one of the `special` ranges (ascending,
// apart) become their ids; each stretch between them is encoded by itself, with its own space prefix where the
// vocabulary adds one.
Status spm_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special, size_t special_count,
                  SpmScratch* scratch, Vec<int32_t>* ids);

}  // namespace runnel
