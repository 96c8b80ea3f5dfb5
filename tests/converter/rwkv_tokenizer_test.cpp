// RWKV's vocabulary against the rwkv package's tokenizer (tests/goldens/tokenizer_rwkv.py).
#include <random>

#include "converter/text_test.h"
#include "kit.h"
#include "text/chat.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

VocabSource small() { return from_rwkv_vocab(read_golden("rwkv_small.txt")); }

TEST(RwkvTokenizer, GivesTheIdsAndTextsOfThePackage) {
  const Loaded v(small());
  const std::vector<convert::Case> cases = read_cases("rwkv_small.jsonl");
  ASSERT_GT(cases.size(), 250u);
  for (const convert::Case& c : cases) {
    EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids) << c.bytes.substr(0, 100);
    EXPECT_EQ(decode(v.tokenizer, c.ids), c.text) << c.bytes.substr(0, 100);
  }
}

// Every id decoded by itself, the text put together: whole characters only, and the same text in the end.
TEST(RwkvTokenizer, StreamsWholeCharacters) {
  const Loaded v(small());
  char out[kMaxTokenText];
  for (const convert::Case& c : read_cases("rwkv_small.jsonl")) {
    DecodeState state;
    std::string text;
    for (const int32_t id : c.ids) {
      const auto n = v.tokenizer.decode(id, &state, out);
      ASSERT_TRUE(n.is_ok());
      for (size_t i = 0; i < n.value();) {
        const Utf8Step step = utf8_step(reinterpret_cast<const uint8_t*>(out) + i, n.value() - i);
        ASSERT_EQ(step.kind, Utf8::kValid);
        i += step.length;
      }
      text.append(out, n.value());
    }
    text.append(out, v.tokenizer.finish(&state, out));
    EXPECT_EQ(text, c.text);
  }
}

TEST(RwkvTokenizer, TheEndOfDocumentsHasAnIdAndNoText) {
  const Loaded v(small());
  EXPECT_EQ(v.source.eos, 0);
  EXPECT_EQ(decode(v.tokenizer, {0}), "");
  EXPECT_EQ(encode(v.tokenizer, "a<s>b"), (std::vector<int32_t>{'a' + 1, '<' + 1, 's' + 1, '>' + 1, 'b' + 1}));
  EXPECT_EQ(encode(v.tokenizer, "a<s>b", true), (std::vector<int32_t>{'a' + 1, 0, 'b' + 1}));
  // Where a piece of text reads the same, text goes before.
  const int32_t next = int32_t(v.source.pieces.size());
  const Loaded w(from_rwkv_vocab(read_golden("rwkv_small.txt") + std::to_string(next) + " '<s>' 3\n"));
  for (const bool special : {false, true})
    EXPECT_EQ(encode(w.tokenizer, "a<s>b", special), (std::vector<int32_t>{'a' + 1, next, 'b' + 1}));
}

TEST(RwkvTokenizer, PiecesOfAGguf) {
  const VocabSource file = small();
  std::vector<std::string> tokens = {"<s>"};
  std::vector<int32_t> types = {int32_t(PieceType::kControl)};
  for (size_t i = 1; i < file.pieces.size(); ++i) {
    std::string escaped;
    for (const char c : file.pieces[i]) {
      char text[8];
      if (c == '\\') escaped += "\\\\";
      else if (c == '\n') escaped += "\\n";
      else if (uint8_t(c) < 32 || uint8_t(c) > 126)
        std::snprintf(text, sizeof text, "\\x%02x", unsigned(uint8_t(c))), escaped += text;
      else escaped += c;
    }
    tokens.push_back(escaped);
    types.push_back(int32_t(PieceType::kNormal));
  }
  tokens.push_back("[PAD1]");
  types.push_back(int32_t(PieceType::kUnused));
  GgufTokenizer g;
  g.model = "rwkv";
  g.tokens = tokens;
  g.types = types;
  g.chat_template = "rwkv-world";
  const VocabSource s = from_gguf(g);
  EXPECT_EQ(s.pieces.size(), file.pieces.size() + 1);
  EXPECT_TRUE(std::equal(file.pieces.begin(), file.pieces.end(), s.pieces.begin()));
  const Loaded v(s);
  for (const convert::Case& c : read_cases("rwkv_small.jsonl")) EXPECT_EQ(encode(v.tokenizer, c.bytes), c.ids);
  const Chat chat = compile_chat(s);
  ASSERT_TRUE(chat.program);
  EXPECT_TRUE(chat.notices.empty());
  ASSERT_EQ(chat.end_of_turn.size(), 1u);
  EXPECT_EQ(s.pieces[size_t(chat.end_of_turn[0])], "\n\n");
}

TEST(RwkvTokenizer, BrokenFilesAreRefused) {
  const std::pair<const char*, const char*> cases[] = {{"", "empty"},
                                                       {"1 'a'", "not ID LITERAL BYTES"},
                                                       {"x 'a' 1", "lacks a number"},
                                                       {"1 a 1", "without quotes"},
                                                       {"1 'a' 2", "otherwise"},
                                                       {"1 '\\q' 1", "unknown escape"},
                                                       {"1 '\\x4' 1", "broken \\x"},
                                                       {"1 b'\\u1234' 1", "unknown escape"},
                                                       {"1 '' 0", "without text"},
                                                       {"99999999 'a' 1", "more than"}};
  for (const auto& [text, message] : cases) {
    const std::string error = error_of([&, t = text] { build_vocab(from_rwkv_vocab(t)); });
    EXPECT_NE(error.find(message), std::string::npos) << text << ": " << error;
  }
  // Without one of the bytes some text would have no ids.
  std::string text = read_golden("rwkv_small.txt");
  text.erase(0, text.find('\n') + 1);
  EXPECT_NE(error_of([&] { build_vocab(from_rwkv_vocab(text)); }).find("no piece for byte 0"), std::string::npos);
}

TEST(RwkvTokenizer, LiesBesideALoneFile) {
  Checkpoint c = load_safetensors(kGoldens / "tiny_rwkv4/model.safetensors");
  std::vector<PlainTensor> tensors;
  const size_t rows = 900;
  for (const SourceTensor& t : c.tensors()) {
    tensors.push_back({t.name, t.shape, values_of(c, t.name)});
    if (t.name != "emb.weight" && t.name != "head.weight") continue;
    tensors.back().shape[0] = rows;
    tensors.back().values.resize(rows * t.shape[1], 0.01f);
  }
  TemporaryFolder tmp;
  write_file(tmp / "m.safetensors", safetensors_of(tensors));
  write_file(tmp / "rwkv_vocab_v20230424.txt", read_golden("rwkv_small.txt"));
  convert_to(tmp / "m.safetensors", tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  const auto tokenizer = Tokenizer::of_model(*model);
  ASSERT_TRUE(tokenizer.is_ok());
  EXPECT_TRUE(tokenizer_self_check(*model).is_ok());
  EXPECT_EQ(tokenizer.value().vocab().count, int32_t(rows));
  for (const convert::Case& k : read_cases("rwkv_small.jsonl")) EXPECT_EQ(encode(tokenizer.value(), k.bytes), k.ids);
  EXPECT_EQ(decode(tokenizer.value(), {int32_t(rows) - 1}), "");
  Vec<int32_t> first, later;
  ASSERT_TRUE(chat_turn(*model, "Be brief.", "Hi", true, &first).is_ok());
  ASSERT_TRUE(chat_turn(*model, nullptr, "Hi", false, &later).is_ok());
  EXPECT_EQ(decode(tokenizer.value(), {first.begin(), first.end()}), "System: Be brief.\n\nUser: Hi\n\nAssistant:");
  EXPECT_EQ(decode(tokenizer.value(), {later.begin(), later.end()}), "\n\nUser: Hi\n\nAssistant:");
  // A vocabulary that the model has no rows for.
  fs::copy(kGoldens / "tiny_rwkv4/model.safetensors", tmp / "small.safetensors");
  EXPECT_NE(error_of([&] { convert_to(tmp / "small.safetensors", tmp / "n.rnl"); }).find("belongs to another model"),
            std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
