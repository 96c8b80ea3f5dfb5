// Reads tokenizer.json (the tokenizers library) where it describes a SentencePiece BPE model, and
// tokenizer_config.json.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "converter/read/json_text.h"
#include "converter/text/added_tokens.h"
#include "converter/text/byte_bpe.h"
#include "converter/text/json_access.h"
#include "converter/text/trie_models.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }
[[noreturn]] void unsupported(const std::string& what) {
  throw UnsupportedTokenizer("tokenizer.json: " + what + " is not supported yet");
}

Json parse(std::string_view text, const char* name) {
  Json j = parse_json(text, name);
  if (!j.is_object()) throw std::runtime_error(std::string(name) + ": not a JSON object");
  return j;
}

bool replaces_space(const Json& j) {
  return text_of(j, "type") == "Replace" && text_of(object_of(j, "pattern"), "String") == " " &&
         text_of(j, "content") == kSpaceMark;
}

// Accepts what means: spaces become U+2581, with or without one before the text.
void read_normalizer(const Json& root, VocabSource* s) {
  bool escapes = false;
  s->add_space_prefix = false;
  const Json& normalizer = object_of(root, "normalizer");
  std::vector<Json> steps;
  if (text_of(normalizer, "type") == "Sequence") {
    for (const Json& j : list_of(normalizer, "normalizers")) steps.push_back(j);
  } else if (normalizer.is_object()) {
    steps.push_back(normalizer);
  }
  for (const Json& j : steps) {
    if (replaces_space(j)) escapes = true;
    else if (text_of(j, "type") == "Prepend" && text_of(j, "prepend") == kSpaceMark) s->add_space_prefix = true;
    else unsupported("the normalizer " + text_of(j, "type"));
  }
  const Json& pre = object_of(root, "pre_tokenizer");
  if (pre.is_object()) {
    const std::string type = text_of(pre, "type");
    if (type == "Metaspace") {
      if (text_of(pre, "replacement") != kSpaceMark || flag_of(pre, "split", true))
        unsupported("a Metaspace pre-tokenizer that splits");
      const std::string scheme = text_of(pre, "prepend_scheme");
      s->add_space_prefix = scheme.empty() ? flag_of(pre, "add_prefix_space", true) : scheme != "never";
      escapes = true;
    } else if (type != "Split" || text_of(object_of(pre, "pattern"), "String") != " " || !escapes) {
      // Splitting at spaces that the normalizer has already replaced does nothing.
      unsupported("the pre-tokenizer " + type);
    }
  }
  if (!escapes) unsupported("a BPE model that does not write spaces as U+2581");
}

// A rank belongs to a pair of pieces, SentencePiece's score to the joined piece. They say the same when all pairs that
// make a piece are listed, with nothing else between them.
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
    if (joined == ids.end() || !ids.count(left) || !ids.count(right))
      fail("merge " + std::to_string(rank) + " has a piece that is not in the vocabulary");
    const int32_t id = joined->second;
    ++pairs[size_t(id)];
    if (id == previous) continue;
    // Added tokens are matched before anything merges, so the place of their merges does not matter.
    if (last_rank[size_t(id)] >= 0 && PieceType(s->types[size_t(id)]) == PieceType::kNormal)
      unsupported("a list of merges that is not SentencePiece's");
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
      possible += PieceType(s->types[size_t(a->second)]) == PieceType::kNormal &&
                  PieceType(s->types[size_t(b->second)]) == PieceType::kNormal;
    }
    if (pairs[id] < possible)
      unsupported("a list of merges that is not SentencePiece's (piece " + std::to_string(id) + ")");
  }
}

// Whether the template of one text begins with bos or ends with eos; their pieces.
void read_post_processor(const Json& post, VocabSource* s) {
  const std::string type = text_of(post, "type");
  if (type == "Sequence") {
    for (const Json& j : list_of(post, "processors")) read_post_processor(j, s);
    return;
  }
  if (type != "TemplateProcessing") return;
  read_ends(post, s);
  if (s->prefix.size() > 1 || s->suffix.size() > 1)
    unsupported("a template of several tokens around a SentencePiece text");
  s->prefix.clear(), s->suffix.clear();  // bos and eos say it, also where tokenizer_config.json names others
}

// SentencePiece's BPE, which has an encoder of its own.
VocabSource spm_from_tokenizer_json(const Json& root, const Json& config) {
  const Json& model = object_of(root, "model");
  if (!flag_of(model, "byte_fallback", false)) unsupported("a BPE model without byte_fallback");
  if (flag_of(model, "ignore_merges", false)) unsupported("ignore_merges");
  if (!text_of(model, "continuing_subword_prefix", Null::kAbsent).empty() ||
      !text_of(model, "end_of_word_suffix", Null::kAbsent).empty())
    unsupported("a BPE model with word prefixes or suffixes");
  const Json& vocab = object_of(model, "vocab");
  if (vocab.empty()) fail("model.vocab is missing");

  VocabSource s;
  read_normalizer(root, &s);
  std::unordered_map<std::string, int32_t> ids;
  for (const auto& [piece, number] : vocab.items()) {
    const size_t at = size_t(id_of(number, "the id of the piece \"" + piece + '"'));
    if (at >= vocab.size()) unsupported("a vocabulary with holes");
    if (at >= s.pieces.size()) s.pieces.resize(at + 1), s.types.resize(at + 1, 0);
    if (s.types[at]) fail("two pieces have the id " + std::to_string(at));
    s.pieces[at] = piece;
    s.types[at] = uint8_t(PieceType::kNormal);
    ids[piece] = int32_t(at);
  }
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    if (const auto at = ids.find(name); at != ids.end()) s.types[size_t(at->second)] = uint8_t(PieceType::kByte);
  }
  read_added_tokens(list_of(root, "added_tokens"), vocab.size(), &s);
  apply_added_tokens(member(config, "added_tokens_decoder"), &s);
  for (const auto& [id, flags] : s.added)
    if (flags)
      unsupported("the added token \"" + s.pieces[size_t(id)] + "\", which SentencePiece would not find like that,");
  s.added.clear();
  for (size_t i = vocab.size(); i < s.pieces.size(); ++i) ids[s.pieces[i]] = int32_t(i);
  // Pieces that no merge makes can only be single characters; their score is never looked at.
  s.scores.assign(s.pieces.size(), -float(1 << 24));
  read_merges(member(model, "merges"), ids, &s);
  for (size_t i = 0; i < s.pieces.size(); ++i)
    if (PieceType(s.types[i]) == PieceType::kUserDefined)
      for (size_t at; (at = s.pieces[i].find(' ')) != std::string::npos;) s.pieces[i].replace(at, 1, kSpaceMark);
  s.byte_fallback = true;
  if (const std::string unk = text_of(model, "unk_token", Null::kAbsent); !unk.empty() && ids.count(unk)) {
    s.unk = ids[unk];
    s.types[size_t(s.unk)] = uint8_t(PieceType::kUnknown);
  }
  read_post_processor(object_of(root, "post_processor"), &s);
  return s;
}

VocabSource any_from_tokenizer_json(const Json& root, const Json& config) {
  const Json& model = object_of(root, "model");
  const std::string type = text_of(model, "type");
  if (type == "Unigram") return unigram_from_tokenizer_json(root);
  if (type == "WordPiece") return word_piece_from_tokenizer_json(root);
  if (type != "BPE" && !(type.empty() && model.contains("merges")))
    unsupported("a model of type " + (type.empty() ? "?" : type));
  try {
    return spm_from_tokenizer_json(root, config);
  } catch (const UnsupportedTokenizer&) {
    return bpe_from_tokenizer_json(root);
  }
}

}  // namespace

VocabSource from_tokenizer_json(std::string_view text, std::string_view config_text) {
  const Json root = parse(text, "tokenizer.json"),
             config = config_text.empty() ? Json() : parse(config_text, "tokenizer_config.json");
  return reading("tokenizer.json", [&] { return any_from_tokenizer_json(root, config); });
}

static void apply_config(const Json& root, VocabSource* s) {
  if (has_pipeline(s->kind)) apply_added_tokens(member(root, "added_tokens_decoder"), s);
  const auto named = [&](const char* key) {
    const Json& j = member(root, key);
    const std::string piece = j.is_string() ? j.get<std::string>() : text_of(j, "content");
    return piece.empty() ? -1 : s->find(piece);
  };
  if (const int32_t id = named("bos_token"); id >= 0) s->bos = id;
  if (const int32_t id = named("eos_token"); id >= 0) s->eos = id;
  s->add_bos = flag_of(root, "add_bos_token", s->add_bos, Null::kAbsent) && s->bos >= 0;
  s->add_eos = flag_of(root, "add_eos_token", s->add_eos, Null::kAbsent) && s->eos >= 0;
  const Json& chat = member(root, "chat_template");
  if (!chat.is_array()) {
    if (const std::string text = text_of(root, "chat_template", Null::kAbsent); !text.empty()) s->chat_template = text;
    return;
  }
  for (const Json& t : chat)
    if (text_of(t, "name") == "default") s->chat_template = text_of(t, "template");
}

void apply_tokenizer_config(std::string_view text, VocabSource* s) {
  const Json root = parse(text, "tokenizer_config.json");
  reading("tokenizer_config.json", [&] { apply_config(root, s); });
}

}  // namespace runnel::convert
