// The edges of the originals' rules (tests/goldens/tokenizer_edges.py): added tokens that the normaliser changes, ways
// of equal score, charsmaps whose tries are graphs.
#include <algorithm>

#include "converter/text/normalizer.h"
#include "converter/text_test.h"
#include "kit.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

std::string from_hex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i < hex.size(); i += 2) out += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

const Json& edges() {
  static const Json j = Json::parse(read_golden("edges.json"));
  return j;
}

TEST(AddedTokens, AreFoundAsTheNormaliserLeavesThem) {
  for (const auto& [name, json] : edges().at("added").items()) {
    const Loaded v(from_tokenizer_json(json.dump()));
    size_t compared = 0;
    for (const Json& c : edges().at("added_texts")) {
      const std::string text = c[0];
      if (!c[1].contains(name)) continue;
      const auto ids = c[1].at(name)[0].get<std::vector<int32_t>>();
      EXPECT_EQ(encode(v.tokenizer, text, true), ids) << name << ": " << text;
      // Control pieces are written as they are, without the space that a prefix would give them.
      const bool control = std::any_of(ids.begin(), ids.end(),
                                       [&](int32_t id) { return v.tokenizer.vocab().type(id) == PieceType::kControl; });
      if (!control)
        EXPECT_EQ(decode(v.tokenizer, ids, true), c[1].at(name)[1].get<std::string>()) << name << ": " << text;
      ++compared;
    }
    EXPECT_GT(compared, 20u) << name;
  }
}

// A user's text does not become control pieces, whatever the normaliser makes of it.
TEST(AddedTokens, ControlPiecesStayOutOfPlainText) {
  const Loaded v(from_tokenizer_json(edges().at("added").at("control_in_vocab").dump()));
  const int32_t s = v.source.find("<s>");
  EXPECT_EQ(encode(v.tokenizer, "<s>a <s>", true), (std::vector<int32_t>{s, v.source.find("a"), s}));
  for (const int32_t id : encode(v.tokenizer, "<s>a <s>")) EXPECT_NE(id, s);
}

TEST(AddedTokens, WhatCannotBeToldApartIsRefusedByName) {
  const Json good = edges().at("added").at("lower");
  const auto why = [&](auto change) {
    Json j = good;
    change(j["added_tokens"]);
    return error_of([&] { build_vocab(from_tokenizer_json(j.dump())); });
  };
  EXPECT_EQ(why([](Json&) {}), "");
  const auto contains = [](const std::string& said, const char* part) {
    EXPECT_NE(said.find(part), std::string::npos) << said;
  };
  contains(why([](Json& a) {
             a.push_back({{"content", "<RAW>"}, {"normalized", true}});
           }),
           "\"<RAW>\", which the normaliser changes to \"<raw>\", another added token's text");
  Json strip = edges().at("added").at("strip");
  strip["added_tokens"].push_back({{"content", "  "}, {"normalized", true}});
  contains(error_of([&] { build_vocab(from_tokenizer_json(strip.dump())); }),
           "\"  \", of which the normaliser leaves nothing");
}

// One that the model has as well keeps its number and its own text.
TEST(AddedTokens, MayBeThoseOfTheModel) {
  Json j = edges().at("added").at("lower");
  j["added_tokens"].push_back({{"content", "Q"}, {"normalized", true}});
  const Loaded v(from_tokenizer_json(j.dump()));
  const int32_t id = j["model"]["vocab"]["Q"];
  EXPECT_EQ(encode(v.tokenizer, "q"), std::vector<int32_t>{id});
  EXPECT_EQ(encode(v.tokenizer, "Q"), std::vector<int32_t>{id});
  EXPECT_EQ(decode(v.tokenizer, {id}), "Q");
}

// tokenizer_config.json has the last word about flags.
TEST(AddedTokens, ConfigChangesTheirFlags) {
  Json j = edges().at("added").at("prefix");
  const int32_t id = j["added_tokens"][0]["id"];
  const Json config = {
      {"added_tokens_decoder", {{std::to_string(id), {{"content", "<think>"}, {"normalized", false}}}}}};
  VocabSource s = from_tokenizer_json(j.dump(), config.dump());
  apply_tokenizer_config(config.dump(), &s);
  const Loaded v(s);
  const std::vector<int32_t> ids = encode(v.tokenizer, "a<think>b");
  ASSERT_EQ(ids.size(), 5u);
  EXPECT_EQ(ids[2], id);
}

TEST(Unigram, TiesFallAsInTheOriginals) {
  size_t compared = 0;
  for (const Json& tie : edges().at("ties")) {
    const Loaded spm(from_spm_proto(from_hex(tie.at("model"))));
    Json vocab = Json::array();
    for (const Json& p : tie.at("pieces")) vocab.push_back({p[0], p[1]});
    const Json json = {
        {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", vocab}, {"byte_fallback", false}}},
        {"decoder", {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "never"}, {"split", false}}}};
    const Loaded hf(from_tokenizer_json(json.dump()));
    for (size_t i = 0; i < tie.at("texts").size(); ++i, ++compared) {
      const std::string text = tie.at("texts")[i];
      EXPECT_EQ(encode(spm.tokenizer, text), tie.at("spm")[i].get<std::vector<int32_t>>())
          << tie.at("pieces") << ": " << text;
      EXPECT_EQ(encode(hf.tokenizer, text), tie.at("json")[i].get<std::vector<int32_t>>())
          << tie.at("pieces") << ": " << text;
    }
  }
  EXPECT_GT(compared, 100u);
}

TEST(Charsmap, EndingsMayBeShared) {
  const Json& shared = edges().at("shared");
  const VocabSource source = from_spm_proto(from_hex(shared.at("model")));
  EXPECT_EQ(decode_charsmap(source.spm_normalizer->charsmap).size(), 4097u);
  const Loaded v(source);
  for (const Json& c : shared.at("cases"))
    EXPECT_EQ(encode(v.tokenizer, c[0].get<std::string>()), c[1].get<std::vector<int32_t>>()) << c[0];
}

// Units of Darts' double array by hand: of 512 places, some with a label and an offset to their children's base.
struct Units {
  std::vector<uint32_t> units = std::vector<uint32_t>(512, 0x80000000);
  void node(uint32_t at, uint32_t label, uint32_t base) { units[at] = label | (at ^ base) << 10; }
  std::string blob() const {
    std::string out(4 + units.size() * 4, '\0');
    const auto put = [&](size_t at, uint32_t v) {
      for (size_t i = 0; i < 4; ++i) out[at + i] = char(v >> (8 * i));
    };
    put(0, uint32_t(units.size() * 4));
    for (size_t i = 0; i < units.size(); ++i) put(4 + i * 4, units[i]);
    return out + std::string("x\0", 2);
  }
};

TEST(Charsmap, TrueCirclesAndTooManyWaysAreRefused) {
  Units circle;
  circle.node(0, 0, 256);
  circle.node(256 ^ 'a', 'a', 0);
  circle.node(0 ^ 'b', 'b', 256);
  EXPECT_NE(error_of([&] { decode_charsmap(circle.blob()); }).find("leads in circles"), std::string::npos);
  // Sixteen layers of two letters that lead to one place: 65,536 strings are a graph, 60 layers are an attack.
  const auto layers = [](uint32_t n) {
    Units u;
    u.node(0, 0, 4);
    for (uint32_t i = 0; i < n; ++i)
      for (const uint32_t label : {1u, 2u}) u.node((4 + 4 * i) ^ label, label, 8 + 4 * i);
    return u.blob();
  };
  EXPECT_EQ(error_of([&] { decode_charsmap(layers(16)); }), "");
  EXPECT_NE(error_of([&] { decode_charsmap(layers(60)); }).find("more strings than any that is known"),
            std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
