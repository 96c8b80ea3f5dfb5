// Patterns that the converter has compiled: a table of character classes and a list of instructions, walked with
// backtracking as the original engines do. It lies in the file and is untrusted: targets and offsets are checked where
// they are used, work is bounded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/vec.h"

namespace runnel {

inline constexpr uint32_t kCodePoints = 0x110000, kClassPage = 128, kClassPages = kCodePoints / kClassPage;
inline constexpr uint32_t kMaxClasses = 64;
inline constexpr uint32_t kRegexUnlimited = 0xFFFFFFFF;

// A class of characters is a number below 64; sets are masks of them. Layout: u16 page_of[kClassPages], u8
// pages[page_count][kClassPage].
struct CharClasses {
  const uint16_t* page_of = nullptr;
  const uint8_t* pages = nullptr;
  uint32_t page_count = 0;
  const uint8_t* ascii = nullptr;  // the page of the code points below 128

  uint32_t of(uint32_t code_point) const {
    if (code_point < kClassPage) return ascii[code_point] & (kMaxClasses - 1);
    const uint32_t page = page_of[(code_point / kClassPage) % kClassPages];
    return page < page_count ? pages[size_t(page) * kClassPage + code_point % kClassPage] & (kMaxClasses - 1) : 0;
  }
};

enum class RegexOp : uint8_t {
  kMatch = 0,
  kSet = 1,    // one character of `set`
  kRun = 2,    // low to high characters of `set`; mode: RegexMode
  kSplit = 3,  // tries the next instruction, then `target`; the first only before a character of `set`, or at the end
               // with mode 1
  kJump = 4,   // to `target`
  kNext = 5,   // the next character is in `set`, or there is none and mode is 1; takes nothing
  kPrevious = 6,  // the same for the character before
  kLook = 7,      // what stands up to its kEnd matches here (mode 1: does not); goes on at `target`, takes nothing
  kAtomic = 8,    // what stands up to its kEnd, without other ways to match it later
  kEnd = 9,
};
enum class RegexMode : uint8_t { kGreedy = 0, kLazy = 1, kPossessive = 2 };

struct RegexInstruction {
  RegexOp op;
  uint8_t mode;
  uint16_t reserved;
  uint32_t target;
  uint32_t low, high;
  uint64_t set;
};
static_assert(sizeof(RegexInstruction) == 24);

struct RegexHeader {
  uint32_t instruction_count;
  uint32_t classes;  // where the table begins, in bytes from the beginning of the tables
  uint32_t page_count;
  uint32_t empty;  // 1: it can match nothing, so `first` says nothing
  uint64_t first;  // classes that a match can begin with
};
static_assert(sizeof(RegexHeader) == 24);

struct Regex {
  RegexHeader header = {};
  const RegexInstruction* code = nullptr;
  CharClasses classes;
};

// What one text may cost; the patterns of real models take about ten steps a byte.
inline constexpr uint64_t kRegexStepsPerByte = 512, kRegexStepsPerText = 1 << 16;

struct RegexScratch {
  struct Frame {
    uint32_t pc;
    uint32_t kind;
    size_t at, low;
  };
  Vec<Frame> frames;
  uint64_t work = 0;  // steps that are left; at none the model is refused
};

// A view of the character classes at `offset` of tables[0 .. size).
Status classes_open(const uint8_t* tables, size_t size, uint32_t offset, uint32_t page_count, CharClasses* out);
// A view of the pattern at `offset` of tables[0 .. size), 8-byte aligned.
Status regex_open(const uint8_t* tables, size_t size, uint32_t offset, Regex* out);

struct RegexFound {
  bool found;
  size_t begin, end;
};
// The first match in text[begin .. end), valid UTF-8 of which nothing outside is looked at, that begins at `from` or
// later.
Status regex_search(const Regex& regex, const uint8_t* text, size_t begin, size_t end, size_t from,
                    RegexScratch* scratch, RegexFound* out);

}  // namespace runnel
