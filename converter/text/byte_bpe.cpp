// BPE with a pipeline: pieces, merges and added tokens from tokenizer.json and GGUF.
#include "converter/text/byte_bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "converter/text/added_tokens.h"
#include "converter/text/json_access.h"
#include "converter/text/patterns.h"
#include "converter/text/trie_models.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;
using Ids = std::unordered_map<std::string, int32_t>;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer: " + what); }
[[noreturn]] void unsupported(const std::string& what) {
  throw UnsupportedTokenizer("tokenizer: " + what + " is not supported yet");
}

// The byte that each character of the alphabet stands for: printable characters of Latin-1 for themselves, those from
// U+0100 on for the other bytes in their order.
const std::unordered_map<uint32_t, uint8_t>& alphabet() {
  static const auto* table = [] {
    auto* t = new std::unordered_map<uint32_t, uint8_t>;
    uint32_t other = 256;
    for (uint32_t b = 0; b < 256; ++b)
      (*t)[(b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE ? b : other++] = uint8_t(b);
    return t;
  }();
  return *table;
}

// A merge as two pieces; the older way to write it is one string with a space between them.
std::pair<std::string, std::string> pair_of(const Json& m, size_t number) {
  if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string())
    return {m[0].get<std::string>(), m[1].get<std::string>()};
  if (m.is_string()) {
    const std::string both = m.get<std::string>();
    const size_t space = both.find(' ', 1);
    if (space != both.npos) return {both.substr(0, space), both.substr(space + 1)};
  }
  fail("merge " + std::to_string(number) + " is not a pair");
}

// Of equal pairs the last one counts, as in the original.
void add_merges(const std::vector<std::pair<std::string, std::string>>& pairs, const Ids& ids, VocabSource* s) {
  std::unordered_map<uint64_t, size_t> known;
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    const auto left = ids.find(pairs[rank].first), right = ids.find(pairs[rank].second),
               joined = ids.find(pairs[rank].first + pairs[rank].second);
    if (left == ids.end() || right == ids.end() || joined == ids.end())
      fail("merge " + std::to_string(rank) + " has a piece that is not in the vocabulary");
    const MergeRule rule = {uint32_t(left->second), uint32_t(right->second), uint32_t(joined->second), uint32_t(rank)};
    const auto [at, fresh] = known.emplace(uint64_t(rule.left) << 32 | rule.right, s->merges.size());
    if (fresh) s->merges.push_back(rule);
    else s->merges[at->second] = rule;
  }
}

}  // namespace

std::optional<std::string> bytes_of_alphabet(std::string_view piece) {
  std::string out;
  for (size_t i = 0; i < piece.size();) {
    const CodePoint c = code_point_at(reinterpret_cast<const uint8_t*>(piece.data()) + i, piece.size() - i);
    const auto at = alphabet().find(c.value);
    if (at == alphabet().end()) return std::nullopt;
    out += char(at->second);
    i += c.length;
  }
  return out;
}

std::vector<MergeRule> merges_of_ranks(const std::vector<std::string>& pieces, size_t first, size_t count) {
  std::unordered_map<std::string_view, uint32_t> ids;
  for (size_t i = first; i < first + count; ++i) ids.emplace(pieces[i], uint32_t(i));
  std::vector<MergeRule> rules;
  for (size_t i = first; i < first + count; ++i) {
    const std::string_view p = pieces[i];
    for (size_t cut = 1; cut < p.size(); ++cut) {
      const auto left = ids.find(p.substr(0, cut)), right = ids.find(p.substr(cut));
      if (left != ids.end() && right != ids.end())
        rules.push_back({left->second, right->second, uint32_t(i), uint32_t(i - first)});
    }
  }
  return rules;
}

namespace {

struct Ends {
  std::vector<int32_t> prefix, suffix;
};

void read_template(const Json& post, const VocabSource& s, Ends* ends) {
  bool after = false;
  for (const Json& part : list_of(post, "single")) {
    if (!object_of(part, "Sequence").is_null()) {
      if (after) unsupported("a template that repeats the text");
      after = true;
      continue;
    }
    const std::string name = text_of(object_of(part, "SpecialToken"), "id");
    std::vector<int32_t> ids;
    for (const Json& id : list_of(object_of(object_of(post, "special_tokens"), name.c_str()), "ids"))
      ids.push_back(id_of(id, "an id of the template's token \"" + name + '"'));
    if (ids.empty()) ids.push_back(s.find(name));
    for (const int32_t id : ids)
      if (id < 0 || size_t(id) >= s.pieces.size())
        fail("the template has the token \"" + name + "\", which is not in the vocabulary");
    std::vector<int32_t>& to = after ? ends->suffix : ends->prefix;
    to.insert(to.end(), ids.begin(), ids.end());
  }
}

void collect_ends(const Json& post, const VocabSource& s, Ends* ends) {
  const std::string type = text_of(post, "type");
  if (type == "Sequence") {
    for (const Json& j : list_of(post, "processors")) collect_ends(j, s, ends);
  } else if (type == "TemplateProcessing") {
    read_template(post, s, ends);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    const auto id = [&](const char* key) {
      const Json& pair = member(post, key);
      if (!pair.is_array() || pair.size() != 2) fail(std::string("the post-processor has no ") + key);
      const int32_t number = id_of(pair[1], std::string("the post-processor's ") + key);
      if (size_t(number) >= s.pieces.size())
        fail(std::string("the post-processor's ") + key + " is " + std::to_string(number) + ", the vocabulary has " +
             std::to_string(s.pieces.size()) + " pieces");
      return number;
    };
    ends->prefix.push_back(id("cls"));
    ends->suffix.push_back(id("sep"));
  } else if (type != "ByteLevel") {
    unsupported("the post-processor " + (type.empty() ? "without a type" : type));
  }
}

}  // namespace

void read_ends(const Json& post, VocabSource* s) {
  Ends ends;
  if (post.is_object()) collect_ends(post, *s, &ends);
  if (!ends.prefix.empty()) s->bos = ends.prefix[0], s->add_bos = true;
  if (!ends.suffix.empty()) s->eos = ends.suffix.back(), s->add_eos = true;
  // What tokenizer_config.json calls bos and eos may be something else.
  s->prefix = ends.prefix;
  s->suffix = ends.suffix;
}

VocabSource bpe_from_tokenizer_json(const Json& root) {
  const Json& model = member(root, "model");
  VocabSource s;
  s.kind = TokenizerKind::kByteBpe;
  if (!text_of(model, "continuing_subword_prefix", Null::kAbsent).empty() ||
      !text_of(model, "end_of_word_suffix", Null::kAbsent).empty())
    unsupported("a BPE model with word prefixes or suffixes");
  const Json& dropout = member(model, "dropout");
  if (!dropout.is_null() && !dropout.is_number()) refuse_json("\"dropout\"", dropout, "a number");
  if (dropout.is_number() && dropout.get<double>() > 0) unsupported("a BPE model with dropout");
  bool byte_level = false;
  read_pre_tokenizer(object_of(root, "pre_tokenizer"), &s, &byte_level);
  if (const Json& normalizer = object_of(root, "normalizer"); !normalizer.is_null()) s.normalizer = normalizer.dump();
  s.char_units = !byte_level;
  s.whole_words_first = flag_of(model, "ignore_merges", false);
  s.fuse_unknown = flag_of(model, "fuse_unk", false);
  s.byte_fallback = flag_of(model, "byte_fallback", false) && s.char_units;

  const Json& vocab = object_of(model, "vocab");
  if (vocab.empty()) fail("model.vocab is missing");
  Ids ids;
  for (const auto& [piece, id] : vocab.items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= int64_t(kMaxPieces))
      fail("the piece \"" + piece + "\" has an id out of range");
    const size_t at = id.get<size_t>();
    // A vocabulary with holes is possible, one that is nearly all holes is an attack.
    if (at > vocab.size() * 4 + 1000) fail("the piece \"" + piece + "\" has an id out of range");
    if (at >= s.pieces.size()) s.pieces.resize(at + 1), s.types.resize(at + 1, uint8_t(PieceType::kUnused));
    if (PieceType(s.types[at]) != PieceType::kUnused) fail("two pieces have the id " + std::to_string(at));
    s.pieces[at] = piece;
    s.types[at] = uint8_t(PieceType::kNormal);
    ids[piece] = int32_t(at);
  }
  std::vector<std::pair<std::string, std::string>> pairs;
  if (!member(model, "merges").is_array()) fail("model.merges is not a list");
  for (const Json& m : model["merges"]) pairs.push_back(pair_of(m, pairs.size()));
  add_merges(pairs, ids, &s);
  s.model_pieces = s.pieces.size();
  read_added_tokens(list_of(root, "added_tokens"), vocab.size(), &s);
  if (const std::string unk = text_of(model, "unk_token", Null::kAbsent); !unk.empty() && ids.count(unk))
    s.unk = ids[unk];
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    if (s.added.count(int32_t(i))) continue;
    if (byte_level) {
      std::optional<std::string> bytes = bytes_of_alphabet(s.pieces[i]);
      if (bytes) s.pieces[i] = std::move(*bytes);
      else s.types[i] = uint8_t(PieceType::kUnused);
    } else if (s.byte_fallback && s.pieces[i].size() == 6 && s.pieces[i].compare(0, 3, "<0x") == 0 &&
               s.pieces[i][5] == '>') {
      s.types[i] = uint8_t(PieceType::kByte);
    }
  }
  read_ends(object_of(root, "post_processor"), &s);
  if (s.char_units && object_of(root, "decoder").is_object()) s.first_space = first_space_of(root["decoder"]);
  return s;
}

VocabSource bpe_from_gguf(const GgufTokenizer& g) {
  const std::string name = g.model == "gemma4" ? g.model : g.pre.empty() ? "default" : g.pre;
  const NamedPreTokenizer* pre = find_pre_tokenizer(name);
  if (!pre) throw UnsupportedTokenizer("the pre-tokenizer \"" + g.pre + "\" (tokenizer.ggml.pre) is not known");
  VocabSource s;
  s.kind = TokenizerKind::kByteBpe;
  s.char_units = s.byte_fallback = pre->sentence_piece;
  s.whole_words_first = pre->whole_words_first;
  if (name == "default")
    s.notices.push_back(
        "the GGUF does not say how text is cut into words (tokenizer.ggml.pre): llama.cpp's default is taken, which "
        "may not be the model's; --tokenizer FILE takes its own");
  for (const char* pattern : pre->patterns) {
    PreTokenizerStep step;
    step.text = pattern;
    step.flavour = RegexFlavour::kOniguruma;
    s.pre_tokenizer.push_back(step);
  }
  bool byte_level = false;
  if (pre->json) read_pre_tokenizer(Json::parse(pre->json), &s, &byte_level);
  if (pre->sentence_piece) {
    PreTokenizerStep step;
    step.kind = PreKind::kReplaceSpace;
    step.text = kSpaceMark;
    s.pre_tokenizer.push_back(step);
  }
  if (pre->nfc) s.normalizer = R"({"type":"NFC"})";
  const size_t n = g.tokens.size();
  if (!g.types.empty() && g.types.size() != n)
    fail("the GGUF has " + std::to_string(n) + " tokens and " + std::to_string(g.types.size()) + " token types");
  Ids ids;
  for (size_t i = 0; i < n; ++i) {
    const int32_t type = g.types.empty() ? 1 : g.types[i];
    if (type < 1 || type > 6) fail("token " + std::to_string(i) + " has the unknown type " + std::to_string(type));
    ids.emplace(g.tokens[i], int32_t(i));
    s.pieces.push_back(g.tokens[i]);
    PieceType t = PieceType(type);
    if (t == PieceType::kByte && !pre->sentence_piece) t = PieceType::kNormal;
    if (t == PieceType::kControl || t == PieceType::kUserDefined || t == PieceType::kUnknown) {
      s.added[int32_t(i)] = 0;
    } else if (!pre->sentence_piece) {
      std::optional<std::string> bytes = bytes_of_alphabet(g.tokens[i]);
      if (bytes) s.pieces.back() = std::move(*bytes);
      else t = PieceType::kUnused;
    }
    s.types.push_back(uint8_t(t));
  }
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& m : g.merges) pairs.push_back(pair_of(m, pairs.size()));
  if (pairs.empty() && g.pre == "kimi-k2") s.merges = merges_of_ranks(s.pieces, 0, n);
  else if (pairs.empty()) fail("the GGUF has no merges (tokenizer.ggml.merges)");
  else add_merges(pairs, ids, &s);
  const auto id = [&](int64_t value, const char* what) {
    if (value < -1 || value >= int64_t(n))
      fail(std::string(what) + " is " + std::to_string(value) + ", the GGUF has " + std::to_string(n) + " tokens");
    return int32_t(value);
  };
  s.bos = id(g.bos, "bos_token_id");
  s.eos = id(g.eos, "eos_token_id");
  s.unk = id(g.unk, "unknown_token_id");
  if (!s.char_units) s.unk = -1;
  s.add_bos = g.add_bos.value_or(pre->add_bos) && s.bos >= 0;
  s.add_eos = g.add_eos.value_or(false) && s.eos >= 0;
  s.chat_template = g.chat_template;
  return s;
}

namespace {

void put_merge(const MergeRule& m, std::vector<uint32_t>* out) {
  out->push_back(m.left | m.right << 24);
  out->push_back(m.right >> 8 | m.rank << 16);
  out->push_back((m.rank >> 16 & 0xFF) | m.joined << 8);
}

// Empty when some merge finds no place.
std::vector<uint32_t> place_merges(const std::vector<MergeRule>& merges, uint32_t slot_count, uint32_t bits) {
  std::vector<uint32_t> slots(slot_count, 0);
  const uint32_t low = (1u << bits) - 1;
  for (size_t i = 0; i < merges.size(); ++i) {
    const uint64_t h = merge_hash(merges[i].left, merges[i].right);
    uint32_t probe = 0;
    while (probe < kMaxMergeProbe && slots[(uint32_t(h) + probe) & (slot_count - 1)]) ++probe;
    if (probe == kMaxMergeProbe) return {};
    slots[(uint32_t(h) + probe) & (slot_count - 1)] = (uint32_t(h >> 32) & ~low) | uint32_t(i + 1);
  }
  return slots;
}

template <class T>
void append(const T* values, size_t count, std::vector<uint8_t>* out) {
  const size_t at = out->size();
  out->resize(at + count * sizeof(T));
  if (count) std::memcpy(out->data() + at, values, count * sizeof(T));
}

}  // namespace

std::vector<uint8_t> build_merges(const VocabSource& s, const VocabData& d) {
  if (s.merges.size() >= kMaxPieces) fail(std::to_string(s.merges.size()) + " merges are more than the format holds");
  MergeHeader h = {};
  h.magic = kMergeMagic;
  h.piece_count = uint32_t(s.pieces.size());
  h.merge_count = uint32_t(s.merges.size());
  h.bits = std::max(1u, uint32_t(std::bit_width(s.merges.size())));
  h.slot_count = std::bit_ceil(uint32_t(s.merges.size() + s.merges.size() / 2 + 1));
  std::vector<uint32_t> slots = place_merges(s.merges, h.slot_count, h.bits);
  for (int doubled = 0; slots.empty(); ++doubled) {
    if (doubled == 3) fail("its merges collide too often in the index");
    h.slot_count *= 2;
    slots = place_merges(s.merges, h.slot_count, h.bits);
  }
  std::vector<uint32_t> table;
  for (const MergeRule& m : s.merges) put_merge(m, &table);
  std::vector<uint32_t> whole((s.pieces.size() + 31) / 32, 0);
  const auto made = [&] {
    std::vector<uint8_t> out;
    append(&h, 1, &out);
    append(slots.data(), slots.size(), &out);
    append(table.data(), table.size(), &out);
    append(whole.data(), whole.size(), &out);
    return out;
  };
  // Which pieces stand for the word that they spell is what merging says, without any shortcut.
  const std::vector<uint8_t> plain = made();
  VocabTables tables = tables_of(s, d);
  tables.merge_table = plain.data(), tables.merge_table_size = plain.size();
  Vocab vocab;
  if (const Status status = vocab_open(tables, &vocab); !status.is_ok()) fail(status.message());
  BpeScratch scratch;
  Vec<int32_t> ids;
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(s.pieces[i].data());
    if (PieceType(s.types[i]) != PieceType::kNormal || s.pieces[i].empty()) continue;
    ids.clear();
    if (!s.whole_words_first)
      if (const Status status = bpe_encode(vocab, bytes, s.pieces[i].size(), &scratch, &ids); !status.is_ok())
        fail(status.message());
    if (s.whole_words_first || (ids.size() == 1 && ids[0] == int32_t(i))) whole[i / 32] |= 1u << (i % 32);
  }
  return made();
}

}  // namespace runnel::convert
