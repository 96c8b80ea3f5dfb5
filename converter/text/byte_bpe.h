// Parts of readers of BPE vocabularies with a pipeline.
#pragma once

#include <nlohmann/json.hpp>

#include "converter/text/vocabulary.h"

namespace runnel::convert {

// The bytes that a piece in the alphabet of byte-level BPE stands for, where each byte is a printable character.
// Nothing: the piece has other characters.
std::optional<std::string> bytes_of_alphabet(std::string_view piece);

// tokenizer.json whose model is BPE and that is not SentencePiece's.
VocabSource bpe_from_tokenizer_json(const nlohmann::json& root);
// Steps of a tokenizer.json's pre_tokenizer; byte_level tells whether pieces are in the byte-level alphabet.
void read_pre_tokenizer(const nlohmann::json& pre, VocabSource* source, bool* byte_level);
// What is put around a text.
void read_ends(const nlohmann::json& post_processor, VocabSource* source);

// GGUF's byte-level BPE.
VocabSource bpe_from_gguf(const GgufTokenizer& g);

// All pairs of pieces that make a third one, in the order of ranks[id of the third]; ids below `count` alone. tiktoken
// merges by the rank of what is made.
std::vector<MergeRule> merges_of_ranks(const std::vector<std::string>& pieces, size_t first, size_t count);

// Tables of VocabData.
std::vector<uint8_t> build_pre_tokenizer(const VocabSource& source);
std::vector<uint8_t> build_merges(const VocabSource& source, const VocabData& data);

}  // namespace runnel::convert
