// Wrong content of the files of a tokenizer: whatever stands where something else belongs is refused by name, or it
// changes nothing. Never another id.
#include "converter/text_test.h"
#include "kit.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

constexpr const char* kTexts[] = {"", "a", "ab abc <s>cab<t> ba", "  A <t> b<T>c", "\u00e9 aab\u4e00", "[X] c"};

Json added(const char* content, int id, bool special, bool normalized) {
  return {{"id", id},          {"content", content}, {"special", special},  {"normalized", normalized},
          {"lstrip", special}, {"rstrip", false},    {"single_word", false}};
}

Json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json ends(const char* name, int id) {
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({{{"SpecialToken", {{"id", name}, {"type_id", 0}}}},
                                  {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
          {"pair", Json::array()},
          {"special_tokens", {{name, {{"id", name}, {"ids", Json::array({id})}, {"tokens", Json::array({name})}}}}}};
}

Json bytes_json() {
  Json vocab = Json::object();
  for (const char* p :
       {"<s>", "a", "b", "c", "ab", "abc", "\u0120", "A", "<", ">", "s", "t", "T", "\u00c3", "\u00a9", "\u0120ab"})
    vocab[p] = vocab.size();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"added_tokens", {added("<s>", 0, true, false), added("<t>", 16, false, true)}},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers", {replace("q", "a"), {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}}}}}},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", "A"}}}, {"behavior", "MergedWithNext"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}, {"trim_offsets", true}}}}}},
          {"post_processor", {{"type", "Sequence"}, {"processors", Json::array({ends("<s>", 0)})}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", {Json::array({"a", "b"}), "ab c", Json::array({"\u0120", "ab"})}}}}};
}

Json marks_json(bool normalized) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", unsigned(b));
    vocab[name] = b + 2;
  }
  for (const char* p : {"\u2581", "a", "b", "c", "ab", "abc", "\u2581ab"}) vocab[p] = vocab.size();
  return {
      {"added_tokens",
       {added("<unk>", 0, true, false), added("<s>", 1, true, false), added("<t>", 265, false, normalized)}},
      {"normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "\u2581"}}, replace(" ", "\u2581")}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", ends("<s>", 1)},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {replace("\u2581", " "),
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", Json::array({Json::array({"a", "b"}), Json::array({"ab", "c"}), Json::array({"\u2581", "ab"})})}}}};
}

Json unigram_json() {
  Json vocab = Json::array();
  for (const char* p : {"<unk>", "<s>", "\u2581", "a", "b", "c", "ab", "\u2581a", "A", "<", ">", "t"})
    vocab.push_back({p, -1.5 - 0.25 * double(vocab.size())});
  const Json metaspace = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", true}};
  return {{"added_tokens",
           {added("<unk>", 0, true, false), added("<s>", 1, true, false), added("<t>", 12, false, true)}},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}},
              {{"type", "Prepend"}, {"prepend", " "}}}}}},
          {"pre_tokenizer", metaspace},
          {"post_processor", ends("<s>", 1)},
          {"decoder", metaspace},
          {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"byte_fallback", false}, {"vocab", vocab}}}};
}

Json words_json() {
  Json vocab = Json::object();
  for (const char* p : {"[UNK]", "[X]", "[S]", "a", "##b", "##c", "b", "c", "ab", "A"}) vocab[p] = vocab.size();
  return {{"added_tokens", {added("[X]", 1, true, false), added("<t>", 10, false, true)}},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", false},
            {"handle_chinese_chars", true},
            {"strip_accents", false},
            {"lowercase", false}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"}, {"sep", Json::array({"[S]", 2})}, {"cls", Json::array({"[X]", 1})}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", vocab}}}};
}

std::vector<std::vector<int32_t>> answers(const VocabSource& source) {
  const Loaded v(source);
  std::vector<std::vector<int32_t>> out;
  for (const char* text : kTexts)
    for (const bool special : {false, true})
      out.push_back(encode(v.tokenizer, text, special, EncodeOptions::Add::kModelDefault));
  return out;
}

// Members where null means that there is none.
bool may_be_null(const std::string& path) {
  for (const char* key : {"/unk_token", "/unk_id", "/continuing_subword_prefix", "/end_of_word_suffix", "/dropout",
                          "/strip_accents", "/truncation"})
    if (path.size() > std::strlen(key) && path.compare(path.size() - std::strlen(key), std::string::npos, key) == 0)
      return true;
  return path == "/normalizer" || path == "/pre_tokenizer" || path == "/post_processor" || path == "/decoder";
}

// Calls see(path, changed) with every node of `good` replaced by values of every other type, and numbers by numbers
// that are no ids.
template <class See>
void with_each_node_wrong(const Json& good, See see) {
  const Json wrong[] = {nullptr,
                        true,
                        5,
                        -1,
                        int64_t(1) << 40,
                        UINT64_MAX,
                        1.5,
                        "x",
                        "5",
                        Json::array(),
                        Json::array({1, "a"}),
                        Json::object(),
                        {{"type", 7}}};
  const auto kind = [](const Json& j) {
    return j.is_number_integer() ? 1
           : j.is_number()       ? 2
           : j.is_string()       ? 3
           : j.is_boolean()      ? 4
           : j.is_array()        ? 5
           : j.is_object()       ? 6
                                 : 0;
  };
  const Json flat = good.flatten();
  for (const auto& [path, value] : flat.items()) {
    std::vector<std::string> paths;
    for (size_t at = path.size(); at != std::string::npos && at > 0; at = path.rfind('/', at - 1))
      paths.push_back(path.substr(0, at));
    for (const std::string& p : paths)
      for (const Json& w : wrong) {
        const Json::json_pointer pointer(p);
        const Json& here = good.at(pointer);
        const bool is_id = kind(here) == 1 && kind(w) == 1 && w != 5;
        if (!is_id && (kind(here) == kind(w) || (kind(here) == 2 && kind(w) == 1) || (w.is_null() && may_be_null(p))))
          continue;
        Json changed = good;
        changed[pointer] = w;
        see(p + " is " + w.dump(), changed);
      }
  }
}

class WrongTypes : public testing::TestWithParam<int> {};

TEST_P(WrongTypes, GiveAnErrorOrTheSameIds) {
  Json good = GetParam() == 0   ? bytes_json()
              : GetParam() == 1 ? marks_json(false)
              : GetParam() == 2 ? marks_json(true)
              : GetParam() == 3 ? unigram_json()
                                : words_json();
  ASSERT_EQ(error_of([&] { from_tokenizer_json(good.dump()); }), "");
  const auto want = answers(from_tokenizer_json(good.dump()));
  // Of the bytes' pieces a few stand for all.
  Json few = good;
  if (few["model"]["vocab"].is_object())
    for (auto at = few["model"]["vocab"].begin(); at != few["model"]["vocab"].end();)
      at = at.key().compare(0, 3, "<0x") == 0 && at.key() != "<0x41>" ? few["model"]["vocab"].erase(at) : std::next(at);
  size_t refused = 0, same = 0;
  with_each_node_wrong(few, [&](const std::string& what, Json changed) {
    if (changed.is_object() && changed.contains("model") && changed["model"].is_object() &&
        changed["model"].contains("vocab") && changed["model"]["vocab"].is_object() &&
        !changed["model"]["vocab"].empty())
      for (const auto& [piece, id] : good["model"]["vocab"].items())
        if (!few["model"]["vocab"].contains(piece)) changed["model"]["vocab"][piece] = id;
    std::vector<std::vector<int32_t>> got;
    const std::string error = error_of([&] { got = answers(from_tokenizer_json(changed.dump())); });
    if (!error.empty()) {
      ++refused;
      EXPECT_GT(error.size(), 10u) << what;
      EXPECT_LT(error.size(), 400u) << what;
    } else {
      ++same;
      EXPECT_EQ(got, want) << what;
    }
  });
  EXPECT_GT(refused, 300u);
  EXPECT_LT(same, refused);
}

INSTANTIATE_TEST_SUITE_P(All, WrongTypes, testing::Range(0, 5), [](const auto& info) {
  return std::string(std::array{"bytes", "marks", "marks_normalized", "unigram", "words"}[size_t(info.param)]);
});

TEST(WrongContent, IsNamed) {
  const auto why = [](Json good, auto change) {
    change(good);
    return error_of([&] { answers(from_tokenizer_json(good.dump())); });
  };
  const auto contains = [](const std::string& said, const char* part) {
    EXPECT_NE(said.find(part), std::string::npos) << said;
  };
  contains(why(bytes_json(), [](Json& j) { j["normalizer"] = 5; }),
           "tokenizer.json: \"normalizer\" is 5 where an object belongs");
  contains(why(bytes_json(), [](Json& j) { j["model"]["vocab"]["a"] = "1"; }), "\"a\" has an id out of range");
  contains(why(bytes_json(), [](Json& j) { j["model"]["vocab"]["a"] = -1; }), "\"a\" has an id out of range");
  contains(why(bytes_json(), [](Json& j) { j["model"]["vocab"]["a"] = int64_t(1) << 40; }),
           "\"a\" has an id out of range");
  contains(why(bytes_json(), [](Json& j) { j["model"]["vocab"]["a"] = 2; }), "two pieces have the id 2");
  contains(why(marks_json(false), [](Json& j) { j["model"]["vocab"]["a"] = int64_t(1) << 40; }),
           "the id of the piece \"a\" is 1099511627776");
  contains(why(bytes_json(), [](Json& j) { j["added_tokens"][1]["id"] = "16"; }),
           "the id of the added token \"<t>\" is \"16\"");
  contains(
      why(bytes_json(),
          [](Json& j) { j["post_processor"]["processors"][0]["special_tokens"]["<s>"]["ids"][0] = int64_t(1) << 40; }),
      "the template's token \"<s>\"");
  contains(why(words_json(), [](Json& j) { j["post_processor"]["cls"][1] = int64_t(1) << 32; }),
           "the post-processor's cls");
  contains(why(words_json(), [](Json& j) { j["post_processor"]["cls"][1] = 11; }),
           "the post-processor's cls is 11, the vocabulary has 11 pieces");
  contains(
      error_of([] { from_tokenizer_json(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})"); }),
      "\"a\" occurs twice");
}

TEST(WrongContent, OfAConfig) {
  const Json tokenizer = bytes_json();
  const Json good = {{"add_bos_token", true},
                     {"add_eos_token", false},
                     {"bos_token", "<s>"},
                     {"eos_token", {{"content", "c"}}},
                     {"chat_template", {{{"name", "default"}, {"template", "t"}}}},
                     {"added_tokens_decoder",
                      {{"16",
                        {{"content", "<t>"},
                         {"special", true},
                         {"lstrip", true},
                         {"rstrip", false},
                         {"normalized", false},
                         {"single_word", false}}}}}};
  const auto with = [&](const Json& config) {
    VocabSource s = from_tokenizer_json(tokenizer.dump(), config.dump());
    apply_tokenizer_config(config.dump(), &s);
    return std::pair{answers(s), std::tuple{s.bos, s.eos, s.add_bos, s.add_eos, s.chat_template}};
  };
  const auto want = with(good);
  with_each_node_wrong(good, [&](const std::string& what, const Json& changed) {
    // Null and absent are one there, and these two may be texts as well.
    if (what.size() > 5 && what.compare(what.size() - 5, 5, " null") == 0) return;
    if (what.compare(0, 19, "/chat_template is \"") == 0 || what.compare(0, 15, "/eos_token is \"") == 0) return;
    std::optional<decltype(with(good))> got;
    const std::string error = error_of([&] { got = with(changed); });
    if (error.empty()) EXPECT_EQ(*got, want) << what;
    else EXPECT_EQ(error.compare(0, 9, "tokenizer"), 0) << error;
  });
}

TEST(WrongContent, OfATekken) {
  Json vocab = Json::array();
  for (int b = 0; b < 256; ++b) {
    static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    vocab.push_back({{"rank", b},
                     {"token_bytes", std::string() + kDigits[b >> 2] + kDigits[(b & 3) << 4] + "=="},
                     {"token_str", nullptr}});
  }
  Json special = Json::array();
  for (const char* name : {"<unk>", "<s>", "</s>"})
    special.push_back({{"rank", special.size()}, {"token_str", name}, {"is_control", true}});
  Json good = {{"config",
                {{"pattern", "\\w+"},
                 {"num_vocab_tokens", 256},
                 {"default_vocab_size", 259},
                 {"default_num_special_tokens", 3},
                 {"version", "v3"}}},
               {"special_tokens", special},
               {"vocab", vocab}};
  const auto want = answers(from_tekken(good.dump()));
  Json few = good;
  few["vocab"] = Json::array({vocab[0], vocab[1]});
  with_each_node_wrong(few, [&](const std::string& what, Json changed) {
    for (size_t i = 2;
         changed.is_object() && changed.contains("vocab") && changed["vocab"].is_array() && i < vocab.size(); ++i)
      changed["vocab"].push_back(vocab[i]);
    std::vector<std::vector<int32_t>> got;
    if (error_of([&] { got = answers(from_tekken(changed.dump())); }).empty()) EXPECT_EQ(got, want) << what;
  });
}

// What a GGUF says about its tokens.
TEST(WrongContent, OfAGguf) {
  const auto contains = [](const std::string& said, const char* part) {
    EXPECT_NE(said.find(part), std::string::npos) << said;
  };
  GgufTokenizer g;
  g.model = "bert";
  g.tokens = {"[UNK]", "\u2581a", "b"};
  for (const int32_t type : {0, 7, 200}) {
    g.types = {3, type, 1};
    contains(error_of([&] { from_gguf(g); }), "token 1 has the unknown type");
  }
  g.types = {3, 1, 1};
  EXPECT_EQ(error_of([&] { build_vocab(from_gguf(g)); }), "");
  g.cls = 3;
  contains(error_of([&] { from_gguf(g); }), "cls_token_id is 3");
}

}  // namespace
}  // namespace runnel::convert
