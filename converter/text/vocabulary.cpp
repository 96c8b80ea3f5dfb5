#include "converter/text/vocabulary.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>

#include "converter/text/added_tokens.h"
#include "converter/text/byte_bpe.h"
#include "converter/text/trie_models.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer: " + what); }

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ') out += kSpaceMark;
    else out += c;
  }
  return out;
}

// The value of a byte piece such as <0x0A>, or -1.
int byte_value(const std::string& piece) {
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (piece.size() != 6 || piece.compare(0, 3, "<0x") != 0 || piece[5] != '>') return -1;
  const size_t high = kDigits.find(piece[3]), low = kDigits.find(piece[4]);
  return high == kDigits.npos || low == kDigits.npos ? -1 : int(high * 16 + low);
}

void check(const VocabSource& s) {
  const size_t n = s.pieces.size();
  if (n == 0) fail("the vocabulary is empty");
  if (n >= kMaxPieces) fail(std::to_string(n) + " pieces are more than the format holds");
  const bool scored = !has_pipeline(s.kind) || !s.scores.empty();
  if ((scored && s.scores.size() != n) || s.types.size() != n) fail("pieces, scores and types differ in number");
  uint64_t bytes = 0;
  for (size_t i = 0; i < n; ++i) {
    const std::string name = "piece " + std::to_string(i);
    if (s.pieces[i].size() > kMaxPieceBytes)
      fail(name + " has " + std::to_string(s.pieces[i].size()) + " bytes, at most " + std::to_string(kMaxPieceBytes) +
           " are possible");
    if (s.types[i] < 1 || s.types[i] > 6) fail(name + " has the unknown type " + std::to_string(s.types[i]));
    if (scored && !std::isfinite(s.scores[i])) fail(name + " has a score that is not finite");
    if (PieceType(s.types[i]) == PieceType::kByte && byte_value(s.pieces[i]) < 0)
      fail(name + " is marked as a byte but reads \"" + s.pieces[i] + "\"");
    bytes += s.pieces[i].size();
  }
  if (bytes > uint64_t(INT32_MAX)) fail("the pieces have more than 2 GiB of text");
  for (const int32_t id : {s.bos, s.eos, s.unk})
    if (id < -1 || id >= int64_t(n))
      fail("bos, eos or unk is " + std::to_string(id) + ", the vocabulary has " + std::to_string(n) + " pieces");
  if (s.add_bos && s.bos < 0 && s.prefix.empty()) fail("bos is to be added but the vocabulary names none");
  if (s.add_eos && s.eos < 0 && s.suffix.empty()) fail("eos is to be added but the vocabulary names none");
}

// Any text must be a row of pieces.
void check_bytes(const VocabSource& s) {
  std::array<bool, 256> bytes = {};
  for (size_t i = 0; i < s.pieces.size(); ++i)
    if (s.pieces[i].size() == 1 && PieceType(s.types[i]) == PieceType::kNormal) bytes[uint8_t(s.pieces[i][0])] = true;
  for (size_t b = 0; b < 256; ++b)
    if (!bytes[b]) fail("there is no piece for byte " + std::to_string(b));
}

// Empty when some piece finds no place within kMaxProbe slots.
std::vector<uint32_t> place_pieces(const VocabSource& s, uint32_t slot_count, uint32_t id_bits) {
  std::vector<uint32_t> slots(slot_count, 0);
  const uint32_t id_mask = (1u << id_bits) - 1;
  for (size_t id = 0; id < s.pieces.size(); ++id) {
    const std::string& p = s.pieces[id];
    if (p.empty()) continue;
    const uint64_t h = piece_hash(reinterpret_cast<const uint8_t*>(p.data()), p.size());
    uint32_t i = 0;
    while (i < kMaxProbe && slots[(uint32_t(h) + i) & (slot_count - 1)]) ++i;
    if (i == kMaxProbe) return {};
    slots[(uint32_t(h) + i) & (slot_count - 1)] = (uint32_t(h >> 32) & ~id_mask) | uint32_t(id + 1);
  }
  return slots;
}

// Breadth first, so that the children of a node lie side by side.
std::vector<TrieNode> build_trie_of(const std::map<std::string, int32_t>& keys) {
  const std::vector<std::pair<std::string, int32_t>> sorted(keys.begin(), keys.end());
  struct Range {
    size_t begin, end, depth;  // keys that share the node's first `depth` bytes
  };
  std::vector<Range> ranges = {{0, sorted.size(), 0}};
  std::vector<TrieNode> nodes = {{0, 0, 0, 0, -1}};
  for (size_t n = 0; n < nodes.size(); ++n) {
    auto [at, end, depth] = ranges[n];
    if (at < end && sorted[at].first.size() == depth) nodes[n].id = sorted[at++].second;
    nodes[n].first_child = uint32_t(nodes.size());
    while (at < end) {
      const uint8_t byte = uint8_t(sorted[at].first[depth]);
      const size_t begin = at;
      while (at < end && uint8_t(sorted[at].first[depth]) == byte) ++at;
      nodes.push_back({0, 0, byte, 0, -1});
      ranges.push_back({begin, at, depth + 1});
      ++nodes[n].child_count;
    }
  }
  return nodes;
}

std::vector<TrieNode> build_trie(const VocabSource& s) {
  std::map<std::string, int32_t> keys;
  const bool is_longest = s.kind == TokenizerKind::kLongestMatch;
  if (has_pipeline(s.kind)) {
    for (const auto& [id, flags] : s.added)
      keys.emplace(s.found_as.count(id) ? s.found_as.at(id) : s.pieces.at(size_t(id)), id);
    return build_trie_of(keys);
  }
  // Of equal pieces the last one counts, as in the original.
  for (size_t i = 0; i < s.pieces.size() && is_longest; ++i)
    if (PieceType(s.types[i]) == PieceType::kNormal) keys[s.pieces[i]] = int32_t(i);
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const PieceType type = PieceType(s.types[i]);
    if (s.pieces[i].empty()) continue;
    if (type == PieceType::kUserDefined) keys.emplace(s.pieces[i], int32_t(i));
  }
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const PieceType type = PieceType(s.types[i]);
    if (s.pieces[i].empty()) continue;
    if (type == PieceType::kControl || type == PieceType::kUnknown)
      keys.emplace(is_longest ? s.pieces[i] : escaped(s.pieces[i]), int32_t(i));
  }
  return build_trie_of(keys);
}

VocabIndexHeader build_header(const VocabSource& s) {
  VocabIndexHeader h = {};
  h.magic = kVocabIndexMagic;
  h.piece_count = uint32_t(s.pieces.size());
  h.id_bits = uint32_t(std::bit_width(s.pieces.size()));
  std::fill(std::begin(h.byte_ids), std::end(h.byte_ids), -1);
  if (s.kind == TokenizerKind::kByteBpe && !s.char_units)
    // An added token of one character may be the model's piece for its byte.
    for (size_t i = s.pieces.size(); i-- > 0;)
      if (s.pieces[i].size() == 1 &&
          (PieceType(s.types[i]) == PieceType::kNormal || (s.added.count(int32_t(i)) && i < s.model_pieces)))
        h.byte_ids[uint8_t(s.pieces[i][0])] = int32_t(i);
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const std::string& p = s.pieces[i];
    const PieceType type = PieceType(s.types[i]);
    h.max_piece_bytes = std::max(h.max_piece_bytes, uint32_t(p.size()));
    if (type == PieceType::kByte) {
      int32_t& slot = h.byte_ids[byte_value(p)];
      if (slot < 0) slot = int32_t(i);
    }
    if (type != PieceType::kNormal && type != PieceType::kUnused) continue;
    for (size_t at = p.find(kSpaceMark, 1); at != p.npos; at = p.find(kSpaceMark, at + 1)) {
      const uint8_t before = uint8_t(p[at - 1]);
      h.joins_space[before >> 3] = uint8_t(h.joins_space[before >> 3] | 1u << (before & 7));
    }
  }
  if (s.byte_fallback)
    for (int b = 0; b < 256; ++b)
      if (h.byte_ids[b] < 0) fail("byte fallback is on but there is no piece for byte " + std::to_string(b));
  return h;
}

}  // namespace

int32_t VocabSource::find(std::string_view piece) const {
  const auto at = std::find(pieces.begin(), pieces.end(), piece);
  return at == pieces.end() ? -1 : int32_t(at - pieces.begin());
}

static void build_pipeline(const VocabSource& s, VocabData* d) {
  for (const auto& [id, flags] : s.added) d->added.push_back(id), d->added_flags.push_back(flags);
  d->pre_tokenizer = build_pre_tokenizer(s);
  if (s.kind == TokenizerKind::kByteBpe) d->merges = build_merges(s, *d);
  else d->piece_trie = build_piece_trie(s);
}

VocabData build_vocab(const VocabSource& source) {
  VocabSource s = source;
  if (has_pipeline(s.kind)) normalize_added_tokens(&s);
  check(s);
  if (s.kind == TokenizerKind::kLongestMatch) check_bytes(s);
  else if (!has_pipeline(s.kind) && !s.byte_fallback && s.unk < 0)
    fail("it has neither byte fallback nor an unknown piece");
  VocabData d;
  d.scores = s.scores;
  d.types = s.types;
  d.piece_offsets.push_back(0);
  for (const std::string& p : s.pieces) {
    d.pieces.insert(d.pieces.end(), p.begin(), p.end());
    d.piece_offsets.push_back(int32_t(d.pieces.size()));
  }
  VocabIndexHeader h = build_header(s);
  const std::vector<TrieNode> nodes = build_trie(s);
  h.node_count = uint32_t(nodes.size());
  // At most two thirds full; vocabularies made to collide may need more, within reason.
  h.slot_count = std::bit_ceil(uint32_t(s.pieces.size() + s.pieces.size() / 2));
  std::vector<uint32_t> slots = place_pieces(s, h.slot_count, h.id_bits);
  for (int doubled = 0; slots.empty(); ++doubled) {
    if (doubled == 3) fail("its pieces collide too often in the index");
    h.slot_count *= 2;
    slots = place_pieces(s, h.slot_count, h.id_bits);
  }
  d.index.resize(sizeof(h) + slots.size() * 4 + nodes.size() * sizeof(TrieNode));
  std::memcpy(d.index.data(), &h, sizeof(h));
  std::memcpy(d.index.data() + sizeof(h), slots.data(), slots.size() * 4);
  std::memcpy(d.index.data() + sizeof(h) + slots.size() * 4, nodes.data(), nodes.size() * sizeof(TrieNode));
  d.normalizer = build_normalizer(s);
  if (has_pipeline(s.kind)) build_pipeline(s, &d);
  return d;
}

VocabTables tables_of(const VocabSource& source, const VocabData& data) {
  VocabTables t;
#define RNL_VOCAB_VALUE(name) t.name = source.name;
#define RNL_VOCAB_LIST(name, holder) t.name = holder.name.data(), t.name##_size = holder.name.size();
#define RNL_VOCAB_TABLE(name, view, view_size, segment, is_needed) \
  t.view = data.name.data(), t.view_size = data.name.size();
#include "text/vocab_fields.inc"
  return t;
}

format::TokenizerT tokenizer_table(const VocabSource& source, const VocabData& data) {
  format::TokenizerT t;
  const TokenizerKind kind = source.kind;
#define RNL_VOCAB_VALUE(name) t.name = decltype(t.name)(source.name);
#define RNL_VOCAB_LIST(name, holder) t.name = holder.name;
#define RNL_VOCAB_TABLE(name, view, view_size, segment, is_needed) \
  if (is_needed || !data.name.empty()) t.name = "tokenizer." #name;
#include "text/vocab_fields.inc"

  Vocab vocab;
  if (const Status status = vocab_open(tables_of(source, data), &vocab); !status.is_ok()) fail(status.message());
  const Tokenizer tokenizer(vocab);
  EncodeScratch scratch;
  EncodeOptions options;
  options.bos = options.eos = EncodeOptions::Add::kNo;
  for (const std::string_view text :
       {"Hello, world! It's 2,026 degrees.", "  two  spaces\n\n\n\ttab \r\n",
        "Gr\u00fc\u00dfe, \u4f60\u597d \U0001F600 e\u0301", "def f(x):\n    return x**2  # <b>|bold|</b>",
        "broken \xff\xe2\x82 bytes", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    Vec<int32_t> ids;
    if (const Status status = tokenizer.encode(text.data(), text.size(), options, &scratch, &ids); !status.is_ok())
      fail(status.message());
    auto vector = std::make_unique<format::CheckVectorT>();
    vector->bytes.assign(text.begin(), text.end());
    vector->ids.assign(ids.begin(), ids.end());
    t.checks.push_back(std::move(vector));
  }
  return t;
}

VocabSource from_gguf(const GgufTokenizer& g) {
  if (g.model == "rwkv") {
    if (!g.types.empty() && g.types.size() != g.tokens.size())
      fail("the GGUF has " + std::to_string(g.tokens.size()) + " tokens and " + std::to_string(g.types.size()) +
           " token types");
    VocabSource s = from_gguf_rwkv(g.tokens, g.types);
    s.chat_template = g.chat_template;
    return s;
  }
  if (g.model == "gpt2" || g.model == "gemma4") return bpe_from_gguf(g);
  if (g.model == "t5") return unigram_from_gguf(g);
  if (g.model == "bert") return word_piece_from_gguf(g);
  if (g.model != "llama")
    throw UnsupportedTokenizer("tokenizers of kind \"" + g.model + "\" (tokenizer.ggml.model) are not supported yet");
  VocabSource s;
  const size_t n = g.tokens.size();
  if (g.scores.size() != n)
    fail("the GGUF has " + std::to_string(n) + " tokens and " + std::to_string(g.scores.size()) + " scores");
  if (!g.types.empty() && g.types.size() != n)
    fail("the GGUF has " + std::to_string(n) + " tokens and " + std::to_string(g.types.size()) + " token types");
  s.pieces = g.tokens;
  s.scores = g.scores;
  std::array<bool, 256> bytes = {};
  for (size_t i = 0; i < n; ++i) {
    const int32_t type = g.types.empty() ? 1 : g.types[i];
    if (type < 1 || type > 6) fail("token " + std::to_string(i) + " has the unknown type " + std::to_string(type));
    s.types.push_back(uint8_t(type));
    // Gemma's runs of spaces stand in a GGUF as plain spaces; the original pieces are U+2581 repeated.
    if (PieceType(type) == PieceType::kUserDefined) s.pieces[i] = escaped(s.pieces[i]);
    if (PieceType(type) == PieceType::kByte && byte_value(s.pieces[i]) >= 0)
      bytes[size_t(byte_value(s.pieces[i]))] = true;
  }
  s.byte_fallback = std::all_of(bytes.begin(), bytes.end(), [](bool b) { return b; });
  const auto id = [&](int64_t value, const char* what) {
    if (value < -1 || value >= int64_t(n))
      fail(std::string(what) + " is " + std::to_string(value) + ", the GGUF has " + std::to_string(n) + " tokens");
    return int32_t(value);
  };
  s.bos = id(g.bos, "bos_token_id");
  s.eos = id(g.eos, "eos_token_id");
  s.unk = id(g.unk, "unknown_token_id");
  for (size_t i = 0; i < n && s.unk < 0; ++i)
    if (PieceType(s.types[i]) == PieceType::kUnknown) s.unk = int32_t(i);
  if (s.unk < 0 && n > 0) s.unk = 0;  // where SentencePiece's trainer puts it
  // Some GGUFs mark the unknown piece as control; one that is only guessed may be a piece like others.
  if (g.unk >= 0 ||
      (n > 0 && (PieceType(s.types[size_t(s.unk)]) != PieceType::kNormal || s.pieces[size_t(s.unk)] == "<unk>")))
    s.types[size_t(s.unk)] = uint8_t(PieceType::kUnknown);
  s.add_bos = g.add_bos.value_or(s.bos >= 0);
  s.add_eos = g.add_eos.value_or(false);
  s.add_space_prefix = g.add_space_prefix.value_or(true);
  SpmNormalizer spec;
  spec.add_dummy_prefix = s.add_space_prefix;
  spec.remove_extra_whitespaces = g.remove_extra_whitespaces.value_or(false);
  spec.charsmap = g.charsmap;
  set_spm_normalizer(spec, &s);
  s.chat_template = g.chat_template;
  return s;
}

}  // namespace runnel::convert
