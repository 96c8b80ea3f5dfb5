// Sets of code points, and the properties of characters that patterns and normalisers ask for, as of Unicode 16.0: what
// ICU says, and unicode_16.inc for characters that an older ICU does not know. The libraries that the originals use
// have the tables of 16.0.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace runnel::convert {

// Ranges, ascending and apart. Surrogates are never in a set that is asked for.
class CodeSet {
 public:
  struct Range {
    uint32_t first, last;
  };
  CodeSet() = default;
  CodeSet(uint32_t first, uint32_t last) : ranges_{{first, last}} {}
  template <class F>
  static CodeSet where(F holds) {
    CodeSet s;
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (!holds(c)) continue;
      if (!s.ranges_.empty() && s.ranges_.back().last + 1 == c) s.ranges_.back().last = c;
      else s.ranges_.push_back({c, c});
    }
    return s;
  }
  const std::vector<Range>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool has(uint32_t c) const;
  CodeSet operator|(const CodeSet& o) const;
  CodeSet operator~() const;
  CodeSet operator&(const CodeSet& o) const { return ~(~*this | ~o); }
  // With every character that differs from one of the set in case alone.
  CodeSet any_case() const;

 private:
  std::vector<Range> ranges_;
};

// General category as two letters, "Lu".
std::string_view category_of(uint32_t code_point);
// A general category or a group of them ("L", "Lu", "Letter"), a script ("Han") or one of some binary properties
// ("Alphabetic", "White_Space"). False: it is not known.
bool property_set(std::string_view name, CodeSet* out);

}  // namespace runnel::convert
