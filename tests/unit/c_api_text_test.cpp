// The C interface where it gives text and embeddings: turns of chats, answers, rows that are pooled.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <thread>

#include "backend.h"
#include "runnel/runnel.hpp"
#include "unit/model_builder.h"

namespace {

using runnel::test::AlignedBytes;
using runnel::test::attention_model;

// Files of the first converter have texts around turns instead of a program.
TEST(CApiChat, WritesTurnsOfOlderFiles) {
  runnel::test::ModelBuilder builder = attention_model(2, 20);
  builder.root.chat = std::make_unique<runnel::format::ChatFormatT>();
  runnel::format::ChatFormatT& f = *builder.root.chat;
  f.user_prefix = "<u>", f.user_suffix = "</u>", f.model_prefix = "<m>", f.model_suffix = "</m>",
  f.system_suffix = "\n", f.system_in_first_user = true;
  AlignedBytes bytes(builder.build());
  rnl_engine* engine = nullptr;
  rnl_model* model = nullptr;
  ASSERT_EQ(rnl_engine_create(nullptr, &engine), RNL_OK);
  ASSERT_EQ(rnl_model_open_memory(engine, bytes.data(), bytes.size(), &model), RNL_OK) << rnl_last_error();
  rnl_chat_message messages[] = {{"system", "S"}, {"user", "A"}, {"assistant", "B"}, {"user", "C"}};
  rnl_chat chat{};
  chat.struct_size = sizeof chat;
  chat.messages = messages;
  chat.message_count = 4;
  size_t size = 0;
  ASSERT_EQ(rnl_chat_text(model, &chat, nullptr, 0, &size), RNL_OK) << rnl_last_error();
  std::string text(size, 0);
  ASSERT_EQ(rnl_chat_text(model, &chat, text.data(), size, &size), RNL_OK);
  EXPECT_EQ(text, "<u>S\nA</u><m>B</m><u>C</u><m>");
  chat.is_closed = 1;
  ASSERT_EQ(rnl_chat_text(model, &chat, nullptr, 0, &size), RNL_OK);
  EXPECT_EQ(size, text.size() - 3);
  EXPECT_EQ(rnl_chat_text(model, &chat, text.data(), 5, &size), RNL_INVALID_ARGUMENT);
  messages[0].role = "tool";
  EXPECT_EQ(rnl_chat_text(model, &chat, nullptr, 0, &size), RNL_UNSUPPORTED);
  EXPECT_NE(std::string(rnl_last_error()).find("\"tool\""), std::string::npos);
  messages[0].role = nullptr;
  EXPECT_EQ(rnl_chat_text(model, &chat, nullptr, 0, &size), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_chat_ids(nullptr, &chat, nullptr, 0, &size), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_chat(nullptr, &chat, nullptr, nullptr, nullptr, nullptr), RNL_INVALID_ARGUMENT);
  rnl_model_close(model);
  rnl_engine_destroy(engine);
}

// Rows of a table as hidden states, of which the model says that their mean counts.
runnel::test::ModelBuilder table_model() {
  runnel::test::ModelBuilder b;
  b.add_input("ids", {"T"}, runnel::format::DType::i32, runnel::format::Role::tokens);
  b.add_input("rows", {"R"}, runnel::format::DType::i32, runnel::format::Role::rows);
  b.add_tensor("table", {3, 2}, {3, 4, 1, 0, 5, 2});
  b.add_value("h", {"T", "2"});
  b.add_value("last_hidden_state", {"R", "2"});
  b.add_op("embedding", {"ids", "table"}, {"h"}).attrs.Set(runnel::format::EmbeddingAttrsT{});
  b.add_op("gather_rows", {"h", "rows"}, {"last_hidden_state"});
  b.program().outputs = {"last_hidden_state"};
  b.root.embedding = std::make_unique<runnel::format::EmbeddingT>();
  b.root.embedding->pooling = runnel::format::Pooling::mean;
  return b;
}

// A language model of two operators: the next token is that of the highest entry in the token's row.
AlignedBytes counting_model() {
  runnel::test::ModelBuilder b;
  b.add_input("ids", {"T"}, runnel::format::DType::i32, runnel::format::Role::tokens);
  b.add_input("rows", {"R"}, runnel::format::DType::i32, runnel::format::Role::rows);
  b.add_tensor("table", {3, 3}, {0, 1, 0, 0, 0, 1, 1, 0, 0});
  b.add_value("h", {"T", "3"});
  b.add_value("logits", {"R", "3"});
  b.add_op("embedding", {"ids", "table"}, {"h"}).attrs.Set(runnel::format::EmbeddingAttrsT{});
  b.add_op("gather_rows", {"h", "rows"}, {"logits"});
  b.program().outputs = {"logits"};
  return AlignedBytes(b.build());
}

TEST(CApiGenerate, ACancelReachesAnAnswerWheneverItComes) {
  AlignedBytes bytes = counting_model();
  rnl_engine* engine = nullptr;
  rnl_model* model = nullptr;
  ASSERT_EQ(rnl_engine_create(nullptr, &engine), RNL_OK);
  ASSERT_EQ(rnl_model_open_memory(engine, bytes.data(), bytes.size(), &model), RNL_OK) << rnl_last_error();
  struct At {
    rnl_session* session = nullptr;
    int operators = 0, cancels_behind = 0;
  } at;
  rnl_session_options o = rnl::session_options();
  o.context = 256;
  ASSERT_EQ(rnl_session_create(model, &o, &at.session), RNL_OK) << rnl_last_error();
  const auto count_operators = [](void* user, const char*, const char*, uint64_t, uint64_t) {
    At& a = *static_cast<At*>(user);
    if (++a.operators == a.cancels_behind) rnl_session_cancel(a.session);
  };
  rnl_session_set_trace(at.session, count_operators, &at);
  rnl_generate_options g{};
  g.struct_size = sizeof g, g.sampling.struct_size = sizeof g.sampling;
  g.max_tokens = 6;
  const auto generate = [&](int cancels_behind) {
    at.operators = 0, at.cancels_behind = cancels_behind;
    const int32_t ids[] = {0, 1};
    return rnl_session_generate(at.session, ids, 2, &g, nullptr, nullptr, nullptr);
  };
  ASSERT_EQ(generate(0), RNL_OK) << rnl_last_error();
  const int all = at.operators;
  ASSERT_GE(all, 12);
  // Also behind the last operator of a token, where nothing of its pass looks any more.
  for (int n = 1; n <= all - 2; ++n) EXPECT_EQ(generate(n), RNL_CANCELLED) << n << " of " << all;
  // One that comes too late is forgotten with its call.
  EXPECT_EQ(generate(all), RNL_OK);
  EXPECT_EQ(generate(0), RNL_OK);
  rnl_session_destroy(at.session);
  rnl_model_close(model);
  rnl_engine_destroy(engine);
}

TEST(CApiEmbed, PoolsRowsAsTheModelOrTheCallerSays) {
  AlignedBytes bytes(table_model().build());
  rnl_engine* engine = nullptr;
  rnl_model* model = nullptr;
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_engine_create(nullptr, &engine), RNL_OK);
  ASSERT_EQ(rnl_model_open_memory(engine, bytes.data(), bytes.size(), &model), RNL_OK) << rnl_last_error();
  rnl_model_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(rnl_model_get_info(model, &info), RNL_OK);
  EXPECT_EQ(info.embedding, 2);
  rnl_session_options o = rnl::session_options();
  o.context = 64;
  o.chunk = 2;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK) << rnl_last_error();

  const int32_t ids[] = {0, 1, 2};
  const auto embed = [&](int32_t pooling, int32_t normalise) {
    rnl_embed_options e{};
    e.struct_size = sizeof e;
    e.pooling = pooling;
    e.normalise = normalise;
    std::vector<float> x(2);
    EXPECT_EQ(rnl_session_embed(session, ids, 3, &e, x.data(), x.size()), RNL_OK) << rnl_last_error();
    EXPECT_EQ(rnl_session_position(session), 3);  // the text alone, also after another one
    return x;
  };
  std::vector<float> x(2);
  ASSERT_EQ(rnl_session_embed(session, ids, 3, nullptr, x.data(), x.size()), RNL_OK) << rnl_last_error();
  EXPECT_EQ(x, (std::vector<float>{3, 2}));
  EXPECT_EQ(embed(RNL_POOLING_OF_MODEL, 0), x);
  EXPECT_EQ(embed(RNL_POOLING_LAST, 0), (std::vector<float>{5, 2}));
  EXPECT_EQ(embed(RNL_POOLING_FIRST, -1), (std::vector<float>{3, 4}));
  EXPECT_EQ(embed(RNL_POOLING_FIRST, 1), (std::vector<float>{0.6f, 0.8f}));

  EXPECT_EQ(rnl_session_embed(session, ids, 0, nullptr, x.data(), x.size()), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_embed(session, nullptr, 3, nullptr, x.data(), x.size()), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_embed(session, ids, 3, nullptr, x.data(), 1), RNL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(rnl_last_error()).find("the embedding has 2"), std::string::npos) << rnl_last_error();
  rnl_embed_options wrong{};
  wrong.struct_size = sizeof wrong;
  wrong.pooling = 9;
  EXPECT_EQ(rnl_session_embed(session, ids, 3, &wrong, x.data(), x.size()), RNL_INVALID_ARGUMENT);
  const int32_t outside[] = {7};
  EXPECT_NE(rnl_session_embed(session, outside, 1, nullptr, x.data(), x.size()), RNL_OK);
  EXPECT_NE(std::string(rnl_last_error()).find("7"), std::string::npos) << rnl_last_error();
  EXPECT_EQ(embed(RNL_POOLING_LAST, 0), (std::vector<float>{5, 2}));  // after failures as before
  rnl_session_destroy(session);
  rnl_model_close(model);
  rnl_engine_destroy(engine);
}

}  // namespace
