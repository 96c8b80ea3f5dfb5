// What happens to a text before it is cut: steps that each change the text as a whole, as the converter wrote them.
//
// The tensor: NormHeader, NormStep steps[step_count], then what the steps point to by offsets from the tensor's
// beginning. An argument that is a string is two: offset and bytes; one that is a trie (byte_trie.h): offset and nodes;
// one that is a table of classes: offset and pages. Layouts:
//   CharMap      u32 pages, u32 strings, u8 ascii[128], u16 page_of[kMapPages], u32 entries[pages][256], u32
//                ends[strings + 1], bytes.
//                An entry is 0 (the character stays) or 1 + the number of the string that replaces it. ascii: the
//                character that
//                one below 128 becomes, 0xFF: look at the entries.
//   ClassTable   u16 page_of[kMapPages], u8 pages[][256]
#pragma once

#include "base/vec.h"
#include "text/byte_trie.h"
#include "text/regex.h"

namespace runnel {

inline constexpr uint32_t kNormMagic = 0x314D524E;  // "NRM1"
inline constexpr uint32_t kMaxNormSteps = 32;
inline constexpr uint32_t kMapPage = 256, kMapPages = kCodePoints / kMapPage;

enum class NormKind : uint8_t {
  kMap = 0,      // each character by a string: CharMap
  kForm = 1,     // Unicode's normal forms: CharMap of decompositions, ClassTable, pairs (offset, number); composes with
                 // flag 1
  kReplace = 2,  // a string by another, from left to right
  kReplacePattern = 3,  // matches of a pattern (offset, 0) by a string
  kPrepend = 4,         // a string before a text that is not empty
  kStrip = 5,           // white space at the ends: flag 1 left, 2 right
  kSentencePiece = 6,   // SentencePiece's normaliser: the trie of replaced strings and the strings, the trie of
                        // user-defined pieces; kSpm flags
  kCharsMap = 7,  // its table as the tokenizers library applies it, grapheme by grapheme: trie, strings, ClassTable of
                  // kinds for cluster ends
};
// kForm's classes: 0: stays as it is and takes part in nothing, 255: a starter that may change, else the combining
// class.
inline constexpr uint8_t kNormStarter = 255;
inline constexpr uint8_t kNormCompose = 1, kStripLeft = 1, kStripRight = 2;
// A space before the text (with kSpmSuffix: after it), no white space at the ends and no two in a row, spaces as
// U+2581.
inline constexpr uint8_t kSpmPrefix = 1, kSpmRemoveExtra = 2, kSpmEscape = 4, kSpmSuffix = 8;
// kCharsMap's classes, by Unicode's rules for extended grapheme clusters.
enum class Cluster : uint8_t {
  kOther,
  kCr,
  kLf,
  kControl,
  kExtend,
  kJoiner,
  kSpacing,
  kPrepend,
  kL,
  kV,
  kT,
  kLv,
  kLvt,
  kRegional,
  kPicture,
  kConsonant,
  kLinker
};

struct NormHeader {
  uint32_t magic, step_count;
};
struct NormStep {
  NormKind kind;
  uint8_t flags;
  uint16_t reserved;
  uint32_t args[7];
};
static_assert(sizeof(NormHeader) == 8 && sizeof(NormStep) == 32);
// A pair of characters that kForm joins, ascending.
struct NormPair {
  uint32_t first, second, joined;
};

struct Normalizer {
  const uint8_t* tables = nullptr;
  size_t size = 0;
  const NormStep* steps = nullptr;
  uint32_t step_count = 0;
};

// Checks what stands in front; a step's tables are checked when it runs.
Status norm_open(const uint8_t* tables, size_t size, Normalizer* out);

struct NormScratch {
  Vec<uint8_t> from, to;
  Vec<uint64_t> marks;
};

// Normalises text[begin ..), valid UTF-8, in place; `regex` holds the work that is left.
Status normalize(const Normalizer& normalizer, size_t begin, Vec<uint8_t>* text, NormScratch* scratch,
                 RegexScratch* regex);

// Appends text[0 .. size) with U+FFFD for each maximal invalid part.
Status append_valid(const uint8_t* text, size_t size, Vec<uint8_t>* out);

// Unicode's White_Space.
inline bool is_white_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

}  // namespace runnel
