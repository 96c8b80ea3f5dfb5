#include "converter/text/trie_models.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "converter/read/json_text.h"
#include "converter/text/added_tokens.h"
#include "converter/text/byte_bpe.h"
#include "converter/text/byte_trie.h"
#include "converter/text/json_access.h"
#include "converter/text/unicode.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

constexpr float kUnknownPenalty = 10;  // below the lowest score

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }
[[noreturn]] void unsupported(const std::string& what) {
  throw UnsupportedTokenizer("tokenizer.json: " + what + " is not supported yet");
}

std::string byte_piece(int b) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", unsigned(b));
  return name;
}

// What is around the model.
void read_pipeline(const Json& root, VocabSource* s) {
  bool byte_level = false;
  read_pre_tokenizer(object_of(root, "pre_tokenizer"), s, &byte_level);
  if (byte_level) unsupported("the pre-tokenizer ByteLevel before a model that is not BPE");
  if (const Json& normalizer = object_of(root, "normalizer"); !normalizer.is_null()) s->normalizer = normalizer.dump();
  s->model_pieces = s->pieces.size();
  read_added_tokens(list_of(root, "added_tokens"), s->pieces.size(), s);
  read_ends(object_of(root, "post_processor"), s);
}

int32_t checked_id(int64_t value, const char* what, size_t n) {
  if (value < -1 || value >= int64_t(n))
    throw std::runtime_error("tokenizer: " + std::string(what) + " is " + std::to_string(value) + ", the GGUF has " +
                             std::to_string(n) + " tokens");
  return int32_t(value);
}

}  // namespace

FirstSpace first_space_of(const Json& decoder) {
  if (!decoder.is_object()) unsupported("a tokenizer without a decoder");
  const std::string type = text_of(decoder, "type");
  if (type == "Metaspace") {
    if (const std::string mark = text_of(decoder, "replacement"); !mark.empty() && mark != kSpaceMark)
      unsupported("a Metaspace decoder of other marks than U+2581");
    std::string scheme = text_of(decoder, "prepend_scheme");
    if (scheme.empty()) scheme = flag_of(decoder, "add_prefix_space", true) ? "always" : "never";
    return scheme == "never" ? FirstSpace::kNone : FirstSpace::kAll;
  }
  if (type != "Sequence") unsupported("the decoder " + type);
  bool marks = false, fused = false;
  FirstSpace first = FirstSpace::kNone;
  for (const Json& step : list_of(decoder, "decoders")) {
    const std::string kind = text_of(step, "type");
    if (kind == "Replace" && text_of(object_of(step, "pattern"), "String") == kSpaceMark &&
        text_of(step, "content") == " ")
      marks = true;
    else if (kind == "Fuse") fused = true;
    else if (kind == "Strip" && fused && text_of(step, "content") == " " && member(step, "start") == 1 &&
             member(step, "stop") == 0)
      first = FirstSpace::kOne;
    else if (kind == "Metaspace") return first_space_of(step);
    else if (kind != "ByteFallback") unsupported("the decoder " + kind);
  }
  if (!marks) unsupported("a decoder that leaves U+2581");
  return first;
}

VocabSource unigram_from_tokenizer_json(const Json& root) {
  const Json& model = member(root, "model");
  const Json& vocab = list_of(model, "vocab");
  if (vocab.empty()) fail("model.vocab is missing");
  VocabSource s;
  s.kind = TokenizerKind::kUnigram;
  double lowest = std::numeric_limits<double>::infinity();
  for (const Json& entry : vocab) {
    const std::string name = "piece " + std::to_string(s.pieces.size());
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      fail(name + " is not a pair of a text and a score");
    s.pieces.push_back(entry[0].get<std::string>());
    s.wide_scores.push_back(entry[1].get<double>());
    if (!std::isfinite(s.wide_scores.back())) fail(name + " has a score that is not finite");
    lowest = std::min(lowest, s.wide_scores.back());
  }
  s.types.assign(s.pieces.size(), uint8_t(PieceType::kNormal));
  s.unknown_score = lowest - double(kUnknownPenalty);
  s.fuse_unknown = true;
  s.byte_fallback = flag_of(model, "byte_fallback", false);
  if (const Json& unk = member(model, "unk_id"); !unk.is_null()) {
    s.unk = id_of(unk, "\"unk_id\"");
    if (size_t(s.unk) >= s.pieces.size())
      fail("unk_id is " + unk.dump() + ", the vocabulary has " + std::to_string(s.pieces.size()) + " pieces");
  }
  for (int b = 0; b < 256 && s.byte_fallback; ++b) {
    const int32_t id = s.find(byte_piece(b));
    if (id < 0) unsupported("byte_fallback without the piece " + byte_piece(b));
    s.types[size_t(id)] = uint8_t(PieceType::kByte);
  }
  if (s.unk < 0 && !s.byte_fallback) unsupported("a Unigram model without unk_id");
  read_pipeline(root, &s);
  s.first_space = first_space_of(object_of(root, "decoder"));
  return s;
}

VocabSource word_piece_from_tokenizer_json(const Json& root) {
  const Json& model = member(root, "model");
  const Json& vocab = object_of(model, "vocab");
  if (vocab.empty()) fail("model.vocab is missing");
  VocabSource s;
  s.kind = TokenizerKind::kWordPiece;
  for (const auto& [piece, id] : vocab.items()) {
    // A vocabulary with holes is possible, one that is nearly all holes is an attack.
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > int64_t(vocab.size() * 4 + 1000))
      fail("the piece \"" + piece + "\" has an id out of range");
    const size_t at = id.get<size_t>();
    if (at >= s.pieces.size()) s.pieces.resize(at + 1), s.types.resize(at + 1, uint8_t(PieceType::kUnused));
    if (PieceType(s.types[at]) != PieceType::kUnused) fail("two pieces have the id " + std::to_string(at));
    s.pieces[at] = piece;
    s.types[at] = uint8_t(PieceType::kNormal);
  }
  s.word_prefix = model.contains("continuing_subword_prefix") ? text_of(model, "continuing_subword_prefix") : "##";
  if (s.word_prefix.size() > kPrefixBytes)
    unsupported("a continuing_subword_prefix of " + std::to_string(s.word_prefix.size()) + " bytes");
  const Json& most = member(model, "max_input_chars_per_word");
  if (!most.is_number_unsigned() && model.contains("max_input_chars_per_word"))
    refuse_json("\"max_input_chars_per_word\"", most, "a number of characters");
  s.max_word_chars = most.is_number_unsigned() ? uint32_t(std::min<uint64_t>(most.get<uint64_t>(), UINT32_MAX)) : 100;
  s.unk = s.find(model.contains("unk_token") ? text_of(model, "unk_token") : "[UNK]");
  if (s.unk < 0) unsupported("a WordPiece model whose unk_token is not in the vocabulary");
  read_pipeline(root, &s);
  const Json& decoder = object_of(root, "decoder");
  if (text_of(decoder, "type") != "WordPiece")
    unsupported("the decoder " + (decoder.is_object() ? text_of(decoder, "type") : std::string("null")) +
                " of a WordPiece model");
  if ((decoder.contains("prefix") ? text_of(decoder, "prefix") : "##") != s.word_prefix)
    unsupported("a WordPiece decoder with another prefix than the model's");
  s.clean_up = flag_of(decoder, "cleanup", true);
  return s;
}

static VocabSource bert_vocab(std::string_view text, const Json& config) {
  Json root = {{"normalizer",
                {{"type", "BertNormalizer"},
                 {"clean_text", true},
                 {"handle_chinese_chars", flag_of(config, "tokenize_chinese_chars", true, Null::kAbsent)},
                 {"strip_accents", member(config, "strip_accents")},
                 {"lowercase", flag_of(config, "do_lower_case", true, Null::kAbsent)}}},
               {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
               {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}}};
  Json vocab = Json::object();
  for (size_t id = 0; !text.empty(); ++id) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    vocab[std::string(line)] = id;
  }
  const auto token = [&](const char* key, const char* otherwise) {
    const Json& j = member(config, key);
    const std::string piece = j.is_string() ? j.get<std::string>() : text_of(j, "content");
    return piece.empty() ? std::string(otherwise) : piece;
  };
  Json added = Json::array();
  for (const std::string& piece :
       {token("unk_token", "[UNK]"), token("sep_token", "[SEP]"), token("pad_token", "[PAD]"),
        token("cls_token", "[CLS]"), token("mask_token", "[MASK]")})
    if (vocab.contains(piece)) added.push_back({{"content", piece}, {"special", true}, {"normalized", false}});
  root["model"] = {{"type", "WordPiece"}, {"vocab", vocab}, {"unk_token", token("unk_token", "[UNK]")}};
  root["added_tokens"] = added;
  root["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", token("cls_token", "[CLS]")}}}},
                              {{"Sequence", {{"id", "A"}}}},
                              {{"SpecialToken", {{"id", token("sep_token", "[SEP]")}}}}}}};
  return word_piece_from_tokenizer_json(root);
}

VocabSource from_bert_vocab(std::string_view text, std::string_view config_text) {
  const Json config = config_text.empty() ? Json::object() : parse_json(config_text, "tokenizer_config.json");
  return reading("tokenizer_config.json", [&] { return bert_vocab(text, config); });
}

void set_spm_normalizer(const SpmNormalizer& spec, VocabSource* s) {
  s->spm_normalizer = spec;
  if (spec.remove_extra_whitespaces) s->first_space = FirstSpace::kEach;
  else s->first_space = spec.add_dummy_prefix ? FirstSpace::kOne : FirstSpace::kNone;
}

// The score of unknown pieces follows from those of the normal ones.
void finish_spm_unigram(VocabSource* s) {
  float lowest = std::numeric_limits<float>::max();
  bool any = false;
  for (size_t i = 0; i < s->pieces.size(); ++i) {
    const PieceType type = PieceType(s->types[i]);
    if (type == PieceType::kControl || type == PieceType::kUnknown) s->added[int32_t(i)] = 0;
    if (type != PieceType::kNormal) continue;
    lowest = std::min(lowest, s->scores[i]);
    any = true;
  }
  if (!any) throw std::runtime_error("tokenizer: a unigram model has no normal pieces");
  if (s->unk < 0) throw std::runtime_error("tokenizer: a unigram model has no unknown piece");
  s->kind = TokenizerKind::kUnigram;
  s->unknown_score = double(lowest - kUnknownPenalty);
  s->fuse_unknown = true;
  s->model_pieces = s->pieces.size();
}

VocabSource unigram_from_gguf(const GgufTokenizer& g) {
  VocabSource s;
  const size_t n = g.tokens.size();
  if (g.scores.size() != n)
    throw std::runtime_error("tokenizer: the GGUF has " + std::to_string(n) + " tokens and " +
                             std::to_string(g.scores.size()) + " scores");
  if (g.types.size() != n)
    throw std::runtime_error("tokenizer: the GGUF has " + std::to_string(n) + " tokens and " +
                             std::to_string(g.types.size()) + " token types");
  s.pieces = g.tokens;
  s.scores = g.scores;
  bool bytes[256] = {};
  for (size_t i = 0; i < n; ++i) {
    if (g.types[i] < 1 || g.types[i] > 6)
      throw std::runtime_error("tokenizer: token " + std::to_string(i) + " has the unknown type " +
                               std::to_string(g.types[i]));
    s.types.push_back(uint8_t(g.types[i]));
    if (PieceType(g.types[i]) == PieceType::kByte)
      for (int b = 0; b < 256; ++b) bytes[b] |= s.pieces[i] == byte_piece(b);
  }
  s.byte_fallback = std::all_of(std::begin(bytes), std::end(bytes), [](bool b) { return b; });
  s.bos = checked_id(g.bos, "bos_token_id", n);
  s.eos = checked_id(g.eos, "eos_token_id", n);
  s.unk = checked_id(g.unk, "unknown_token_id", n);
  for (size_t i = 0; i < n && s.unk < 0; ++i)
    if (PieceType(s.types[i]) == PieceType::kUnknown) s.unk = int32_t(i);
  if (s.unk < 0 && n > 2) s.unk = 2;  // where T5 has it
  if (s.unk >= 0) s.types[size_t(s.unk)] = uint8_t(PieceType::kUnknown);
  s.add_bos = g.add_bos.value_or(false) && s.bos >= 0;
  s.add_eos = g.add_eos.value_or(true) && s.eos >= 0;
  s.add_space_prefix = g.add_space_prefix.value_or(true);
  SpmNormalizer spec;
  spec.add_dummy_prefix = s.add_space_prefix;
  spec.remove_extra_whitespaces = g.remove_extra_whitespaces.value_or(true);
  spec.charsmap = g.charsmap;
  set_spm_normalizer(spec, &s);
  s.chat_template = g.chat_template;
  finish_spm_unigram(&s);
  return s;
}

// A GGUF writes pieces that begin a word with U+2581 and those within words without a mark.
VocabSource word_piece_from_gguf(const GgufTokenizer& g) {
  const size_t n = g.tokens.size();
  if (g.types.size() != n)
    throw std::runtime_error("tokenizer: the GGUF has " + std::to_string(n) + " tokens and " +
                             std::to_string(g.types.size()) + " token types");
  Json vocab = Json::object(), added = Json::array();
  bool cased = false;
  for (size_t i = 0; i < n; ++i) {
    std::string piece = g.tokens[i];
    if (g.types[i] < 1 || g.types[i] > 6)
      throw std::runtime_error("tokenizer: token " + std::to_string(i) + " has the unknown type " +
                               std::to_string(g.types[i]));
    const PieceType type = PieceType(g.types[i]);
    if (type == PieceType::kNormal) {
      const bool begins = piece.compare(0, kSpaceMarkBytes, kSpaceMark) == 0;
      piece = begins ? piece.substr(kSpaceMarkBytes) : "##" + piece;
      // The file does not say whether text is put into lower case; a vocabulary for such text has no capitals.
      cased |= piece[0] != '[' && std::any_of(piece.begin(), piece.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    } else if (type != PieceType::kUnused) {
      added.push_back({{"content", piece}, {"special", type != PieceType::kUserDefined}, {"normalized", false}});
    }
    if (piece.empty() || vocab.contains(piece)) piece = "[hole " + std::to_string(i) + "]";
    vocab[piece] = i;
  }
  const int32_t cls = checked_id(g.cls >= 0 ? g.cls : g.bos, "cls_token_id", n),
                sep = checked_id(g.sep >= 0 ? g.sep : g.eos, "seperator_token_id", n);
  const int32_t unk = checked_id(g.unk, "unknown_token_id", n);
  Json root = {{"normalizer", {{"type", "BertNormalizer"}, {"lowercase", !cased}}},
               {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
               {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
               {"added_tokens", added}};
  root["model"] = {{"type", "WordPiece"},
                   {"vocab", vocab},
                   {"unk_token", unk >= 0                              ? g.tokens[size_t(unk)]
                                 : vocab.contains("[UNK]") || n <= 100 ? "[UNK]"
                                                                       : g.tokens[100]}};  // BERT has it there
  VocabSource s = word_piece_from_tokenizer_json(root);
  s.bos = cls, s.eos = sep;
  s.add_bos = g.add_bos.value_or(true) && cls >= 0;
  s.add_eos = g.add_eos.value_or(true) && sep >= 0;
  s.chat_template = g.chat_template;
  return s;
}

std::vector<uint8_t> build_piece_trie(const VocabSource& s) {
  std::map<std::string, uint32_t> pieces;
  for (size_t i = 0; i < s.model_pieces; ++i) {
    const PieceType type = PieceType(s.types[i]);
    // SentencePiece's byte pieces do not stand for themselves, those of the tokenizers library do.
    const bool stands = type == PieceType::kNormal || type == PieceType::kUserDefined ||
                        (type == PieceType::kByte && !s.wide_scores.empty());
    if (stands && !s.pieces[i].empty()) pieces[s.pieces[i]] = uint32_t(i);
  }
  const std::vector<uint64_t> nodes = build_byte_trie(pieces);
  PieceTrieHeader h = {};
  h.magic = kPieceTrieMagic;
  h.piece_count = uint32_t(s.pieces.size());
  h.node_count = uint32_t(nodes.size());
  h.unknown_score = s.unknown_score;
  h.max_chars = s.max_word_chars;
  h.prefix_size = uint32_t(s.word_prefix.size());
  std::memcpy(h.prefix, s.word_prefix.data(), s.word_prefix.size());
  std::vector<double> scores = s.wide_scores;
  if (scores.empty() && std::find(s.types.begin(), s.types.end(), uint8_t(PieceType::kUserDefined)) != s.types.end())
    h.flags = kUserTenths;
  if (!scores.empty()) {
    h.flags = kWideSums;
    scores.resize(s.pieces.size(), 0);
  }
  std::vector<uint8_t> out(sizeof h + nodes.size() * 8 + scores.size() * 8);
  std::memcpy(out.data(), &h, sizeof h);
  std::memcpy(out.data() + sizeof h, nodes.data(), nodes.size() * 8);
  if (!scores.empty()) std::memcpy(out.data() + sizeof h + nodes.size() * 8, scores.data(), scores.size() * 8);
  return out;
}

std::vector<uint8_t> build_normalizer(const VocabSource& s) {
  NormalizerBuilder b;
  if (!s.normalizer.empty()) read_normalizer(Json::parse(s.normalizer), &b);
  if (s.spm_normalizer && (has_pipeline(s.kind) || !s.spm_normalizer->is_plain())) {
    std::vector<std::string> user;
    for (size_t i = 0; i < s.pieces.size(); ++i)
      if (PieceType(s.types[i]) == PieceType::kUserDefined && !s.pieces[i].empty()) user.push_back(s.pieces[i]);
    b.sentence_piece(*s.spm_normalizer, user);
  }
  return b.build();
}

}  // namespace runnel::convert
