// Normalisers as the tables of runtime/text/normalizer.h. Characters and their properties come from ICU; where the
// libraries that the originals use have tables of an older Unicode, those are matched: normal forms and combining marks
// of 9.0, the marks and controls of BertNormalizer of 8.0.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/normalizer.h"

namespace runnel::convert {

// SentencePiece's NormalizerSpec.
struct SpmNormalizer {
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true,
       whitespace_as_suffix = false;
  std::string charsmap;  // precompiled_charsmap
  // Nothing that Vocab.add_space_prefix alone does not say.
  bool is_plain() const {
    return charsmap.empty() && !remove_extra_whitespaces && escape_whitespaces && !whitespace_as_suffix;
  }
};

// What characters become; those that are not named stay.
using CharStrings = std::map<uint32_t, std::string>;

class NormalizerBuilder {
 public:
  void map(const CharStrings& strings);
  void form(bool compose, bool compatibility);
  void replace(std::string_view from, std::string_view to);
  void replace_pattern(std::string_view pattern, std::string_view to);
  void prepend(std::string_view text);
  void strip(bool left, bool right);
  void sentence_piece(const SpmNormalizer& spec, const std::vector<std::string>& user_defined);
  // A precompiled_charsmap as the tokenizers library applies it.
  void chars_map(std::string_view precompiled);
  // Empty when there are no steps.
  std::vector<uint8_t> build();

 private:
  struct Step {
    NormStep step;
    CharStrings strings;  // of kMap: steps that follow each other become one
  };
  uint32_t add_bytes(const void* data, size_t size, size_t alignment);
  void add_string(std::string_view text, NormStep* step, int at);
  void add_trie(const std::map<std::string, uint32_t>& strings, NormStep* step, int at);
  void add_charsmap(std::string_view precompiled, NormStep* step);
  uint32_t add_map(const CharStrings& strings);
  void add_classes(const std::map<uint32_t, uint8_t>& classes, NormStep* step, int at);

  std::vector<Step> steps_;
  std::vector<uint8_t> tables_;  // what steps point to; offsets become those of the tensor at the end
};

// Appends the steps of tokenizer.json's normalizer.
void read_normalizer(const nlohmann::json& normalizer, NormalizerBuilder* builder);

// The strings of a precompiled_charsmap.
std::map<std::string, std::string> decode_charsmap(std::string_view precompiled);

}  // namespace runnel::convert
