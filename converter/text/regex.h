// Patterns of pre-tokenizers and normalisers, compiled to the tables of runtime/text/regex.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "converter/text/code_set.h"

namespace runnel::convert {

// Oniguruma, which tokenizers uses: {m,n}+ repeats a group, ^ and $ stand at lines. Rust's engines, which tiktoken
// uses: {m,n}+ is possessive, ^ and $ stand at the ends of the text.
enum class RegexFlavour { kOniguruma, kRust };

// Limits of a pattern: its length, groups and classes within each other, and these together with repetitions of
// repetitions.
inline constexpr size_t kMaxPatternBytes = 8192;
inline constexpr int kMaxPatternGroups = 64, kMaxPatternHeight = 256;

// Appends the pattern's tables to `out`, aligned, and returns their offset. Throws UnsupportedTokenizer with the
// pattern and what in it cannot be compiled.
uint32_t append_regex(std::string_view pattern, RegexFlavour flavour, std::vector<uint8_t>* out);
// A table of characters with class 1 for those of the set and 0 for all others; returns its offset and its number of
// pages.
uint32_t append_classes(const CodeSet& set, std::vector<uint8_t>* out, uint32_t* page_count);
// The pattern as messages show it: not more than 200 characters of it.
std::string shown_pattern(std::string_view pattern);
// A pattern that matches the text itself.
std::string regex_escape(std::string_view text);

}  // namespace runnel::convert
