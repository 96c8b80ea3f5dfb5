// What threads share through runnel.h: an engine, a model and its grammars, each thread with sessions of its own. Runs
// under the thread sanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "runnel/runnel.hpp"
#include "text/vocab.h"
#include "unit/model_builder.h"

namespace {

using runnel::test::AlignedBytes;
using runnel::test::ModelBuilder;

constexpr char kCharacters[] = "[],abcdefghijklmnopqrstuvwxyz0123456789 .:;?!-+";  // the pieces, and one that ends
constexpr int32_t kPieces = int32_t(sizeof kCharacters);
constexpr int32_t kEnd = kPieces - 1;

template <class T>
void add_table(ModelBuilder& b, const std::string& name, runnel::format::DType dtype, const std::vector<T>& values) {
  b.add_tensor("tokenizer." + name, {values.size()}, std::vector<float>((values.size() * sizeof(T) + 3) / 4));
  runnel::format::TensorT& t = *b.root.tensors.back();
  t.dtype = dtype;
  t.bytes = values.size() * sizeof(T);
  std::memcpy(b.weights.data() + t.offset, values.data(), t.bytes);
}

// Longest match over single characters. The index tells nothing: these tests have no text to encode.
void add_tokenizer(ModelBuilder& b) {
  std::vector<uint8_t> pieces(kCharacters, kCharacters + kEnd), types(kPieces, uint8_t(runnel::PieceType::kNormal));
  for (const char c : {'<', '/', '>'}) pieces.push_back(uint8_t(c));
  types[kEnd] = uint8_t(runnel::PieceType::kControl);
  std::vector<int32_t> offsets;
  for (int32_t i = 0; i < kPieces; ++i) offsets.push_back(i);
  offsets.push_back(int32_t(pieces.size()));
  runnel::VocabIndexHeader header{};
  header.magic = runnel::kVocabIndexMagic, header.piece_count = kPieces, header.slot_count = 1, header.id_bits = 8,
  header.node_count = 1, header.max_piece_bytes = 3;
  std::fill(std::begin(header.byte_ids), std::end(header.byte_ids), -1);
  const uint32_t slot = UINT32_MAX;
  const runnel::TrieNode node{1, 0, 0, 0, -1};
  std::vector<uint8_t> index(sizeof header + sizeof slot + sizeof node);
  std::memcpy(index.data(), &header, sizeof header);
  std::memcpy(index.data() + sizeof header, &slot, sizeof slot);
  std::memcpy(index.data() + sizeof header + sizeof slot, &node, sizeof node);
  using D = runnel::format::DType;
  add_table(b, "pieces", D::u8, pieces);
  add_table(b, "piece_offsets", D::i32, offsets);
  add_table(b, "scores", D::f32, std::vector<float>(kPieces));
  add_table(b, "types", D::u8, types);
  add_table(b, "index", D::u8, index);
  b.root.tokenizer = std::make_unique<runnel::format::TokenizerT>();
  runnel::format::TokenizerT& t = *b.root.tokenizer;
  t.kind = runnel::format::TokenizerKind(int(runnel::TokenizerKind::kLongestMatch));
  t.pieces = "tokenizer.pieces", t.piece_offsets = "tokenizer.piece_offsets", t.scores = "tokenizer.scores",
  t.types = "tokenizer.types", t.index = "tokenizer.index";
  t.eos = kEnd;
}

// Two layers of attention over the rows of a table, and their result as logits.
std::vector<unsigned char> language_model() {
  ModelBuilder b = runnel::test::attention_model(2, 20);
  static_assert(kPieces == 48);  // the width of that model
  b.program().inputs[0] = ModelBuilder::value("ids", {"T"}, runnel::format::DType::i32, runnel::format::Role::tokens);
  b.add_value("x", {"T", "48"});
  std::vector<float> table;
  for (uint32_t i = 0, r = 1; i < 48 * 48; ++i)
    table.push_back(float(int32_t(r = r * 1664525u + 1013904223u) >> 8) / 4e6f);
  b.add_tensor("table", {48, 48}, table);
  b.add_op("embedding", {"ids", "table"}, {"x"}).attrs.Set(runnel::format::EmbeddingAttrsT{});
  auto& ops = b.program().ops;
  std::rotate(ops.begin(), ops.end() - 1, ops.end());
  add_tokenizer(b);
  return b.build();
}

constexpr char kList[] = "root ::= \"[\" word (\",\" word)* \"]\"\nword ::= [a-z]+ | [0-9]{1,3}";

class Threads : public ::testing::Test {
 protected:
  Threads() : bytes_(language_model()) {
    const rnl_engine_options o{sizeof o, 2};
    EXPECT_EQ(rnl_engine_create(&o, &engine_), RNL_OK) << rnl_last_error();
    EXPECT_EQ(rnl_model_open_memory(engine_, bytes_.data(), bytes_.size(), &model_), RNL_OK) << rnl_last_error();
    EXPECT_EQ(rnl_grammar_create(model_, kList, sizeof kList - 1, &list_), RNL_OK) << rnl_last_error();
  }
  ~Threads() override {
    rnl_grammar_destroy(list_);
    rnl_model_close(model_);
    rnl_engine_destroy(engine_);
  }
  rnl_session* make() const {
    rnl_session_options o = rnl::session_options();
    o.context = 256, o.chunk = 8;
    rnl_session* s = nullptr;
    EXPECT_EQ(rnl_session_create(model_, &o, &s), RNL_OK) << rnl_last_error();
    return s;
  }
  // An answer of at most 80 tokens; a session without a position begins with a few ids.
  static std::string answer(rnl_session* s, const rnl_grammar* grammar, uint64_t seed,
                            rnl_status_code* code = nullptr) {
    rnl_generate_options g{};
    g.struct_size = sizeof g, g.sampling.struct_size = sizeof g.sampling;
    g.max_tokens = 80, g.sampling.temperature = 1, g.sampling.seed = seed, g.grammar = grammar;
    const int32_t ids[] = {3, 4, 5, int32_t(seed % 40)};
    std::string text;
    const rnl_status_code got = rnl_session_generate(
        s, ids, 4, &g,
        [](void* user, int32_t, const char* t, size_t n) {
          static_cast<std::string*>(user)->append(t, n);
          return 0;
        },
        &text, nullptr);
    if (code) *code = got;
    else EXPECT_EQ(got, RNL_OK) << rnl_last_error();
    return text;
  }
  template <class Fn>
  static void at_once(int count, Fn fn) {
    std::vector<std::thread> all;
    for (int i = 0; i < count; ++i) all.emplace_back([&fn, i] { fn(i); });
    for (std::thread& t : all) t.join();
  }

  AlignedBytes bytes_;
  rnl_engine* engine_ = nullptr;
  rnl_model* model_ = nullptr;
  rnl_grammar* list_ = nullptr;
};

TEST_F(Threads, ShareAModelAndItsGrammar) {
  std::string together[4], alone;
  at_once(4, [&](int i) {
    for (uint64_t round = 0; round < 3; ++round) {
      rnl_session* s = make();
      together[i] += answer(s, list_, uint64_t(i) + 10 * round) + "\n";
      rnl_session_destroy(s);
    }
  });
  for (uint64_t i = 0; i < 4; ++i) {
    alone.clear();
    for (uint64_t round = 0; round < 3; ++round) {
      rnl_session* s = make();
      alone += answer(s, list_, i + 10 * round) + "\n";
      rnl_session_destroy(s);
    }
    EXPECT_EQ(together[i], alone);
    EXPECT_EQ(alone[0], '[');
  }
}

TEST_F(Threads, MakeGrammarsOfOneModelAtOnce) {
  rnl_model* model = nullptr;  // with no grammar yet: what its grammars share is made by the first
  ASSERT_EQ(rnl_model_open_memory(engine_, bytes_.data(), bytes_.size(), &model), RNL_OK) << rnl_last_error();
  std::swap(model, model_);
  at_once(4, [&](int i) {
    const std::string text = "root ::= \"" + std::string(1, char('a' + i)) + "\"{3} [0-9]*";
    rnl_grammar* own = nullptr;
    ASSERT_EQ(rnl_grammar_create(model_, text.data(), text.size(), &own), RNL_OK) << rnl_last_error();
    rnl_session* s = make();
    EXPECT_EQ(answer(s, own, uint64_t(i)).substr(0, 3), std::string(3, char('a' + i)));
    rnl_session_destroy(s);
    rnl_grammar_destroy(own);
  });
  std::swap(model, model_);
  rnl_model_close(model);
}

TEST_F(Threads, ForksGoOnApart) {
  rnl_session* first = make();
  answer(first, nullptr, 1);
  rnl_session* forks[4] = {};
  for (rnl_session*& f : forks) ASSERT_EQ(rnl_session_fork(first, &f), RNL_OK) << rnl_last_error();
  rnl_session_destroy(first);
  std::string texts[4];
  at_once(4, [&](int i) {
    texts[i] = answer(forks[i], i % 2 ? list_ : nullptr, 7);
    rnl_session_destroy(forks[i]);
  });
  EXPECT_EQ(texts[0], texts[2]);
  EXPECT_EQ(texts[1], texts[3]);
  EXPECT_EQ(texts[1][0], '[');
}

TEST_F(Threads, CancelAnAnswerUnderAGrammar) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    rnl_session *s = make(), *fresh = make();
    std::atomic<bool> ends{false};
    std::thread other([&] {
      rnl_stats stats{};
      stats.struct_size = sizeof stats;
      while (!ends && stats.position < int64_t(seed) * 2) rnl_session_stats(s, &stats);
      rnl_session_cancel(s);
    });
    rnl_status_code code;
    const std::string text = answer(s, list_, seed, &code);
    ends = true;
    other.join();
    EXPECT_TRUE(code == RNL_OK || code == RNL_CANCELLED) << code;
    EXPECT_EQ(answer(fresh, list_, seed).substr(0, text.size()), text);
    rnl_session_clear_cancel(s);
    rnl_session_reset(s);
    rnl_session_reset(fresh);
    EXPECT_EQ(answer(s, list_, seed), answer(fresh, list_, seed));
    rnl_session_destroy(s);
    rnl_session_destroy(fresh);
  }
}

}  // namespace
