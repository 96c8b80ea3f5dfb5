// A vocabulary as it lies in the file, searched in place: opening one checks sizes and nothing else, whatever its
// length.
//
// Five tensors of a tokenizer segment, n pieces:
//   pieces         u8  bytes of all pieces, one after the other
//   piece_offsets  i32 [n + 1], piece i is pieces[offsets[i] .. offsets[i + 1])
//   scores         f32 [n], higher merges first
//   types          u8  [n], PieceType
//   index          u8  VocabIndexHeader, u32 slots[slot_count], TrieNode nodes[node_count]
//
// slots: open addressing, linear probing over at most kMaxProbe slots from hash & (slot_count - 1). A slot is 0 when
// empty, else id + 1 in the low `id_bits` bits and the high bits of the hash's upper word above them, so that nearly
// every comparison of bytes is one that succeeds. Pieces with equal bytes are all entered, lower ids first.
//
// nodes: a byte trie of the pieces that are matched before anything is merged: user-defined pieces, and control pieces
// with their spaces written as U+2581; for longest_match of all normal pieces too, their bytes as they are; for the
// kinds after it of the added tokens, as they stand in text. Node 0 is the root; the children of a node lie side by
// side, ascending by byte.
//
// Further tensors: normalizer (normalizer.h) of spm_bpe and the kinds after longest_match, pre_tokenizer
// (pretokenizer.h) of the latter, merges (byte_bpe.h) of byte_bpe, piece_trie (piece_trie.h) of unigram and word_piece.
// Scores may be left out after longest_match. Pieces of byte_bpe are the bytes that they stand for.
//
// The file is untrusted: ids, offsets and nodes are checked where they are read; wrong contents give wrong ids, never a
// wild read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "text/byte_bpe.h"
#include "text/normalizer.h"
#include "text/piece_trie.h"
#include "text/pretokenizer.h"

namespace runnel {

class Model;

enum class TokenizerKind : uint8_t { kSpmBpe = 0, kLongestMatch = 1, kByteBpe = 2, kUnigram = 3, kWordPiece = 4 };
// Kinds whose text goes through text/pipeline.h: added tokens, normaliser, pre-tokenizer, then the model word by word.
inline constexpr bool has_pipeline(TokenizerKind kind) { return kind >= TokenizerKind::kByteBpe; }
// Numbers of SentencePiece's model format, which GGUF uses too.
enum class PieceType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
inline constexpr uint32_t piece_bit(PieceType t) { return 1u << uint32_t(t); }
// Pieces that plain text can become by merging.
inline constexpr uint32_t kMergeTypes =
    piece_bit(PieceType::kNormal) | piece_bit(PieceType::kUserDefined) | piece_bit(PieceType::kUnused);

// What a decoder drops of the spaces that the first pieces of a whole text bring, as in model.fbs.
enum class FirstSpace : uint8_t { kPrefix = 0, kOne = 1, kEach = 2, kAll = 3, kNone = 4 };

// How an added token is found, bits of Tokenizer.added_flags.
inline constexpr uint8_t kAddedStripLeft = 1, kAddedStripRight = 2;  // takes the white space beside it
inline constexpr uint8_t kAddedSingleWord = 4;                       // not within a word
inline constexpr uint8_t kAddedNormalized = 8;                       // looked for after the text was normalised

inline constexpr uint32_t kVocabIndexMagic = 0x31584956;  // "VIX1"
inline constexpr uint32_t kMaxProbe = 256;                // slots
inline constexpr uint32_t kMaxPieces = 1u << 24;
inline constexpr uint32_t kMaxPieceBytes = 1024;

struct VocabIndexHeader {
  uint32_t magic;
  uint32_t piece_count;
  uint32_t slot_count;  // a power of two
  uint32_t id_bits;     // of a slot
  uint32_t node_count;
  uint32_t max_piece_bytes;  // of the longest piece
  uint32_t reserved[2];
  // Bit b: some piece holds a character whose last byte is b right before a U+2581. Where the bit is clear no merge can
  // cross from that character into the U+2581, so text may be cut there.
  uint8_t joins_space[32];
  int32_t byte_ids[256];  // the piece of each single byte, -1 where there is none
};
static_assert(sizeof(VocabIndexHeader) == 32 + 32 + 1024);

struct TrieNode {
  uint32_t first_child;  // greater than the node's own index
  uint16_t child_count;
  uint8_t byte;
  uint8_t reserved;
  int32_t id;  // of the piece that ends here, -1: none
};
static_assert(sizeof(TrieNode) == 12);

// What a file gives: tables with their sizes in elements, and the plain fields.
struct VocabTables {
  TokenizerKind kind = TokenizerKind::kSpmBpe;
  const uint8_t* pieces = nullptr;
  size_t pieces_size = 0;
  const int32_t* offsets = nullptr;
  size_t offsets_size = 0;
  const float* scores = nullptr;
  size_t scores_size = 0;
  const uint8_t* types = nullptr;
  size_t types_size = 0;
  const uint8_t* index = nullptr;  // 4-byte aligned
  size_t index_size = 0;
  int32_t bos = -1, eos = -1, unk = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = false, byte_fallback = false;
  const int32_t* end_of_turn = nullptr;
  size_t end_of_turn_size = 0;
  FirstSpace first_space = FirstSpace::kPrefix;
  bool clean_up = false;                // word_piece: no space before punctuation and shortened words
  const uint8_t* normalizer = nullptr;  // 8-byte aligned; no bytes: a text stays as it is
  size_t normalizer_size = 0;
  // What follows is of the kinds with a pipeline.
  const uint8_t* pre_tokenizer = nullptr;  // 8-byte aligned; no bytes: a text is one word
  size_t pre_tokenizer_size = 0;
  const uint8_t* merge_table = nullptr;  // 4-byte aligned
  size_t merge_table_size = 0;
  const uint8_t* piece_trie_table = nullptr;  // 8-byte aligned
  size_t piece_trie_size = 0;
  const int32_t* added = nullptr;  // ids of the added tokens, ascending
  size_t added_size = 0;
  const uint8_t* added_flags = nullptr;
  size_t added_flags_size = 0;
  const int32_t* prefix = nullptr;  // what add_bos puts before a text, where that is more than bos
  size_t prefix_size = 0;
  const int32_t* suffix = nullptr;  // what add_eos puts after it
  size_t suffix_size = 0;
  bool char_units = false;    // words of byte_bpe consist of characters, not of bytes
  bool fuse_unknown = false;  // a run of unknown characters is one unknown piece
};

struct PieceView {
  const uint8_t* data;
  uint32_t size;
};

// A part of a text, in bytes.
struct TextRange {
  size_t begin, end;
};

struct TrieMatch {
  int32_t id = -1;  // -1: none
  uint32_t length = 0;
};

// The tables belong to the file, which outlives this.
struct Vocab : VocabTables {
  const VocabIndexHeader* header = nullptr;
  const uint32_t* slots = nullptr;
  const TrieNode* nodes = nullptr;
  int32_t count = 0;
  PreTokenizer pre;
  Normalizer norm;
  Merges merges;         // byte_bpe
  PieceTrie piece_trie;  // unigram, word_piece

  // The bytes of a piece; empty for an id that is out of range or broken.
  PieceView piece(int32_t id) const {
    if (id < 0 || id >= count) return {nullptr, 0};
    const int32_t begin = offsets[id], end = offsets[id + 1];
    if (begin < 0 || end < begin || size_t(end) > pieces_size || uint32_t(end - begin) > kMaxPieceBytes)
      return {nullptr, 0};
    return {pieces + begin, uint32_t(end - begin)};
  }
  PieceType type(int32_t id) const { return id < 0 || id >= count ? PieceType::kUnknown : PieceType(types[id]); }
  // The lowest id whose piece has these bytes and one of these types, else -1.
  int32_t find(const uint8_t* data, size_t size, uint32_t type_bits) const;
  // Calls found(id, length) for every entry of the trie that begins data[0 .. size), the shorter ones first.
  template <class F>
  void walk(const uint8_t* data, size_t size, F found) const {
    uint32_t node = 0;
    for (size_t at = 0; at < size && at < kMaxPieceBytes && child(&node, data[at]); ++at)
      if (const int32_t id = nodes[node].id; id >= 0 && id < count) found(id, uint32_t(at + 1));
  }
  // From a node of the trie to its child of this byte; false when there is none.
  bool child(uint32_t* node, uint8_t byte) const;
  // The longest piece of these types that begins at data; with `raw` the text is not yet escaped: a space matches
  // U+2581, and length counts bytes of that text.
  TrieMatch match(const uint8_t* data, size_t size, uint32_t type_bits, bool raw) const;
  // Of an added token.
  uint8_t flags_of(int32_t id) const;
  bool joins_space(uint8_t last_byte) const { return header->joins_space[last_byte >> 3] >> (last_byte & 7) & 1; }
  bool ends_turn(int32_t id) const {
    if (id == eos && id >= 0) return true;
    for (size_t i = 0; i < end_of_turn_size; ++i)
      if (end_of_turn[i] == id) return true;
    return false;
  }
};

// The hash that the index was built with.
inline uint64_t piece_hash(const uint8_t* data, size_t size) {
  uint64_t h = size * 0x9E3779B97F4A7C15ull;
  for (; size >= 4; data += 4, size -= 4) {
    const uint32_t w = uint32_t(data[0]) | uint32_t(data[1]) << 8 | uint32_t(data[2]) << 16 | uint32_t(data[3]) << 24;
    h = (h ^ w) * 0xD6E8FEB86659FD93ull;
    h ^= h >> 32;
  }
  uint32_t w = 0;
  for (size_t i = 0; i < size; ++i) w |= uint32_t(data[i]) << (8 * i);
  h = (h ^ w) * 0xD6E8FEB86659FD93ull;
  h ^= h >> 29;
  h *= 0xA0761D6478BD642Full;
  return h ^ h >> 32;
}

// Checks that the tables' sizes agree; kInvalidModel names what does not. Time does not depend on the sizes.
Status vocab_open(const VocabTables& tables, Vocab* out);
// The vocabulary of a model. kNotFound when the model has none.
Status vocab_of_model(const Model& model, Vocab* out);

}  // namespace runnel
