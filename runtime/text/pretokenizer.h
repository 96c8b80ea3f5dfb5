// How a text is cut before a model sees it: steps that each cut what the step before it left, as the converter wrote
// them.
//
// The tensor: PreHeader, PreStep steps[step_count], then what the steps point to by offsets from the tensor's beginning
// (patterns, strings, tables of characters).
#pragma once

#include "text/regex.h"

namespace runnel {

inline constexpr uint32_t kPreMagic = 0x31455250;  // "PRE1"
inline constexpr uint32_t kMaxPreSteps = 32;

enum class PreKind : uint8_t {
  kSplit = 0,         // at the matches of a pattern
  kPrepend = 1,       // a string, unless the text begins with it
  kReplaceSpace = 2,  // each space by a string
  kToAlphabet = 3,    // each byte by the printable character that stands for it, for steps that are defined on those
  kFromAlphabet = 4,  // and back
};
// What becomes of the matches: parts of their own, dropped, or joined to the part before or after; contiguous:
// neighbours of one kind are joined.
enum class SplitBehaviour : uint8_t {
  kIsolated = 0,
  kRemoved = 1,
  kMergedWithPrevious = 2,
  kMergedWithNext = 3,
  kContiguous = 4
};

struct PreHeader {
  uint32_t magic;
  uint32_t step_count;
  // A table of two classes, 1: letters, digits and marks, of which words consist; 0: no added token asks for it.
  uint32_t word_classes, word_page_count;
};
struct PreStep {
  PreKind kind;
  SplitBehaviour behaviour;
  uint8_t invert;      // what lies between the matches counts as matches
  uint8_t first_only;  // kPrepend: only at the beginning of the whole text
  uint32_t offset;     // of the pattern or string
  uint32_t size;       // of the string, bytes
  uint32_t reserved;
};
static_assert(sizeof(PreHeader) == 16 && sizeof(PreStep) == 16);

struct PreTokenizer {
  const uint8_t* tables = nullptr;
  size_t size = 0;
  const PreStep* steps = nullptr;
  uint32_t step_count = 0;
  CharClasses word;  // no pages: no added token asks for it
};

// Checks what stands in front; a pattern is checked when it is opened.
Status pre_open(const uint8_t* tables, size_t size, PreTokenizer* out);

// The parts of text[begin .. end) at one kSplit step, one after the other.
class Splitter {
 public:
  // The text may move between calls.
  Splitter(const PreStep& step, const Regex& regex, size_t begin, size_t end, const Vec<uint8_t>* text,
           RegexScratch* scratch)
      : step_(step),
        regex_(regex),
        text_(*text),
        begin_(begin),
        end_(end),
        from_(begin),
        at_(begin),
        scratch_(*scratch) {}
  // False after the last one.
  Status next(size_t* part_begin, size_t* part_end, bool* more);

 private:
  struct Item {
    size_t begin, end;
    bool match;
  };
  Status item(Item* out, bool* more);

  const PreStep& step_;
  const Regex& regex_;
  const Vec<uint8_t>& text_;
  size_t begin_, end_;
  size_t from_;  // where the next search begins
  size_t at_;    // end of the items given so far
  size_t last_match_ = SIZE_MAX;
  bool have_match_ = false, have_pending_ = false, done_ = false;
  RegexFound found_ = {};
  Item pending_ = {};
  bool previous_match_ = false;
  RegexScratch& scratch_;
};

}  // namespace runnel
