// Reads tokenizer.json (the tokenizers library) where it describes a SentencePiece BPE model, and tokenizer_config.json.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "converter/text/byte_bpe.h"
#include "converter/text/json_access.h"
#include "converter/text/trie_models.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }
[[noreturn]] void unsupported(const std::string& what) { throw UnsupportedTokenizer("tokenizer.json: " + what + " is not supported yet"); }

Json parse(std::string_view text, const char* name) {
  Json j = Json::parse(text, nullptr, false);
  if (j.is_discarded() || !j.is_object()) throw std::runtime_error(std::string(name) + ": not a JSON object");
  return j;
}

bool replaces_space(const Json& j) {
  return text_of(j, "type") == "Replace" && text_of(member(j, "pattern"), "String") == " " && text_of(j, "content") == kSpaceMark;
}

// Accepts what means: spaces become U+2581, with or without one before the text.
void read_normalizer(const Json& root, VocabSource* s) {
  bool escapes = false;
  s->add_space_prefix = false;
  const Json& normalizer = member(root, "normalizer");
  std::vector<Json> steps;
  if (text_of(normalizer, "type") == "Sequence") {
    if (!member(normalizer, "normalizers").is_array()) fail("its normalizer's sequence is not a list");
    for (const Json& j : member(normalizer, "normalizers")) steps.push_back(j);
  } else if (normalizer.is_object()) {
    steps.push_back(normalizer);
  }
  for (const Json& j : steps) {
    if (replaces_space(j)) escapes = true;
    else if (text_of(j, "type") == "Prepend" && text_of(j, "prepend") == kSpaceMark) s->add_space_prefix = true;
    else unsupported("the normalizer " + text_of(j, "type"));
  }
  const Json& pre = member(root, "pre_tokenizer");
  if (pre.is_object()) {
    const std::string type = text_of(pre, "type");
    if (type == "Metaspace") {
      if (text_of(pre, "replacement") != kSpaceMark || flag_of(pre, "split", true)) unsupported("a Metaspace pre-tokenizer that splits");
      const std::string scheme = text_of(pre, "prepend_scheme");
      s->add_space_prefix = scheme.empty() ? flag_of(pre, "add_prefix_space", true) : scheme != "never";
      escapes = true;
    } else if (type != "Split" || text_of(member(pre, "pattern"), "String") != " " || !escapes) {
      // Splitting at spaces that the normalizer has already replaced does nothing.
      unsupported("the pre-tokenizer " + type);
    }
  }
  if (!escapes) unsupported("a BPE model that does not write spaces as U+2581");
}

// A rank belongs to a pair of pieces, SentencePiece's score to the joined piece. They say the same when all pairs that make a piece
// are listed, with nothing else between them.
void read_merges(const Json& merges, const std::unordered_map<std::string, int32_t>& ids, VocabSource* s) {
  if (!merges.is_array()) fail("model.merges is not a list");
  std::vector<int64_t> last_rank(s->pieces.size(), -1), pairs(s->pieces.size(), 0);
  int64_t rank = -1, group = 0;
  int32_t previous = -1;
  for (const Json& m : merges) {
    std::string left, right;
    ++rank;
    if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
      left = m[0].get<std::string>(), right = m[1].get<std::string>();
    } else if (m.is_string()) {
      const std::string both = m.get<std::string>();
      const size_t space = both.find(' ');
      if (space == both.npos) fail("merge " + std::to_string(rank) + " is not a pair");
      left = both.substr(0, space), right = both.substr(space + 1);
    } else {
      fail("merge " + std::to_string(rank) + " is not a pair");
    }
    const auto joined = ids.find(left + right);
    if (joined == ids.end() || !ids.count(left) || !ids.count(right)) fail("merge " + std::to_string(rank) + " has a piece that is not in the vocabulary");
    const int32_t id = joined->second;
    ++pairs[size_t(id)];
    if (id == previous) continue;
    // Added tokens are matched before anything merges, so the place of their merges does not matter.
    if (last_rank[size_t(id)] >= 0 && PieceType(s->types[size_t(id)]) == PieceType::kNormal) unsupported("a list of merges that is not SentencePiece's");
    last_rank[size_t(id)] = rank;
    s->scores[size_t(id)] = -float(++group);
    previous = id;
  }
  for (size_t id = 0; id < s->pieces.size(); ++id) {
    if (PieceType(s->types[id]) != PieceType::kNormal) continue;
    const std::string& p = s->pieces[id];
    int64_t possible = 0;
    for (size_t cut = 1; cut < p.size(); ++cut) {
      if ((uint8_t(p[cut]) & 0xC0) == 0x80) continue;
      const auto a = ids.find(p.substr(0, cut)), b = ids.find(p.substr(cut));
      if (a == ids.end() || b == ids.end()) continue;
      possible += PieceType(s->types[size_t(a->second)]) == PieceType::kNormal && PieceType(s->types[size_t(b->second)]) == PieceType::kNormal;
    }
    if (pairs[id] < possible) unsupported("a list of merges that is not SentencePiece's (piece " + std::to_string(id) + ")");
  }
}

// Whether the template of one text begins with bos or ends with eos; their pieces.
void read_post_processor(const Json& post, VocabSource* s) {
  const std::string type = text_of(post, "type");
  if (type == "Sequence") {
    for (const Json& j : member(post, "processors")) read_post_processor(j, s);
    return;
  }
  if (type != "TemplateProcessing" || !member(post, "single").is_array()) return;
  const Json& single = post["single"];
  const auto special = [&](const Json& j) { return s->find(text_of(member(j, "SpecialToken"), "id")); };
  if (single.empty()) return;
  if (single.front().contains("SpecialToken")) s->bos = special(single.front()), s->add_bos = s->bos >= 0;
  if (single.size() > 1 && single.back().contains("SpecialToken")) s->eos = special(single.back()), s->add_eos = s->eos >= 0;
}

// SentencePiece's BPE, which has an encoder of its own.
VocabSource spm_from_tokenizer_json(const Json& root) {
  const Json& model = member(root, "model");
  if (!flag_of(model, "byte_fallback", false)) unsupported("a BPE model without byte_fallback");
  if (flag_of(model, "ignore_merges", false)) unsupported("ignore_merges");
  if (!text_of(model, "continuing_subword_prefix").empty() || !text_of(model, "end_of_word_suffix").empty()) unsupported("a BPE model with word prefixes or suffixes");
  const Json& vocab = member(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) fail("model.vocab is missing");

  VocabSource s;
  read_normalizer(root, &s);
  const size_t count = vocab.size() + (member(root, "added_tokens").is_array() ? root["added_tokens"].size() : 0);
  std::unordered_map<std::string, int32_t> ids;
  const auto add = [&](const std::string& piece, const Json& id) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= int64_t(count)) fail("the piece \"" + piece + "\" has an id out of range");
    const size_t at = id.get<size_t>();
    if (at >= s.pieces.size()) s.pieces.resize(at + 1), s.types.resize(at + 1, 0);
    if (s.types[at] && s.pieces[at] != piece) fail("two pieces have the id " + std::to_string(at));
    s.pieces[at] = piece;
    s.types[at] = uint8_t(PieceType::kNormal);
    ids[piece] = int32_t(at);
    return at;
  };
  for (const auto& [piece, id] : vocab.items()) add(piece, id);
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    if (const auto at = ids.find(name); at != ids.end()) s.types[size_t(at->second)] = uint8_t(PieceType::kByte);
  }
  if (member(root, "added_tokens").is_array())
    for (const Json& t : root["added_tokens"]) {
      const std::string piece = text_of(t, "content");
      if (piece.empty()) fail("an added token has no content");
      s.types[add(piece, member(t, "id"))] = uint8_t(flag_of(t, "special", false) ? PieceType::kControl : PieceType::kUserDefined);
    }
  for (size_t i = 0; i < s.types.size(); ++i)
    if (s.types[i] == 0) fail("no piece has the id " + std::to_string(i));
  // Pieces that no merge makes can only be single characters; their score is never looked at.
  s.scores.assign(s.pieces.size(), -float(1 << 24));
  read_merges(member(model, "merges"), ids, &s);
  for (size_t i = 0; i < s.pieces.size(); ++i)
    if (PieceType(s.types[i]) == PieceType::kUserDefined)
      for (size_t at; (at = s.pieces[i].find(' ')) != std::string::npos;) s.pieces[i].replace(at, 1, kSpaceMark);
  s.byte_fallback = true;
  if (const std::string unk = text_of(model, "unk_token"); !unk.empty() && ids.count(unk)) {
    s.unk = ids[unk];
    s.types[size_t(s.unk)] = uint8_t(PieceType::kUnknown);
  }
  read_post_processor(member(root, "post_processor"), &s);
  return s;
}

}  // namespace

VocabSource from_tokenizer_json(std::string_view text) {
  const Json root = parse(text, "tokenizer.json");
  const Json& model = member(root, "model");
  const std::string type = text_of(model, "type");
  if (type == "Unigram") return unigram_from_tokenizer_json(root);
  if (type == "WordPiece") return word_piece_from_tokenizer_json(root);
  if (type != "BPE" && !(type.empty() && model.contains("merges"))) unsupported("a model of type " + (type.empty() ? "?" : type));
  try {
    return spm_from_tokenizer_json(root);
  } catch (const UnsupportedTokenizer&) {
    return bpe_from_tokenizer_json(root);
  }
}

namespace {

// What transformers knows about added tokens beyond tokenizer.json: more of them may be special.
void apply_added_tokens(const Json& list, VocabSource* s) {
  if (!list.is_object() || !has_pipeline(s->kind)) return;
  for (const auto& [key, t] : list.items()) {
    const int32_t id = s->find(text_of(t, "content"));
    if (id < 0 || key != std::to_string(id)) continue;
    const bool special = flag_of(t, "special", false);
    s->types[size_t(id)] = uint8_t(special ? PieceType::kControl : PieceType::kUserDefined);
    s->added[id] = uint8_t((flag_of(t, "lstrip", false) ? kAddedStripLeft : 0) | (flag_of(t, "rstrip", false) ? kAddedStripRight : 0) |
                           (flag_of(t, "single_word", false) ? kAddedSingleWord : 0) | (flag_of(t, "normalized", !special) ? kAddedNormalized : 0));
  }
}

}  // namespace

void apply_tokenizer_config(std::string_view text, VocabSource* s) {
  const Json root = parse(text, "tokenizer_config.json");
  apply_added_tokens(member(root, "added_tokens_decoder"), s);
  const auto id_of = [&](const char* key) {
    const Json& j = member(root, key);
    const std::string piece = j.is_string() ? j.get<std::string>() : text_of(j, "content");
    return piece.empty() ? -1 : s->find(piece);
  };
  if (const int32_t id = id_of("bos_token"); id >= 0) s->bos = id;
  if (const int32_t id = id_of("eos_token"); id >= 0) s->eos = id;
  s->add_bos = flag_of(root, "add_bos_token", s->add_bos) && s->bos >= 0;
  s->add_eos = flag_of(root, "add_eos_token", s->add_eos) && s->eos >= 0;
  const Json& chat = member(root, "chat_template");
  if (chat.is_string()) s->chat_template = chat.get<std::string>();
  if (chat.is_array())
    for (const Json& t : chat)
      if (text_of(t, "name") == "default") s->chat_template = text_of(t, "template");
}

}  // namespace runnel::convert
