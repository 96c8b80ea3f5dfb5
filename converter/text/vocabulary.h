// From the vocabularies of checkpoints to the tables of the file. Everything here throws std::runtime_error with a
// message that names what is wrong; UnsupportedTokenizer when the vocabulary is sound but of a kind that cannot be
// written yet, so that the caller may name other ways.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "converter/text/normalizer.h"
#include "converter/text/regex.h"
#include "format/model_generated.h"
#include "text/vocab.h"

namespace runnel::convert {

struct UnsupportedTokenizer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A step of the pre-tokenizer, as runtime/text/pretokenizer.h has them.
struct PreTokenizerStep {
  PreKind kind = PreKind::kSplit;
  SplitBehaviour behaviour = SplitBehaviour::kIsolated;
  bool invert = false, first_only = false;
  std::string text;  // the pattern, else the string
  RegexFlavour flavour = RegexFlavour::kOniguruma;
};

struct MergeRule {
  uint32_t left, right, joined, rank;
};

// A vocabulary in memory, whatever it was read from.
struct VocabSource {
  TokenizerKind kind = TokenizerKind::kSpmBpe;
  std::vector<std::string> pieces;  // SentencePiece's with spaces as U+2581, those of byte-level BPE as bytes
  std::vector<float> scores;
  std::vector<uint8_t> types;  // PieceType
  int32_t bos = -1, eos = -1, unk = -1;
  bool add_bos = false, add_eos = false, add_space_prefix = false, byte_fallback = false;
  std::string chat_template;         // as the source has it, empty: none
  std::vector<int32_t> ends;         // further ids that end an answer, as the source lists them
  std::vector<std::string> notices;  // what had to be guessed

  std::optional<SpmNormalizer> spm_normalizer;
  FirstSpace first_space = FirstSpace::kPrefix;

  size_t model_pieces = 0;  // ids from here on are added tokens that the model does not know; of the kinds with a
                            // pipeline
  // Of unigram and word_piece.
  std::vector<double> wide_scores;  // those of the tokenizers library
  double unknown_score = 0;
  uint32_t max_word_chars = 0;
  std::string word_prefix;
  bool clean_up = false;

  // Of the kinds with a pipeline.
  std::string normalizer;  // as tokenizer.json writes it, empty: none
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<MergeRule> merges;
  std::map<int32_t, uint8_t> added;         // added tokens and their flags (kAddedStripLeft and so on)
  std::map<int32_t, std::string> found_as;  // what those are in normalised text that are not their piece there
  std::vector<int32_t> prefix, suffix;      // around a text, where that is more than bos and eos
  bool whole_words_first = false;           // a word that is a piece becomes it, whatever merging would make of it
  bool char_units = false, fuse_unknown = false;

  int32_t find(std::string_view piece) const;  // -1: none
};

// The tables of runtime/text/vocab.h, each ready to be written as one tensor, and lists
// (runtime/text/vocab_fields.inc).
struct VocabData {
  std::vector<uint8_t> pieces;
  std::vector<int32_t> piece_offsets;
  std::vector<float> scores;
  std::vector<uint8_t> types;
  std::vector<uint8_t> index;
  // Of the kinds with a pipeline; empty: the file has no such table.
  std::vector<uint8_t> pre_tokenizer;
  std::vector<uint8_t> merges;
  std::vector<uint8_t> normalizer;  // of spm_bpe too
  std::vector<uint8_t> piece_trie;
  std::vector<int32_t> added;
  std::vector<uint8_t> added_flags;
  std::vector<int32_t> end_of_turn;  // ids, as Chat has them
};

// Checks the source and builds the tables.
VocabData build_vocab(const VocabSource& source);
// A view of them, as the loader makes one of a file.
VocabTables tables_of(const VocabSource& source, const VocabData& data);

// The table of model.fbs, with the names of its tensors and with check vectors. The vectors are the answers of our own
// encoder at conversion: they show later damage or a changed encoder, not that the encoder is right.
format::TokenizerT tokenizer_table(const VocabSource& source, const VocabData& data);

// A SentencePiece model (protobuf).
VocabSource from_spm_proto(std::string_view bytes);
// tokenizer.json of the tokenizers library: BPE over SentencePiece pieces with byte fallback, and models with a
// pipeline. tokenizer_config.json beside it, where there is one, has its say about added tokens.
VocabSource from_tokenizer_json(std::string_view text, std::string_view config = {});
// vocab.txt of BERT's tokenizer with its tokenizer_config.json, empty: none.
VocabSource from_bert_vocab(std::string_view text, std::string_view config);
// tokenizer_config.json beside either of them: add_bos_token, add_eos_token, bos_token, eos_token, chat_template.
void apply_tokenizer_config(std::string_view text, VocabSource* source);

// rwkv_vocab_v20230424.txt and its like; pieces are matched longest first.
VocabSource from_rwkv_vocab(std::string_view text);
// tokenizer.ggml.tokens and token_type of a GGUF whose tokenizer.ggml.model is "rwkv".
VocabSource from_gguf_rwkv(const std::vector<std::string>& tokens, const std::vector<int32_t>& types);

// A file of ranks as tiktoken reads it: lines of a piece in base64 and its rank. `name` is the file's, which tells
// families apart.
bool is_rank_file(std::string_view text);
VocabSource from_ranks(std::string_view text, const std::string& name);
// Mistral's tekken.json.
VocabSource from_tekken(std::string_view text);

// The tokenizer.* metadata of a GGUF. Absent ids are -1, absent flags keep the defaults of the kind.
struct GgufTokenizer {
  std::string model;  // tokenizer.ggml.model
  std::string pre;    // tokenizer.ggml.pre
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;  // token_type
  std::vector<std::string> merges;
  int64_t bos = -1, eos = -1, unk = -1, cls = -1, sep = -1;
  std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
  std::string charsmap;  // precompiled_charsmap
  std::string chat_template;
};
VocabSource from_gguf(const GgufTokenizer& g);

struct Chat {
  std::unique_ptr<format::ChatProgramT> program;  // null: there is no template, or it is refused
  std::vector<int32_t> end_of_turn;
  std::vector<std::string> notices;
};
// Compiles the chat template and tries it; end_of_turn holds source.ends and what the template writes behind an answer.
Chat compile_chat(const VocabSource& source);
// generation_config.json beside a vocabulary: eos_token_id, one or several.
void apply_generation_config(std::string_view text, VocabSource* source);

}  // namespace runnel::convert
