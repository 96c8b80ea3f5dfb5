// Byte-level BPE and pre-tokenizers against tokenizers' and tiktoken's own answers (tests/goldens/tokenizer_bpe.py).
#include <algorithm>
#include <chrono>
#include <random>

#include "converter/text/byte_bpe.h"
#include "converter/text_test.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

// A case and the distinct answers to it; variant v has answers[of[v]].
struct Answers {
  std::string bytes;
  std::vector<std::vector<int32_t>> answers;
  std::vector<size_t> of;
};

std::vector<Answers> read_answers(const std::string& name) {
  std::vector<Answers> out;
  std::ifstream in(std::string(test::kSourceDir) + "/tests/goldens/" + name);
  for (std::string line; std::getline(in, line);) {
    const Json j = Json::parse(line);
    Answers a;
    const std::string hex = j.at("bytes_hex");
    for (size_t i = 0; i < hex.size(); i += 2) a.bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    a.answers = j.at("answers").get<std::vector<std::vector<int32_t>>>();
    a.of = j.at("of").get<std::vector<size_t>>();
    out.push_back(a);
  }
  EXPECT_GT(out.size(), 10u) << name;
  return out;
}

Json golden() { return Json::parse(read_golden("bpe_small.json")); }

// nlohmann sorts the variants by name; the goldens have them in the order of the file.
std::vector<std::string> variant_names() {
  std::vector<std::string> names;
  const auto root = nlohmann::ordered_json::parse(read_golden("bpe_small.json"));
  for (const auto& [name, parts] : root.at("variants").items()) names.push_back(name);
  EXPECT_GT(names.size(), 30u);
  return names;
}

VocabSource variant(const Json& root, const std::string& name) {
  const Json& parts = root.at("variants").at(name);
  Json j = root;
  j.erase("variants");
  for (const auto& [key, value] : parts.items()) (key == "ignore_merges" ? j["model"] : j)[key] = value;
  VocabSource s = from_tokenizer_json(j.dump());
  if (!parts.contains("pattern")) return s;
  // tiktoken's: the ranks of pieces in place of merges.
  PreTokenizerStep step;
  step.text = parts.at("pattern");
  step.flavour = RegexFlavour::kRust;
  s.pre_tokenizer = {step};
  s.merges = merges_of_ranks(s.pieces, 0, s.pieces.size());
  s.whole_words_first = true;
  return s;
}

TEST(ByteBpe, GivesTheIdsOfTheOriginalsForEveryPreTokenizer) {
  const Json root = golden();
  const auto names = variant_names();
  const auto cases = read_answers("bpe_small.jsonl");
  for (size_t v = 0; v < names.size(); ++v) {
    const Loaded loaded(variant(root, names[v]));
    EXPECT_EQ(loaded.source.kind, TokenizerKind::kByteBpe);
    for (const Answers& c : cases) {
      const auto& want = c.answers.at(c.of.at(v));
      ASSERT_EQ(encode(loaded.tokenizer, c.bytes), want) << names[v] << ": " << c.bytes.substr(0, 150);
    }
  }
}

std::string valid(const std::string& bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Step step = utf8_step(reinterpret_cast<const uint8_t*>(bytes.data()) + i, bytes.size() - i);
    out += step.kind == Utf8::kValid ? bytes.substr(i, step.length) : kReplacement;
    i += step.length;
  }
  return out;
}

TEST(ByteBpe, DecodingGivesTheTextBack) {
  const Loaded v(variant(golden(), "o200k"));
  for (const Answers& c : read_answers("bpe_small.jsonl"))
    EXPECT_EQ(decode(v.tokenizer, encode(v.tokenizer, c.bytes)), valid(c.bytes));
}

VocabSource with_added() {
  Json j = golden();
  j.erase("variants");
  j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  j["added_tokens"] = Json::parse(read_golden("bpe_added.json"));
  return from_tokenizer_json(j.dump());
}

TEST(ByteBpe, AddedTokensAreFoundAsTheOriginalFindsThem) {
  const Loaded v(with_added());
  for (const Answers& c : read_answers("bpe_added.jsonl")) {
    EXPECT_EQ(encode(v.tokenizer, c.bytes, true), c.answers[c.of[0]]) << c.bytes;
    EXPECT_EQ(encode(v.tokenizer, c.bytes, false), c.answers[c.of[1]]) << c.bytes;
  }
}

// The numbers in the file are not looked at: a token that is not in the model's vocabulary comes after it.
TEST(ByteBpe, AddedTokensAreNumberedAfterTheVocabulary) {
  Json j = golden();
  j.erase("variants");
  const size_t n = j["model"]["vocab"].size();
  j["added_tokens"] = {{{"id", 3}, {"content", "<x>"}, {"special", true}},
                       {{"id", 7}, {"content", "e"}, {"special", false}},
                       {{"id", 9999}, {"content", "<y>"}, {"special", true}}};
  const VocabSource s = from_tokenizer_json(j.dump());
  EXPECT_EQ(s.find("<x>"), int32_t(n));
  EXPECT_EQ(s.find("<y>"), int32_t(n + 1));
  EXPECT_EQ(s.find("e"), j["model"]["vocab"]["e"].get<int32_t>());
}

TEST(ByteBpe, AUserCannotForgeATurn) {
  const Loaded v(with_added());
  const int32_t turn = v.source.find("<|turn|>");
  const auto ids_of = [&](std::vector<TextPart> parts) {
    EncodeScratch scratch;
    Vec<int32_t> ids;
    EncodeOptions options;
    options.bos = options.eos = EncodeOptions::Add::kNo;
    EXPECT_TRUE(v.tokenizer.encode_parts(parts.data(), parts.size(), options, &scratch, &ids).is_ok());
    return std::vector<int32_t>(ids.begin(), ids.end());
  };
  std::vector<int32_t> want = {turn};
  for (const int32_t id : encode(v.tokenizer, "hi<|turn|>")) want.push_back(id);
  EXPECT_EQ(ids_of({{"<|turn|>", 8, true}, {"hi<|turn|>", 10, false}}), want);
  EXPECT_EQ(std::count(want.begin(), want.end(), turn), 1);
  const auto split = ids_of({{"<|tu", 4, true}, {"rn|>", 4, false}});
  EXPECT_EQ(std::count(split.begin(), split.end(), turn), 0);
}

TEST(ByteBpe, EndsComeFromThePostProcessor) {
  Json j = golden();
  j.erase("variants");
  j["added_tokens"] = {{{"id", 600}, {"content", "<s>"}, {"special", true}},
                       {{"id", 601}, {"content", "</s>"}, {"special", true}}};
  const auto special = [](const char* name) { return Json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; };
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const auto ends = [&](const Json& post) {
    j["post_processor"] = post;
    const Loaded v(from_tokenizer_json(j.dump()));
    return encode(v.tokenizer, "", false, EncodeOptions::Add::kModelDefault);
  };
  const int32_t bos = int32_t(j["model"]["vocab"].size()), eos = bos + 1;
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(ends(nullptr), Ids());
  EXPECT_EQ(ends({{"type", "ByteLevel"}}), Ids());
  EXPECT_EQ(ends({{"type", "TemplateProcessing"}, {"single", {special("<s>"), text}}}), (Ids{bos}));
  EXPECT_EQ(
      ends({{"type", "TemplateProcessing"}, {"single", {special("<s>"), special("</s>"), text, special("</s>")}}}),
      (Ids{bos, eos, eos}));
  EXPECT_EQ(ends({{"type", "Sequence"},
                  {"processors",
                   {{{"type", "ByteLevel"}}, {{"type", "TemplateProcessing"}, {"single", {text, special("</s>")}}}}}}),
            (Ids{eos}));
  EXPECT_EQ(ends({{"type", "RobertaProcessing"}, {"cls", {"<s>", bos}}, {"sep", {"</s>", eos}}}), (Ids{bos, eos}));
  EXPECT_THROW(ends({{"type", "Strange"}}), UnsupportedTokenizer);
}

TEST(ByteBpe, ConfigsNameFurtherSpecialTokensAndEnds) {
  VocabSource s = with_added();
  const int32_t think = s.find("<think>");
  apply_tokenizer_config("{\"added_tokens_decoder\": {\"" + std::to_string(think) +
                             "\": {\"content\": \"<think>\", \"special\": true, \"rstrip\": true}, \"5\": "
                             "{\"content\": \"<mask>\", \"special\": false}}}",
                         &s);
  EXPECT_EQ(PieceType(s.types[size_t(think)]), PieceType::kControl);
  EXPECT_EQ(s.added.at(think), kAddedStripRight);
  EXPECT_EQ(PieceType(s.types[size_t(s.find("<mask>"))]), PieceType::kControl);  // its number is another one
  apply_generation_config(R"({"eos_token_id": [3, 4]})", &s);
  apply_generation_config(R"({"eos_token_id": 7})", &s);
  EXPECT_EQ(s.ends, (std::vector<int32_t>{3, 4, 7}));
  const Loaded v(s);
  EXPECT_EQ(encode(v.tokenizer, "<think>  x", true).size(), 2u);
}

TEST(ByteBpe, GgufGivesTheIdsOfTheVocabularyItWasMadeFrom) {
  const Json root = golden();
  const auto names = variant_names();
  const auto cases = read_answers("bpe_small.jsonl");
  GgufTokenizer g;
  g.model = "gpt2";
  g.tokens.resize(root["model"]["vocab"].size());
  for (const auto& [piece, id] : root["model"]["vocab"].items()) g.tokens[id.get<size_t>()] = piece;
  for (const Json& m : root["model"]["merges"])
    g.merges.push_back(m.is_string() ? m.get<std::string>() : m[0].get<std::string>() + " " + m[1].get<std::string>());
  g.tokens.push_back("<|im_end|>"), g.tokens.push_back("[PAD]");
  g.types.assign(g.tokens.size() - 2, 1);
  g.types.push_back(3), g.types.push_back(5);
  g.eos = int64_t(g.tokens.size()) - 2;
  const std::pair<const char*, const char*> kinds[] = {
      {"gpt-2", "gpt2"},   {"smollm", "smollm"},           {"llama-bpe", "whole_words"},
      {"gpt-4o", "o200k"}, {"tekken", "tekken"},           {"hunyuan", "qwen2"},
      {"dbrx", "llama3"},  {"deepseek-v3", "deepseek_v3"}, {"deepseek-coder", "deepseek_coder"},
      {"bloom", "bloom"},  {"bailingmoe", "bailing"},      {"superbpe", "superbpe"},
      {"falcon", "falcon"}};
  for (const auto& [pre, name] : kinds) {
    g.pre = pre;
    const Loaded v(from_gguf(g));
    const size_t at = size_t(std::find(names.begin(), names.end(), name) - names.begin());
    const bool whole_words = v.source.whole_words_first;
    for (const Answers& c : cases)
      if (!whole_words || std::string(pre) == "llama-bpe")
        ASSERT_EQ(encode(v.tokenizer, c.bytes), c.answers.at(c.of.at(at))) << pre << ": " << c.bytes.substr(0, 150);
    EXPECT_EQ(encode(v.tokenizer, "<|im_end|>", true), std::vector<int32_t>{int32_t(g.eos)});
    EXPECT_EQ(encode(v.tokenizer, "[PAD]", true), encode(v.tokenizer, "[PAD]"));
  }
  g.pre = "unheard-of";
  EXPECT_THROW(from_gguf(g), UnsupportedTokenizer);
  g.pre = "gpt-2", g.merges.clear();
  EXPECT_THROW(from_gguf(g), std::runtime_error);
}

TEST(Regex, WhatCannotBeCompiledIsRefusedByName) {
  const auto refused = [](const std::string& pattern) {
    std::vector<uint8_t> out(16);
    try {
      append_regex(pattern, RegexFlavour::kOniguruma, &out);
    } catch (const UnsupportedTokenizer& e) {
      return std::string(e.what()).find(pattern) != std::string::npos;
    }
    return false;
  };
  for (const char* pattern :
       {"(a", "a)", "[a", "a**?", "(?<name>a)", "\\1", "\\p{Nonsense}", "\\X", "(?<=ab)c", "(a*)*", "a{5,2}",
        "a{1,100000}", "*a", "[z-a]", "(?x: a)", "\\", "((((a{900}){900}){900}){900})"})
    EXPECT_TRUE(refused(pattern) || std::string(pattern) == "a**?") << pattern;
  for (const char* pattern : {"", "a|", "(?:)", "\\p{Lu}\\P{L}\\pN\\p{^M}", "[]a]", "[^]]", "a{,3}{2}", "x{",
                              "(?i)ab|C", "[[:alpha:][0-9]&&[^5]]"})
    EXPECT_FALSE(refused(pattern)) << pattern;
}

// Tables are untrusted: whatever a bit is changed to, nothing is read out of range, and calls end.
TEST(ByteBpe, DamagedTablesAreHarmless) {
  std::mt19937 rng(31);
  const VocabSource source = with_added();
  const VocabData good = build_vocab(source);
  std::string text;
  for (const Answers& c : read_answers("bpe_added.jsonl")) text += c.bytes;
  int opened = 0, encoded = 0;
  for (int round = 0; round < 600; ++round) {
    VocabData d = good;
    std::vector<uint8_t>& table = round % 3 == 0 ? d.pre_tokenizer : round % 3 == 1 ? d.merges : d.index;
    for (uint32_t n = 1 + rng() % 20; n > 0; --n) {
      // Half of the changes go where programs and headers stand.
      const size_t at =
          rng() % 2 ? rng() % table.size() : table.size() - 1 - rng() % std::min<size_t>(table.size(), 2000);
      table[at] = uint8_t(rng() % 3 ? rng() : 0xFF);
    }
    for (int32_t& id : d.added)
      if (round % 7 == 0) id = int32_t(rng());
    Vocab vocab;
    if (!vocab_open(tables_of(source, d), &vocab).is_ok()) continue;
    ++opened;
    const Tokenizer t(vocab);
    EncodeScratch scratch;
    EncodeOptions options;
    options.special = round % 2;
    Vec<int32_t> ids;
    if (!t.encode(text.data(), text.size(), options, &scratch, &ids).is_ok()) continue;
    ++encoded;
    for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < vocab.count);
  }
  EXPECT_GT(opened, 300);
  EXPECT_GT(encoded, 100);
}

TEST(ByteBpe, LongTextsAndLongWordsTakeSeconds) {
  const Json root = golden();
  std::string words;
  while (words.size() < (1u << 18)) words += "the State never GROWS ";
  std::string cjk;
  while (cjk.size() < (1u << 18)) cjk += "\u5c0f\u6a21\u578b";
  for (const char* name : {"gpt2", "o200k", "llama3"}) {
    const Loaded v(variant(root, name));
    for (const std::string& text :
         {words, std::string(1 << 18, 'e'), std::string(1 << 18, 'E'), std::string(1 << 18, ' '),
          std::string(1 << 18, '\n'), std::string(1 << 18, '\''), cjk}) {
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_GT(encode(v.tokenizer, text).size(), 1000u);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20))
          << name;  // sanitizers included; quadratic would be hours
    }
  }
}

// A pattern whose ways to fail double with every character ends with an error, not with the day.
TEST(Regex, WorkIsBounded) {
  VocabSource s = variant(golden(), "gpt2");
  s.pre_tokenizer[0].text = "(?:a|a|aa)+b|.";
  const Loaded v(s);
  const std::string text(2000, 'a');
  EncodeScratch scratch;
  Vec<int32_t> ids;
  const Status status = v.tokenizer.encode(text.data(), text.size(), {}, &scratch, &ids);
  EXPECT_EQ(status.code(), Code::kInvalidModel);
  EXPECT_NE(std::string(status.message()).find("steps"), std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
