// The pre-tokenizers of models whose files give a name instead of a pattern.
#pragma once

#include <string_view>
#include <vector>

namespace runnel::convert {

inline constexpr const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr const char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr const char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What a name in tokenizer.ggml.pre stands for, as the original tokenizer has it: steps that isolate the matches of a
// pattern one after the other, whether it normalises to NFC, whether a word that is a piece becomes it without merging,
// whether bos is put in front when the file does not say.
struct NamedPreTokenizer {
  std::vector<const char*> names;
  std::vector<const char*> patterns;
  bool nfc = false, whole_words_first = false, add_bos = false;
  const char* json = nullptr;   // in place of patterns, a pre_tokenizer as tokenizer.json writes it
  bool sentence_piece = false;  // no patterns: pieces have spaces as U+2581, unknown characters are bytes
};
// Null: the name is not known.
const NamedPreTokenizer* find_pre_tokenizer(std::string_view name);

}  // namespace runnel::convert
