// Normalisers, unigram and WordPiece models against the answers of sentencepiece and tokenizers
// (tests/goldens/tokenizer_trie.py).
#include <algorithm>
#include <random>

#include "converter/text/trie_models.h"
#include "converter/text/unicode.h"
#include "converter/text_test.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

std::string from_hex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i < hex.size(); i += 2) out += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

std::string valid(const std::string& text) {
  Vec<uint8_t> out;
  EXPECT_TRUE(append_valid(reinterpret_cast<const uint8_t*>(text.data()), text.size(), &out).is_ok());
  return {out.begin(), out.end()};
}

// A normaliser with its tables.
struct Steps {
  std::vector<uint64_t> store;
  Normalizer normalizer;
  NormScratch scratch;
  RegexScratch regex;
  Vec<uint8_t> text;

  explicit Steps(const Json& json) {
    NormalizerBuilder b;
    read_normalizer(json, &b);
    const std::vector<uint8_t> bytes = b.build();
    store.resize(bytes.size() / 8 + 1);
    std::memcpy(store.data(), bytes.data(), bytes.size());
    const Status status = norm_open(reinterpret_cast<const uint8_t*>(store.data()), bytes.size(), &normalizer);
    EXPECT_TRUE(status.is_ok()) << status.message();
  }
  // Valid until the next call.
  std::string_view in_place(std::string_view in) {
    text.clear();
    regex.work = 1 << 20;
    Status status = text.append(reinterpret_cast<const uint8_t*>(in.data()), in.size());
    if (status.is_ok()) status = normalize(normalizer, 0, &text, &scratch, &regex);
    if (!status.is_ok()) ADD_FAILURE() << status.message();
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  std::string operator()(std::string_view in) { return std::string(in_place(in)); }
};

uint32_t crc(uint32_t sum, std::string_view text) {
  static const std::vector<uint32_t> table = [] {
    std::vector<uint32_t> t(256);
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] & 1 ? t[i] >> 1 ^ 0xEDB88320 : t[i] >> 1;
    }
    return t;
  }();
  sum = ~sum;
  for (const char c : text) sum = table[(sum ^ uint8_t(c)) & 0xFF] ^ sum >> 8;
  return ~sum;
}

TEST(Normalizer, GivesTheTextsOfTheTokenizersLibrary) {
  const auto golden = nlohmann::ordered_json::parse(read_golden("normalizers.json"));
  size_t number = 0;
  for (const auto& [name, json] : golden.at("normalizers").items()) {
    Steps steps(json);
    for (const auto& c : golden.at("cases")) {
      const std::string in = valid(from_hex(c[0]));
      std::string want = in;
      for (const auto& [hex, which] : c[1].items())
        for (const auto& n : which)
          if (n == number) want = from_hex(hex);
      ASSERT_EQ(steps(in), want) << name << ": " << in;
    }
    ++number;
  }
  EXPECT_GT(number, 20u);
}

class EveryCharacter : public testing::TestWithParam<std::string> {};

// Alone and between others that it may join. Under sanitizers: those that the maker of the golden chose.
TEST_P(EveryCharacter, IsNormalisedAlike) {
  const Json golden = Json::parse(read_golden("normalizers.json"));
  const Json& sums = golden.at("checksums").at(GetParam());
  Steps steps(golden.at("normalizers").at(GetParam()));
  uint32_t alone = 0, tail = 0;
  std::string text;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (is_surrogate(c) || (test::kIsSlow && c >= 0x400 && c % 16 != 0 && c % 0x1000 < 0xFFE)) continue;
    const std::string character = utf8_of(c);
    alone = crc(crc(alone, steps.in_place(character)), "\xff");
    text.assign("e").append(character).append("\u0323\u0301").append(character);
    tail = crc(crc(tail, steps.in_place(text)), "\xff");
  }
  EXPECT_EQ(alone, sums[test::kIsSlow ? 2 : 0].get<uint32_t>());
  EXPECT_EQ(tail, sums[test::kIsSlow ? 3 : 1].get<uint32_t>());
}

std::vector<std::string> normalizer_names() {
  const Json golden = Json::parse(read_golden("normalizers.json"));
  std::vector<std::string> names;
  for (const auto& [name, sums] : golden.at("checksums").items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Normalizer, EveryCharacter, testing::ValuesIn(normalizer_names()),
                         [](const auto& info) { return info.param; });

// Where tokenizers 0.23.3's BertPreTokenizer cuts "a?b" in three: how many characters beyond ASCII, and the CRC-32 of
// them all.
TEST(PreTokenizer, PunctuationIsThatOfTheOriginal) {
  const std::vector<uint32_t> points = code_points_of(old_punctuation());
  size_t count = 0;
  uint32_t sum = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool is_range = i + 2 < points.size() && points[i + 1] == '-';
    for (uint32_t c = points[i]; c <= points[is_range ? i + 2 : i]; ++c, ++count) sum = crc(sum, utf8_of(c));
    i += is_range ? 2 : 0;
  }
  EXPECT_EQ(count, 694u);
  EXPECT_EQ(sum, 3005718585u);
}

TEST(Normalizer, WhatIsUnknownIsRefusedByName) {
  const auto refusal = [](const char* json) {
    try {
      NormalizerBuilder b;
      read_normalizer(Json::parse(json), &b);
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(refusal(R"({"type":"Transliterate"})").find("Transliterate"), std::string::npos);
  EXPECT_NE(refusal(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"ByteLevel"}]})").find("ByteLevel"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"type":"Precompiled","precompiled_charsmap":"AAAA"})").find("charsmap"), std::string::npos);
  EXPECT_NE(refusal(R"({"type":"Replace","content":"x"})").find("pattern"), std::string::npos);
}

TEST(Normalizer, LongRunsOfMarksTakeTheirTime) {
  Steps steps(Json::parse(R"({"type":"NFC"})"));
  std::string text = "e", want = "\u1eb9";
  for (int i = 0; i < 200000; ++i) text += i % 2 ? "\u0323" : "\u0304";
  for (int i = 0; i < 99999; ++i) want += "\u0323";
  const std::string got = steps(text);
  EXPECT_EQ(got.substr(0, want.size()), want);
  EXPECT_EQ(got.size(), want.size() + 200000);
}

TEST(Unigram, GivesTheIdsAndTextsOfSentencePiece) {
  for (const std::string name : {"uni_small", "uni_bytes", "uni_suffix", "spm_rules"}) {
    const Loaded v(from_spm_proto(read_golden(name + ".model")));
    EXPECT_EQ(v.source.kind, name == "spm_rules" ? TokenizerKind::kSpmBpe : TokenizerKind::kUnigram);
    for (const Case& c : read_cases(name + ".jsonl")) {
      EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << name << ": " << c.bytes.substr(0, 100);
      EXPECT_EQ(decode(v.tokenizer, c.ids), c.text) << name << ": " << c.bytes.substr(0, 100);
    }
  }
}

TEST(TrieModels, GiveTheIdsAndTextsOfTheTokenizersLibrary) {
  const Json models = Json::parse(read_golden("trie_models.json"));
  for (const auto& [name, json] : models.items()) {
    const Loaded v(from_tokenizer_json(json.dump()));
    std::ifstream in(std::string(test::kSourceDir) + "/tests/goldens/trie_models.jsonl");
    size_t compared = 0;
    for (std::string line; std::getline(in, line); ++compared) {
      const Json j = Json::parse(line);
      const std::string bytes = from_hex(j.at("bytes_hex"));
      const auto ids = j.at(name)[0].get<std::vector<int32_t>>();
      EXPECT_EQ(encode(v.tokenizer, bytes), ids) << name << ": " << bytes;
      EXPECT_EQ(decode(v.tokenizer, ids), j.at(name)[1].get<std::string>()) << name << ": " << bytes;
    }
    EXPECT_GT(compared, 100u);
  }
}

TEST(TrieModels, ATextStreamsInWholeCharacters) {
  for (const char* name : {"uni_small", "uni_bytes"}) {
    const Loaded v(from_spm_proto(read_golden(std::string(name) + ".model")));
    for (const Case& c : read_cases(std::string(name) + ".jsonl")) {
      DecodeState state;
      char out[kMaxTokenText];
      std::string streamed;
      for (const int32_t id : c.ids) {
        auto n = v.tokenizer.decode(id, &state, out);
        ASSERT_TRUE(n.is_ok());
        EXPECT_EQ(valid({out, n.value()}), std::string(out, n.value()));
        streamed.append(out, n.value());
      }
      const size_t n = v.tokenizer.finish(&state, out);
      EXPECT_EQ(streamed + std::string(out, n), c.text);
    }
  }
}

TEST(WordPiece, ATextHasTheEndsOfItsTemplate) {
  const Json models = Json::parse(read_golden("trie_models.json"));
  const Loaded v(from_tokenizer_json(models.at("word_piece").dump()));
  const auto ids = encode(v.tokenizer, "The river", false, EncodeOptions::Add::kModelDefault);
  ASSERT_GT(ids.size(), 2u);
  EXPECT_EQ(ids.front(), v.source.find("[CLS]"));
  EXPECT_EQ(ids.back(), v.source.find("[SEP]"));
  EXPECT_EQ(decode(v.tokenizer, ids), "the river");
}

// vocab.txt and a GGUF say the same as tokenizer.json.
TEST(WordPiece, OtherSourcesGiveTheSameIds) {
  Json json = Json::parse(read_golden("trie_models.json")).at("word_piece");
  json["model"]["max_input_chars_per_word"] = 100;
  Json special = Json::array();
  for (const Json& t : json.at("added_tokens"))
    if (t.at("special")) special.push_back(t);
  json["added_tokens"] = special;
  const VocabSource source = from_tokenizer_json(json.dump());
  std::string lines;
  GgufTokenizer g;
  g.model = "bert";
  for (size_t i = 0; i < source.pieces.size(); ++i) {
    const std::string& p = source.pieces[i];
    lines += p + "\n";
    const bool control = PieceType(source.types[i]) == PieceType::kControl;
    g.types.push_back(control ? 3 : 1);
    g.tokens.push_back(control ? p : p.compare(0, 2, "##") == 0 ? p.substr(2) : kSpaceMark + p);
  }
  g.cls = source.find("[CLS]"), g.sep = source.find("[SEP]"), g.unk = source.find("[UNK]");
  const Loaded a(source), b(from_bert_vocab(lines, R"({"do_lower_case":true})")), c(from_gguf(g));
  std::ifstream in(std::string(test::kSourceDir) + "/tests/goldens/trie_models.jsonl");
  for (std::string line; std::getline(in, line);) {
    const std::string bytes = from_hex(Json::parse(line).at("bytes_hex"));
    const auto want = encode(a.tokenizer, bytes, false, EncodeOptions::Add::kModelDefault);
    EXPECT_EQ(encode(b.tokenizer, bytes, false, EncodeOptions::Add::kModelDefault), want) << bytes;
    EXPECT_EQ(encode(c.tokenizer, bytes, false, EncodeOptions::Add::kModelDefault), want) << bytes;
  }
}

TEST(Unigram, AGgufGivesTheSameIds) {
  const VocabSource s = from_spm_proto(read_golden("uni_small.model"));
  GgufTokenizer g;
  g.model = "t5";
  g.tokens = s.pieces;
  g.scores = s.scores;
  g.types.assign(s.types.begin(), s.types.end());
  g.charsmap = s.spm_normalizer->charsmap;
  g.eos = s.eos, g.unk = s.unk;
  const Loaded v(from_gguf(g));
  for (const Case& c : read_cases("uni_small.jsonl")) {
    EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << c.bytes;
    EXPECT_EQ(decode(v.tokenizer, c.ids), c.text) << c.bytes;
  }
  // No word of an unknown token: the piece that is marked so, else T5's.
  g.unk = -1;
  EXPECT_EQ(from_gguf(g).unk, s.unk);
  std::replace(g.types.begin(), g.types.end(), int32_t(PieceType::kUnknown), int32_t(PieceType::kControl));
  EXPECT_EQ(from_gguf(g).unk, 2);
}

// Tables are untrusted: whatever a bit is changed to, nothing is read out of range, and calls end.
TEST(TrieModels, DamagedTablesAreHarmless) {
  std::mt19937 rng(13);
  std::string text;
  for (const Case& c : read_cases("uni_small.jsonl"))
    if (c.bytes.size() < 60) text += c.bytes;
  const Json models = Json::parse(read_golden("trie_models.json"));
  std::vector<VocabSource> sources = {from_spm_proto(read_golden("uni_small.model")),
                                      from_spm_proto(read_golden("spm_rules.model"))};
  for (const char* name : {"word_piece", "unigram_bytes", "unigram_charsmap"})
    sources.push_back(from_tokenizer_json(models.at(name).dump()));
  int opened = 0;
  for (const VocabSource& source : sources) {
    const VocabData good = build_vocab(source);
    for (int round = 0; round < (test::kIsSlow ? 20 : 80); ++round) {
      VocabData d = good;
      for (uint32_t n = 1 + rng() % 20; n > 0; --n) {
        std::vector<uint8_t>& table = d.piece_trie.empty() || round % 2 ? d.normalizer : d.piece_trie;
        table[rng() % 3 ? rng() % table.size() : rng() % std::min<size_t>(table.size(), 1200)] =
            uint8_t(rng() % 3 ? rng() : 0xFF);
      }
      Vocab vocab;
      if (!vocab_open(tables_of(source, d), &vocab).is_ok()) continue;
      ++opened;
      EncodeScratch scratch;
      Vec<int32_t> ids;
      (void)Tokenizer(vocab).encode(text.data(), text.size(), {}, &scratch, &ids).is_ok();
    }
  }
  EXPECT_GT(opened, test::kIsSlow ? 50 : 200);
}

}  // namespace
}  // namespace runnel::convert
