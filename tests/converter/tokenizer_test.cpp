// Encoding and decoding against sentencepiece's own answers (tests/goldens/tokenizer_spm_small.py).
#include <algorithm>
#include <chrono>
#include <random>

#include "converter/text_test.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

VocabSource small() { return from_spm_proto(read_golden("spm_small.model")); }
VocabSource plain() { return from_spm_proto(read_golden("spm_plain.model")); }

TEST(Tokenizer, GivesTheIdsAndTextsOfSentencePiece) {
  for (const std::string name : {"spm_small", "spm_plain"}) {
    const Loaded v(from_spm_proto(read_golden(name + ".model")));
    for (const Case& c : read_cases(name + ".jsonl")) {
      EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << name << ": " << c.bytes.substr(0, 100);
      EXPECT_EQ(decode(v.tokenizer, c.ids), c.text) << name << ": " << c.bytes.substr(0, 100);
    }
  }
}

// Merging without heap, index or cuts: look at every adjacent pair, join the best, start again.
std::vector<int32_t> slow_encode(const VocabSource& s, const std::string& text) {
  struct Symbol {
    std::string bytes;
    bool fixed;
  };
  std::string t;
  if (!text.empty() && s.add_space_prefix) t = kSpaceMark;
  for (const char c : text) t += c == ' ' ? std::string(kSpaceMark) : std::string(1, c);
  const auto find = [&](const std::string& bytes) {
    for (size_t i = 0; i < s.pieces.size(); ++i)
      if (s.pieces[i] == bytes && (kMergeTypes >> s.types[i] & 1)) return int32_t(i);
    return -1;
  };
  std::vector<Symbol> symbols;
  for (size_t i = 0; i < t.size();) {
    Symbol symbol{t.substr(i, utf8_step(reinterpret_cast<const uint8_t*>(t.data()) + i, t.size() - i).length), false};
    for (size_t p = 0; p < s.pieces.size(); ++p)
      if (PieceType(s.types[p]) == PieceType::kUserDefined && t.compare(i, s.pieces[p].size(), s.pieces[p]) == 0 &&
          (!symbol.fixed || s.pieces[p].size() > symbol.bytes.size()))
        symbol = {s.pieces[p], true};
    i += symbol.bytes.size();
    symbols.push_back(symbol);
  }
  for (;;) {
    size_t best = symbols.size();
    float score = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i].fixed || symbols[i + 1].fixed) continue;
      const int32_t id = find(symbols[i].bytes + symbols[i + 1].bytes);
      if (id >= 0 && (best == symbols.size() || s.scores[size_t(id)] > score)) best = i, score = s.scores[size_t(id)];
    }
    if (best == symbols.size()) break;
    symbols[best].bytes += symbols[best + 1].bytes;
    symbols.erase(symbols.begin() + std::ptrdiff_t(best) + 1);
  }
  std::vector<int32_t> ids;
  for (const Symbol& symbol : symbols) {
    const int32_t id = find(symbol.bytes);
    if (id >= 0) ids.push_back(id);
    else
      for (const char c : symbol.bytes) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", unsigned(uint8_t(c)));
        ids.push_back(s.find(name));
      }
  }
  return ids;
}

// Vocabularies that a trainer would not make: pieces across spaces, equal scores, user-defined pieces within others.
TEST(Tokenizer, AgreesWithASlowEncoderOnOddVocabularies) {
  std::mt19937 rng(11);
  const std::string letters[] = {"a", "b", kSpaceMark, "\u00e9"};
  for (int round = 0; round < 60; ++round) {
    VocabSource s;
    const auto add = [&](const std::string& piece, PieceType type, float score) {
      if (s.find(piece) >= 0) return;
      s.pieces.push_back(piece), s.types.push_back(uint8_t(type)), s.scores.push_back(score);
    };
    for (int b = 0; b < 256; ++b) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", unsigned(b));
      add(name, PieceType::kByte, 0);
    }
    for (int i = 0; i < 3; ++i) add(letters[i], PieceType::kNormal, -100);
    for (int i = 0; i < 25; ++i) {
      std::string piece;
      for (uint32_t n = 2 + rng() % 4; n > 0; --n) piece += letters[rng() % (round % 2 ? 4 : 3)];
      add(piece, rng() % 8 ? PieceType::kNormal : PieceType::kUserDefined, -float(rng() % (round % 3 ? 100 : 4)));
    }
    s.byte_fallback = true;
    s.add_space_prefix = round % 4 == 0;
    const Loaded v(s);
    for (int i = 0; i < 60; ++i) {
      std::string text;
      for (uint32_t n = rng() % 30; n > 0; --n) {
        const std::string& l = letters[rng() % 4];
        text += l == kSpaceMark && rng() % 2 ? " " : l;
      }
      ASSERT_EQ(encode(v.tokenizer, text), slow_encode(v.source, text)) << text << " round " << round;
    }
  }
}

TEST(Tokenizer, UnusedPiecesFallApart) {
  VocabSource s;
  const auto add = [&](const std::string& piece, PieceType type, float score) {
    s.pieces.push_back(piece), s.types.push_back(uint8_t(type)), s.scores.push_back(score);
  };
  add("<unk>", PieceType::kUnknown, 0);
  add("a", PieceType::kNormal, -9), add("b", PieceType::kNormal, -9), add("c", PieceType::kNormal, -9);
  add("ab", PieceType::kNormal, -1), add("abc", PieceType::kUnused, -2), add("abcabc", PieceType::kUnused, -3);
  s.unk = 0;
  const Loaded v(s);
  EXPECT_EQ(encode(v.tokenizer, "abc"), (std::vector<int32_t>{4, 3}));
  EXPECT_EQ(encode(v.tokenizer, "abcabcab"), (std::vector<int32_t>{4, 3, 4, 3, 4}));
}

TEST(Tokenizer, SpecialTokensOnlyWhereAsked) {
  const Loaded v(small());
  const int32_t turn = v.source.find("<turn>"), end = v.source.find("</turn>"), words = v.source.find("<two words>");
  ASSERT_TRUE(turn > 0 && end > 0 && words > 0);
  const std::string text = "<turn>the state</turn> <two words>";
  for (const int32_t id : encode(v.tokenizer, text)) EXPECT_NE(v.tokenizer.vocab().type(id), PieceType::kControl);
  std::vector<int32_t> want = {turn};
  for (const int32_t id : encode(v.tokenizer, "the state")) want.push_back(id);
  want.push_back(end);
  for (const int32_t id : encode(v.tokenizer, " ")) want.push_back(id);
  want.push_back(words);
  EXPECT_EQ(encode(v.tokenizer, text, true), want);
  EXPECT_EQ(encode(v.tokenizer, "<tur", true), encode(v.tokenizer, "<tur"));
  EXPECT_EQ(decode(v.tokenizer, encode(v.tokenizer, text, true)), "the state  ");
  EXPECT_EQ(decode(v.tokenizer, {turn, end}, true), "<turn></turn>");

  // A user cannot forge a turn, not even with help from the markup around the words.
  EncodeScratch scratch;
  Vec<int32_t> ids;
  EncodeOptions options;
  options.bos = EncodeOptions::Add::kNo;
  const TextPart parts[] = {
      {"<turn>", 6, true}, {"</turn>", 7, false}, {"</tu", 4, true}, {"rn>", 3, false}, {"</turn>", 7, true}};
  ASSERT_TRUE(v.tokenizer.encode_parts(parts, 5, options, &scratch, &ids).is_ok());
  want = {turn};
  for (const int32_t id : encode(v.tokenizer, "</turn></turn>")) want.push_back(id);
  want.push_back(end);
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), want);
}

TEST(Tokenizer, BosAndEosByDefaultAndByOption) {
  VocabSource s = small();
  ASSERT_TRUE(s.add_bos);
  s.add_eos = true;
  const Loaded v(s);
  const auto middle = encode(v.tokenizer, "step");
  auto want = middle;
  want.insert(want.begin(), s.bos);
  want.push_back(s.eos);
  EXPECT_EQ(encode(v.tokenizer, "step", false, EncodeOptions::Add::kModelDefault), want);
  EXPECT_EQ(encode(v.tokenizer, "", false, EncodeOptions::Add::kYes), (std::vector<int32_t>{s.bos, s.eos}));
  VocabSource none = plain();
  none.bos = -1, none.add_bos = false;
  const Loaded w(none);
  EncodeScratch scratch;
  Vec<int32_t> ids;
  EncodeOptions options;
  options.bos = EncodeOptions::Add::kYes;
  EXPECT_EQ(w.tokenizer.encode("a", 1, options, &scratch, &ids).code(), Code::kInvalidArgument);
}

bool valid_utf8(const std::string& s) {
  for (size_t i = 0; i < s.size();) {
    const Utf8Step step = utf8_step(reinterpret_cast<const uint8_t*>(s.data()) + i, s.size() - i);
    if (step.kind != Utf8::kValid) return false;
    i += step.length;
  }
  return true;
}

TEST(Detokenizer, StreamsWholeCharacters) {
  const Loaded v(small());
  std::mt19937 rng(12);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> ids;
    for (int i = 0; i < 30; ++i) ids.push_back(int32_t(rng() % v.source.pieces.size()));
    if (round % 2) ids = encode(v.tokenizer, "\U0001F600 z\u00e9ro \u4f60\u597d\U0001F44D\U0001F3FD");
    std::string streamed;
    DecodeState state;
    char out[kMaxTokenText];
    for (const int32_t id : ids) {
      auto n = v.tokenizer.decode(id, &state, out);
      ASSERT_TRUE(n.is_ok());
      ASSERT_TRUE(valid_utf8({out, n.value()}));
      streamed.append(out, n.value());
    }
    const size_t n = v.tokenizer.finish(&state, out);
    streamed.append(out, n);
    ASSERT_EQ(streamed, decode(v.tokenizer, ids));
  }
}

TEST(Detokenizer, OneReplacementForEachMaximalInvalidPart) {
  const Loaded v(small());
  const auto bytes = [&](std::initializer_list<int> values) {
    std::vector<int32_t> ids;
    for (const int b : values) ids.push_back(v.tokenizer.vocab().header->byte_ids[b]);
    return ids;
  };
  const std::string r = "\uFFFD";
  EXPECT_EQ(decode(v.tokenizer, bytes({0xE2, 0x82, 0x41})), r + "A");
  EXPECT_EQ(decode(v.tokenizer, bytes({0xF0, 0x9F, 0x98})), r);
  EXPECT_EQ(decode(v.tokenizer, bytes({0xED, 0xA0, 0x80})), r + r + r);
  EXPECT_EQ(decode(v.tokenizer, bytes({0xF0, 0x9F, 0x98, 0xF0, 0x9F, 0x98, 0x80})), r + "\U0001F600");
  EXPECT_EQ(decode(v.tokenizer, bytes({0xC0, 0xAF, 0xFF})), r + r + r);
  auto then_text = bytes({0xC3});
  for (const int32_t id : encode(v.tokenizer, "the")) then_text.push_back(id);
  EXPECT_EQ(decode(v.tokenizer, then_text), r + " the");
}

TEST(Detokenizer, TheFirstSpaceIsDroppedOnceAndOnlyAtTheStart) {
  const Loaded v(small());
  const auto ids = encode(v.tokenizer, " word");
  EXPECT_EQ(decode(v.tokenizer, ids), " word");
  DecodeState state;
  state.at_start = 0;  // a continuation
  char out[kMaxTokenText];
  std::string text;
  for (const int32_t id : encode(v.tokenizer, "word")) {
    auto n = v.tokenizer.decode(id, &state, out);
    ASSERT_TRUE(n.is_ok());
    text.append(out, n.value());
  }
  EXPECT_EQ(text, " word");
  const Loaded w(plain());
  EXPECT_EQ(decode(w.tokenizer, encode(w.tokenizer, " the")), " the");
}

TEST(Detokenizer, IdsAndStatesOutOfRangeAreRefused) {
  const Loaded v(small());
  char out[kMaxTokenText];
  for (const int32_t id : {-1, int32_t(v.source.pieces.size()), INT32_MAX}) {
    DecodeState state;
    EXPECT_EQ(v.tokenizer.decode(id, &state, out).take_status().code(), Code::kInvalidArgument);
  }
  DecodeState state;
  state.pending_count = 200;
  EXPECT_EQ(v.tokenizer.decode(5, &state, out).take_status().code(), Code::kStateMismatch);
}

// Tables are untrusted: whatever a bit is changed to, nothing is read out of range, and calls end.
TEST(Tokenizer, DamagedTablesAreHarmless) {
  std::mt19937 rng(13);
  const VocabSource source = small();
  const VocabData good = build_vocab(source);
  std::string text;
  for (const Case& c : read_cases("spm_small.jsonl"))
    if (c.bytes.size() < 60) text += c.bytes;
  const auto damage = [&](auto& table) {
    auto* bytes = reinterpret_cast<uint8_t*>(table.data());
    const size_t size = table.size() * sizeof(table[0]);
    for (uint32_t n = 1 + rng() % 20; n > 0; --n) bytes[rng() % size] = uint8_t(rng() % 3 ? rng() : 0xFF);
  };
  int opened = 0;
  for (int round = 0; round < 400; ++round) {
    VocabData d = good;
    switch (round % 6) {
      case 0: damage(d.pieces); break;
      case 1: damage(d.piece_offsets); break;
      case 2: damage(d.scores); break;
      case 3: damage(d.types); break;
      case 4: damage(d.index); break;
      default: damage(d.index), damage(d.piece_offsets), damage(d.types), damage(d.scores); break;
    }
    Vocab vocab;
    if (!vocab_open(tables_of(source, d), &vocab).is_ok()) continue;
    ++opened;
    const Tokenizer t(vocab);
    EncodeScratch scratch;
    EncodeOptions options;
    options.special = round % 2;
    Vec<int32_t> ids;
    if (!t.encode(text.data(), text.size(), options, &scratch, &ids).is_ok()) continue;
    for (int32_t id = 0; id < vocab.count; ++id) ASSERT_TRUE(ids.push(id).is_ok());
    Vec<char> out;
    if (t.decode_all(ids.data(), ids.size(), true, &out).is_ok()) EXPECT_TRUE(valid_utf8({out.begin(), out.end()}));
  }
  EXPECT_GT(opened, 200);
}

TEST(Tokenizer, TablesThatDoNotFitTogetherAreRefused) {
  const VocabSource source = small();
  const VocabData data = build_vocab(source);
  const auto refused = [&](auto change) {
    VocabTables t = tables_of(source, data);
    change(t);
    Vocab vocab;
    return !vocab_open(t, &vocab).is_ok();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& t) { t.offsets_size -= 1; }));
  EXPECT_TRUE(refused([](auto& t) { t.scores_size -= 1; }));
  EXPECT_TRUE(refused([](auto& t) { t.types_size = 0; }));
  EXPECT_TRUE(refused([](auto& t) { t.index_size -= 4; }));
  EXPECT_TRUE(refused([](auto& t) { t.index_size = 10; }));
  EXPECT_TRUE(refused([](auto& t) { t.bos = int32_t(t.types_size); }));
  EXPECT_TRUE(refused([](auto& t) { t.bos = -1; }));
  EXPECT_TRUE(refused([](auto& t) { t.unk = -2; }));
  EXPECT_TRUE(refused([](auto& t) { t.kind = TokenizerKind(9); }));
  const int32_t ids[] = {3, -1};
  EXPECT_TRUE(refused([&](auto& t) { t.end_of_turn = ids, t.end_of_turn_size = 2; }));
}

TEST(Tokenizer, MegabytesTakeSeconds) {
  const Loaded v(small());
  std::string words, run(1 << 20, 'e'), spaces(1 << 20, ' ');
  while (words.size() < (1u << 20)) words += "the state never grows ";
  for (const std::string& text : {words, run, spaces}) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_GT(encode(v.tokenizer, text).size(), 1000u);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));  // sanitizers included; quadratic
                                                                                    // would be hours
  }
}

}  // namespace
}  // namespace runnel::convert
