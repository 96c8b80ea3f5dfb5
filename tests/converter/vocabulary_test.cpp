// Readers of vocabularies: the same vocabulary through each of them, broken and hostile input.
#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <random>

#include "converter/text_test.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

VocabSource small() { return from_spm_proto(read_golden("spm_small.model")); }

template <class E, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

TEST(SpmProto, ReadsIdsFlagsAndPieces) {
  const VocabSource s = small();
  EXPECT_EQ(s.pieces.size(), 600u);
  EXPECT_EQ(s.unk, 0);
  EXPECT_EQ(s.bos, 1);
  EXPECT_EQ(s.eos, 2);
  EXPECT_TRUE(s.add_bos && !s.add_eos && s.add_space_prefix && s.byte_fallback);
  const VocabSource p = from_spm_proto(read_golden("spm_plain.model"));
  EXPECT_TRUE(!p.add_space_prefix && !p.byte_fallback);
}

TEST(SpmProto, BrokenBytesAreRefusedOrRead) {
  const std::string good = read_golden("spm_small.model");
  std::mt19937 rng(21);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = good;
    if (round % 3 == 0) bytes.resize(rng() % bytes.size());
    else
      for (uint32_t n = 1 + rng() % 8; n > 0; --n) bytes[rng() % bytes.size()] = char(rng());
    try {
      const VocabSource s = from_spm_proto(bytes);
      const VocabData d = build_vocab(s);
      Vocab vocab;
      EXPECT_TRUE(vocab_open(tables_of(s, d), &vocab).is_ok());
    } catch (const std::runtime_error& e) {
      EXPECT_GT(std::string(e.what()).size(), 10u);
      ++refused;
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_NE(message_of<std::runtime_error>([] { from_spm_proto(""); }), "");
}

// A ModelProto of three pieces; trainer and normalizer are protobuf messages.
std::string proto(const std::string& trainer, const std::string& normalizer) {
  const auto field = [](int number, const std::string& payload) {
    return std::string(1, char(number << 3 | 2)) + char(payload.size()) + payload;
  };
  std::string out;
  for (const char* piece : {"<unk>", "a", "b"})
    out += field(1, field(1, piece) + (piece[0] == '<' ? std::string("\x18\x02") : ""));
  return out + field(2, trainer) + field(3, normalizer);
}

TEST(SpmProto, OtherKindsAreRefusedByName) {
  const std::string bpe("\x18\x02"), exact("\x20\x00", 2);  // model_type = bpe; remove_extra_whitespaces = false
  EXPECT_EQ(from_spm_proto(proto(bpe, exact)).pieces.size(), 3u);
  const auto why = [](const std::string& bytes) {
    return message_of<UnsupportedTokenizer>([&] { from_spm_proto(bytes); });
  };
  EXPECT_NE(why(proto("\x18\x04", exact)).find("char"), std::string::npos);
  EXPECT_EQ(from_spm_proto(proto("", exact)).kind, TokenizerKind::kUnigram);
  // Each of them brings a normaliser.
  EXPECT_TRUE(build_vocab(from_spm_proto(proto(bpe, exact))).normalizer.empty());
  EXPECT_FALSE(build_vocab(from_spm_proto(proto(bpe, ""))).normalizer.empty());
  EXPECT_FALSE(build_vocab(from_spm_proto(proto(bpe + "\xc0\x01\x01", exact))).normalizer.empty());
  EXPECT_NE(message_of<std::runtime_error>([&] {
              build_vocab(from_spm_proto(proto(bpe, exact + "\x0a\x08nmt_nfkc\x12\x01z")));
            }).find("charsmap"),
            std::string::npos);
}

// tokenizer.json as the usual conversion makes it from a SentencePiece model: all pairs of a piece, best pieces first.
Json tokenizer_json(const VocabSource& s) {
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  std::map<std::string, size_t> ids;
  for (size_t i = 0; i < s.pieces.size(); ++i) ids[s.pieces[i]] = i;
  std::vector<size_t> order;
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    vocab[s.pieces[i]] = i;
    order.push_back(i);
    const PieceType type = PieceType(s.types[i]);
    if (type == PieceType::kControl || type == PieceType::kUserDefined || type == PieceType::kUnknown)
      added.push_back(
          {{"id", i}, {"content", s.pieces[i]}, {"special", type != PieceType::kUserDefined}, {"normalized", false}});
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return s.scores[a] > s.scores[b]; });
  for (const size_t i : order)
    for (size_t cut = 1; cut < s.pieces[i].size(); ++cut) {
      const std::string a = s.pieces[i].substr(0, cut), b = s.pieces[i].substr(cut);
      if (ids.count(a) && ids.count(b)) merges.push_back({a, b});
    }
  return {{"added_tokens", added},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "\u2581"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}}},
          {"model",
           {{"type", "BPE"}, {"byte_fallback", true}, {"unk_token", "<unk>"}, {"vocab", vocab}, {"merges", merges}}}};
}

TEST(TokenizerJson, GivesTheIdsOfTheModelItWasMadeFrom) {
  Json j = tokenizer_json(small());
  const auto compare = [&] {
    const Loaded v(from_tokenizer_json(j.dump()));
    EXPECT_TRUE(v.source.add_bos && !v.source.add_eos && v.source.add_space_prefix && v.source.byte_fallback);
    EXPECT_EQ(v.source.bos, 1);
    EXPECT_EQ(v.source.unk, 0);
    for (const Case& c : read_cases("spm_small.jsonl")) {
      EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << c.bytes.substr(0, 100);
      EXPECT_EQ(decode(v.tokenizer, c.ids), c.text);
    }
  };
  compare();
  for (Json& m : j["model"]["merges"])
    m = m[0].get<std::string>() + " " + m[1].get<std::string>();  // the older way to write pairs
  compare();
  j["normalizer"] = nullptr;
  j["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
  compare();
}

TEST(TokenizerJson, OtherKindsAreRefusedByName) {
  const Json good = tokenizer_json(small());
  const auto why = [&](auto change) {
    Json j = good;
    change(j);
    return message_of<UnsupportedTokenizer>([&] { from_tokenizer_json(j.dump()); });
  };
  EXPECT_EQ(why([](Json&) {}), "");
  EXPECT_NE(why([](Json& j) { j["model"]["type"] = "WordLevel"; }).find("WordLevel"), std::string::npos);
  EXPECT_NE(why([](Json& j) { j["model"]["dropout"] = 0.1, j["normalizer"] = nullptr; }).find("dropout"),
            std::string::npos);
  EXPECT_NE(why([](Json& j) {
              j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
            }).find("UnicodeScripts"),
            std::string::npos);
  Json j = good;
  j["normalizer"] = nullptr;
  j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(?<name>a)"}}}};
  EXPECT_NE(message_of<UnsupportedTokenizer>([&] { build_vocab(from_tokenizer_json(j.dump())); }).find("(?<name>a)"),
            std::string::npos);
}

// Merges that are not SentencePiece's are those of an ordinary BPE model.
TEST(TokenizerJson, OtherMergesMakeAnotherKind) {
  const Json good = tokenizer_json(small());
  const auto is_other = [&](auto change) {
    Json j = good;
    change(j);
    return from_tokenizer_json(j.dump()).kind == TokenizerKind::kByteBpe;
  };
  EXPECT_FALSE(is_other([](Json&) {}));
  EXPECT_TRUE(is_other([](Json& j) { j["model"]["byte_fallback"] = false; }));
  EXPECT_TRUE(is_other([](Json& j) { j["model"]["ignore_merges"] = true; }));
  EXPECT_TRUE(is_other([](Json& j) { j["pre_tokenizer"] = {{"type", "ByteLevel"}}; }));
  // A pair that SentencePiece would merge is missing, or a piece's pairs are not together.
  const auto joined = [](const Json& pair) { return pair[0].get<std::string>() + pair[1].get<std::string>(); };
  const auto first_of_two = [&](const Json& merges) {
    for (size_t i = 0;; ++i)
      if (std::isalpha(joined(merges.at(i))[0]) && joined(merges[i]) == joined(merges.at(i + 1))) return i;
  };
  EXPECT_TRUE(is_other([&](Json& j) { j["model"]["merges"].erase(first_of_two(j["model"]["merges"])); }));
  EXPECT_TRUE(is_other([&](Json& j) {
    Json& merges = j["model"]["merges"];
    const size_t at = first_of_two(merges);
    const Json moved = merges[at];
    merges.erase(at);
    merges.push_back(moved);
  }));
}

TEST(TokenizerJson, BrokenFilesAreRefused) {
  const Json good = tokenizer_json(small());
  const auto refused = [&](auto change) {
    Json j = good;
    change(j);
    return message_of<std::runtime_error>([&] { build_vocab(from_tokenizer_json(j.dump())); }) != "";
  };
  EXPECT_TRUE(refused([](Json& j) { j["model"]["vocab"]["the"] = 100000; }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["vocab"]["new"] = 5; }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["vocab"]["new"] = "5"; }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["vocab"].erase("<0x0A>"); }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["vocab"] = Json::array(); }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["merges"][0] = 7; }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["merges"][0] = {"q", "zz"}; }));
  EXPECT_TRUE(refused([](Json& j) { j["model"]["merges"] = "x"; }));
  EXPECT_TRUE(refused([](Json& j) { j["added_tokens"][0]["id"] = -1; }));
  EXPECT_TRUE(refused([](Json& j) { j = Json::array(); }));
  const std::string text = good.dump();
  std::mt19937 rng(22);
  for (int round = 0; round < 200; ++round) {
    std::string bytes = text;
    if (round % 2) bytes.resize(rng() % bytes.size());
    else bytes[rng() % bytes.size()] = char(rng());
    try {
      build_vocab(from_tokenizer_json(bytes));
    } catch (const std::runtime_error& e) {
      EXPECT_GT(std::string(e.what()).size(), 10u);
    }
  }
}

TEST(TokenizerJson, ConfigGivesFlagsAndTemplate) {
  VocabSource s = small();
  apply_tokenizer_config(
      R"({"add_bos_token": false, "add_eos_token": true, "eos_token": {"content": "</turn>"}, "chat_template": "x"})",
      &s);
  EXPECT_TRUE(!s.add_bos && s.add_eos);
  EXPECT_EQ(s.pieces[size_t(s.eos)], "</turn>");
  EXPECT_EQ(s.chat_template, "x");
  apply_tokenizer_config(
      R"({"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]})", &s);
  EXPECT_EQ(s.chat_template, "d");
  EXPECT_NE(message_of<std::runtime_error>([&] { apply_tokenizer_config("[", &s); }), "");
}

GgufTokenizer gguf_of(const VocabSource& s) {
  GgufTokenizer g;
  g.model = "llama";
  g.tokens = s.pieces;
  g.scores = s.scores;
  for (const uint8_t t : s.types) g.types.push_back(t);
  g.bos = s.bos, g.eos = s.eos, g.unk = s.unk;
  return g;
}

TEST(Gguf, GivesTheIdsOfTheModelItWasMadeFrom) {
  const VocabSource s = small();
  GgufTokenizer g = gguf_of(s);
  int plain = 0;
  for (size_t i = 0; i < g.tokens.size(); ++i)
    if (PieceType(s.types[i]) == PieceType::kUserDefined)  // runs of spaces stand there as spaces
      for (size_t at; (at = g.tokens[i].find("\u2581")) != std::string::npos; ++plain) g.tokens[i].replace(at, 3, " ");
  EXPECT_EQ(plain, 9);
  g.types[size_t(s.unk)] = 3;
  const Loaded v(from_gguf(g));
  EXPECT_TRUE(v.source.add_bos && !v.source.add_eos && v.source.add_space_prefix && v.source.byte_fallback);
  for (const Case& c : read_cases("spm_small.jsonl")) {
    EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << c.bytes.substr(0, 100);
    EXPECT_EQ(decode(v.tokenizer, c.ids), c.text);
  }
  g.add_space_prefix = false, g.add_bos = false, g.add_eos = true;
  const VocabSource t = from_gguf(g);
  EXPECT_TRUE(!t.add_bos && t.add_eos && !t.add_space_prefix);
}

TEST(Gguf, WithoutAnUnknownTokenThePieceThatIsMarkedSoIsTakenElseTheFirst) {
  GgufTokenizer g;
  g.model = "llama";
  g.tokens = {"<pad>", "<s>", "</s>", "<unk>", "a"};
  g.scores = {0, 0, 0, 0, -1};
  g.types = {3, 3, 3, 2, 1};
  EXPECT_EQ(encode(Loaded(from_gguf(g)).tokenizer, "a\u4f60").back(), 3);
  g.types[3] = 1;
  EXPECT_EQ(encode(Loaded(from_gguf(g)).tokenizer, "a\u4f60").back(), 0);
  g.types.clear(), g.tokens = {"a", "<s>", "</s>", "b", "c"};
  EXPECT_EQ(encode(Loaded(from_gguf(g)).tokenizer, "a\u4f60").back(), 0);
}

TEST(Gguf, OtherKindsAndBrokenMetadataAreRefused) {
  const GgufTokenizer good = gguf_of(small());
  const auto why = [&](auto change) {
    GgufTokenizer g = good;
    change(g);
    return message_of<std::runtime_error>([&] { build_vocab(from_gguf(g)); });
  };
  EXPECT_EQ(why([](auto&) {}), "");
  EXPECT_NE(message_of<UnsupportedTokenizer>([&] {
              GgufTokenizer g = good;
              g.model = "gpt2", g.pre = "later";
              from_gguf(g);
            }).find("later"),
            std::string::npos);
  EXPECT_NE(message_of<UnsupportedTokenizer>([&] {
              GgufTokenizer g = good;
              g.model = "t6";
              from_gguf(g);
            }).find("t6"),
            std::string::npos);
  EXPECT_NE(why([](auto& g) { g.scores.pop_back(); }), "");
  EXPECT_NE(why([](auto& g) { g.types.pop_back(); }), "");
  EXPECT_NE(why([](auto& g) { g.types[9] = 0; }), "");
  EXPECT_NE(why([](auto& g) { g.types[300] = 6; }), "");  // not written as a byte
  EXPECT_NE(why([](auto& g) { g.bos = 600; }), "");
  EXPECT_NE(why([](auto& g) { g.unk = int64_t(1) << 40; }), "");
  EXPECT_NE(why([](auto& g) { g.bos = -1, g.add_bos = true; }), "");
  EXPECT_NE(why([](auto& g) { g.scores[7] = std::numeric_limits<float>::infinity(); }), "");
  EXPECT_NE(why([](auto& g) { g.tokens[300] = std::string(5000, 'x'); }), "");
  EXPECT_NE(why([](auto& g) { g.tokens.clear(), g.scores.clear(), g.types.clear(), g.bos = g.eos = g.unk = -1; }), "");
}

TEST(Vocabulary, EveryPieceIsFound) {
  const Loaded v(small());
  const Vocab& vocab = v.tokenizer.vocab();
  for (int32_t id = 0; id < vocab.count; ++id) {
    const std::string& p = v.source.pieces[size_t(id)];
    const auto* data = reinterpret_cast<const uint8_t*>(p.data());
    EXPECT_EQ(vocab.find(data, p.size(), ~0u), id);
    EXPECT_EQ(vocab.find(data, p.size(), piece_bit(vocab.type(id))), id);
    EXPECT_EQ(vocab.find(data, p.size(), ~piece_bit(vocab.type(id))), -1);
    const std::string longer = p + "\x01";
    EXPECT_EQ(vocab.find(reinterpret_cast<const uint8_t*>(longer.data()), longer.size(), ~0u), -1);
  }
  EXPECT_EQ(vocab.find(nullptr, 0, ~0u), -1);
}

TEST(Vocabulary, PiecesMadeToCollideAreRefused) {
  VocabSource s;
  for (size_t i = 0; i < 2000; ++i) s.pieces.push_back("same"), s.scores.push_back(0), s.types.push_back(1);
  s.unk = 0;
  EXPECT_NE(message_of<std::runtime_error>([&] { build_vocab(s); }).find("collide"), std::string::npos);
}

TEST(Vocabulary, CheckVectorsHoldWhatTheEncoderSays) {
  const Loaded v(small());
  VocabData data = v.data;
  data.end_of_turn = {7};
  const format::TokenizerT t = tokenizer_table(v.source, data);
  EXPECT_EQ(t.end_of_turn, std::vector<int32_t>{7});
  ASSERT_GE(t.checks.size(), 5u);
  for (const auto& c : t.checks) {
    EXPECT_EQ(encode(v.tokenizer, {c->bytes.begin(), c->bytes.end()}), c->ids);
    EXPECT_FALSE(c->ids.empty());
  }
}

}  // namespace
}  // namespace runnel::convert
