// What normalisers need to know of characters. `version` is the Unicode version whose tables are asked for: characters
// that came later are unassigned.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace runnel::convert {

void append_utf8(std::string& out, uint32_t code_point);
std::string utf8_of(uint32_t code_point);
std::vector<uint32_t> code_points_of(std::string_view text);

bool is_assigned_in(uint32_t c, int version);
// Punctuation beyond ASCII by Unicode 8.0, which the tokenizers library asks, as characters and ranges for a class of a
// pattern.
std::string old_punctuation();
bool is_surrogate(uint32_t c);

struct FormTables {
  std::map<uint32_t, std::string> decompositions;           // full ones, without Hangul's syllables
  std::map<uint32_t, uint8_t> classes;                      // of runtime/text/normalizer.h
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> pairs;  // what joins, without Hangul
};
FormTables form_tables(bool compose, bool compatibility, int version);

// As of Unicode 17.0, without context: as Rust's to_lowercase of one character.
std::string lower_case(uint32_t c);

// Unicode's rules for clusters: Cluster of runtime/text/normalizer.h.
std::map<uint32_t, uint8_t> cluster_classes();

}  // namespace runnel::convert
