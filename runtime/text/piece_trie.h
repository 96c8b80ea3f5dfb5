// Models that find pieces from the front of a word, by a trie of them: unigram and word_piece.
//
// The tensor: PieceTrieHeader, u64 nodes[node_count] (byte_trie.h; a value is an id + 1), then, with kWideSums, f64
// scores[piece_count].
#pragma once

#include "base/vec.h"
#include "text/byte_trie.h"

namespace runnel {

struct Vocab;

inline constexpr uint32_t kPieceTrieMagic = 0x31495254;  // "TRI1"
inline constexpr uint32_t kWideSums = 1;  // scores are added in f64, as the tokenizers library does, and not in f32, as
                                          // SentencePiece does
// A user-defined piece scores a tenth of its bytes, less 0.1, as in SentencePiece since 0.2.2; without the flag as
// before it (user_score).
inline constexpr uint32_t kUserTenths = 2;
inline constexpr uint32_t kPrefixBytes = 32;

struct PieceTrieHeader {
  uint32_t magic;
  uint32_t piece_count;
  uint32_t node_count;
  uint32_t flags;
  double unknown_score;  // unigram: of a character without a piece
  float user_score;      // unigram: times its bytes, less 0.1, of a user-defined piece
  uint32_t max_chars;    // word_piece: a longer word is unknown
  uint32_t prefix_size;  // word_piece: what pieces within a word begin with
  uint8_t prefix[kPrefixBytes];
  uint32_t reserved;
};
static_assert(sizeof(PieceTrieHeader) == 72);

struct PieceTrie {
  const PieceTrieHeader* header = nullptr;
  ByteTrie trie;
  const double* wide_scores = nullptr;
};

Status piece_trie_open(const uint8_t* data, size_t size, size_t piece_count, PieceTrie* out);

struct UnigramScratch {
  struct Node {
    double score = 0;  // of the best way from the beginning of the word
    int32_t id = -1;
    uint32_t length = 0;  // of its last piece, 0: none ends here
  };
  struct Step {
    uint32_t begin, length;
    int32_t id;
  };
  Vec<Node> nodes;
  Vec<Step> path;
};

// Appends the ids of one word: of the ways to cut it into pieces the one with the highest sum of scores. Memory grows
// with the longest stretch that has no place where every way must cut.
Status unigram_encode(const Vocab& vocab, const uint8_t* word, size_t size, UnigramScratch* scratch, Vec<int32_t>* ids);
// Appends the ids of one word: the longest piece, then the longest one of those within words, and so on; the unknown
// piece when that fails.
Status word_piece_encode(const Vocab& vocab, const uint8_t* word, size_t size, Vec<int32_t>* ids);

}  // namespace runnel
