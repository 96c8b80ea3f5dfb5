// Vocabularies whose model walks a trie of pieces: unigram and word_piece.
#pragma once

#include <nlohmann/json.hpp>

#include "converter/text/vocabulary.h"

namespace runnel::convert {

// tokenizer.json whose model is Unigram or WordPiece.
VocabSource unigram_from_tokenizer_json(const nlohmann::json& root);
VocabSource word_piece_from_tokenizer_json(const nlohmann::json& root);
// What a decoder of tokenizer.json makes of pieces written SentencePiece's way; refuses by name what cannot be written.
FirstSpace first_space_of(const nlohmann::json& decoder);

// SentencePiece's normaliser, and what its decoder drops because of it.
void set_spm_normalizer(const SpmNormalizer& spec, VocabSource* source);
// A SentencePiece model of type unigram: what follows from its pieces, scores and types.
void finish_spm_unigram(VocabSource* source);

VocabSource unigram_from_gguf(const GgufTokenizer& g);
VocabSource word_piece_from_gguf(const GgufTokenizer& g);

// Tables of VocabData.
std::vector<uint8_t> build_piece_trie(const VocabSource& source);
std::vector<uint8_t> build_normalizer(const VocabSource& source);

}  // namespace runnel::convert
