// The C interface from outside: handles, options of older callers, messages, null arguments.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "backend.h"
#include "runnel/runnel.hpp"
#include "unit/model_builder.h"

namespace {

using runnel::test::AlignedBytes;
using runnel::test::attention_model;

class CApi : public ::testing::Test {
 protected:
  CApi() : bytes(attention_model(2, 20).build()) {
    EXPECT_EQ(rnl_engine_create(nullptr, &engine), RNL_OK);
    EXPECT_EQ(rnl_model_open_memory(engine, bytes.data(), bytes.size(), &model), RNL_OK) << rnl_last_error();
  }
  ~CApi() override {
    rnl_model_close(model);
    rnl_engine_destroy(engine);
  }
  AlignedBytes bytes;
  rnl_engine* engine = nullptr;
  rnl_model* model = nullptr;
};

rnl_tensor tensor(const char* name, float* data, int64_t rows) {
  rnl_tensor t{};
  t.name = name;
  t.dtype = RNL_F32;
  t.rank = 2;
  t.dims[0] = rows;
  t.dims[1] = 48;
  t.data = data;
  t.bytes = size_t(rows) * 48 * 4;
  return t;
}

TEST_F(CApi, RunsAProgram) {
  rnl_session_options o = rnl::session_options();
  o.context = 128;
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK) << rnl_last_error();
  std::vector<float> x(3 * 48, 0.25f), y(48);
  x[5] = 1;
  rnl_tensor in = tensor("x", x.data(), 3), out = tensor("logits", y.data(), 1);
  ASSERT_EQ(rnl_session_run(session, nullptr, &in, 1, &out, 1), RNL_OK) << rnl_last_error();
  EXPECT_EQ(out.dims[0], 1);
  EXPECT_EQ(rnl_session_position(session), 3);
  rnl_session* copy = nullptr;
  ASSERT_EQ(rnl_session_fork(session, &copy), RNL_OK);
  ASSERT_EQ(rnl_session_rollback(session, 2), RNL_OK);
  EXPECT_EQ(rnl_session_position(session), 1);
  EXPECT_EQ(rnl_session_position(copy), 3);
  rnl_stats stats{};
  stats.struct_size = sizeof stats;
  rnl_session_stats(session, &stats);
  EXPECT_EQ(stats.tokens, 3u);
  EXPECT_EQ(stats.position, 1);
  rnl_session_destroy(copy);
  rnl_session_destroy(session);
}

// Bytes of this process that no file backs, 0 where the system does not tell.
uint64_t anonymous_bytes() {
  unsigned long kib = 0;
  if (FILE* f = std::fopen("/proc/self/smaps_rollup", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, f) && std::sscanf(line, "Anonymous: %lu kB", &kib) != 1) {
    }
    std::fclose(f);
  }
  return uint64_t(kib) * 1024;
}

TEST_F(CApi, TrimGivesTheArenaBackAndKeepsTheStream) {
  rnl_session_options o = rnl::session_options();
  o.context = 8192, o.chunk = 4096;
  rnl_session *trimmed = nullptr, *other = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &trimmed), RNL_OK) << rnl_last_error();
  ASSERT_EQ(rnl_session_create(model, &o, &other), RNL_OK) << rnl_last_error();
  rnl_memory memory{};
  memory.struct_size = sizeof memory;
  ASSERT_EQ(rnl_session_get_memory(trimmed, &memory), RNL_OK);
  ASSERT_GE(memory.arena, 2u << 20);
  std::vector<float> x(4096 * 48), y(48), z(48);
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(int(i * 7919 % 201) - 100) / 50;
  const auto feed = [&](rnl_session* session, int64_t rows, std::vector<float>& last) {
    rnl_tensor in = tensor("x", x.data(), rows), out = tensor("logits", last.data(), 1);
    ASSERT_EQ(rnl_session_run(session, nullptr, &in, 1, &out, 1), RNL_OK) << rnl_last_error();
  };
  ASSERT_EQ(rnl_session_trim(trimmed), RNL_OK);  // before the first call
  for (const int64_t rows : {4096, 1, 33}) {
    feed(trimmed, rows, y);
    feed(other, rows, z);
    EXPECT_EQ(std::memcmp(y.data(), z.data(), y.size() * sizeof(float)), 0) << rows;
    const uint64_t before = anonymous_bytes();
    ASSERT_EQ(rnl_session_trim(trimmed), RNL_OK);
    if (before && rows == 4096) EXPECT_GE(before, anonymous_bytes() + memory.arena / 2);
  }
  for (rnl_session* session : {trimmed, other}) ASSERT_EQ(rnl_session_rollback(session, 20), RNL_OK);
  ASSERT_EQ(rnl_session_trim(trimmed), RNL_OK);
  EXPECT_EQ(rnl_session_position(trimmed), 4096 + 1 + 33 - 20);
  feed(trimmed, 2, y);
  feed(other, 2, z);
  EXPECT_EQ(std::memcmp(y.data(), z.data(), y.size() * sizeof(float)), 0);
  // Not within a call, whose arena it would take.
  const auto trim_within = [](void* session, const rnl_tensor*, int64_t) {
    EXPECT_EQ(rnl_session_trim(static_cast<rnl_session*>(session)), RNL_INVALID_ARGUMENT);
    return 0;
  };
  rnl_tensor in = tensor("x", x.data(), 2);
  EXPECT_EQ(rnl_session_run_blocks(trimmed, nullptr, &in, 1, 0, trim_within, trimmed), RNL_OK) << rnl_last_error();
  EXPECT_EQ(rnl_session_trim(nullptr), RNL_INVALID_ARGUMENT);
  rnl_session_destroy(trimmed);
  rnl_session_destroy(other);
}

TEST_F(CApi, ObjectsMayBeDestroyedInAnyOrder) {
  rnl_session_options o = rnl::session_options();
  o.context = 128;
  rnl_session *session = nullptr, *copy = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK) << rnl_last_error();
  ASSERT_EQ(rnl_session_fork(session, &copy), RNL_OK);
  rnl_engine_destroy(engine);
  rnl_model_close(model);
  engine = nullptr, model = nullptr;
  std::vector<float> x(3 * 48, 0.25f), y(48);
  rnl_tensor in = tensor("x", x.data(), 3), out = tensor("logits", y.data(), 1);
  EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, &out, 1), RNL_OK) << rnl_last_error();
  rnl_session_destroy(session);
  std::thread other([&] {
    EXPECT_EQ(rnl_session_run(copy, nullptr, &in, 1, &out, 1), RNL_OK) << rnl_last_error();
    rnl_session_destroy(copy);
  });
  other.join();
}

TEST_F(CApi, TellsWhatProgramsTakeAndGive) {
  rnl_program_info program{};
  program.struct_size = sizeof program;
  ASSERT_EQ(rnl_model_program(model, 0, &program), RNL_OK) << rnl_last_error();
  EXPECT_STREQ(program.name, "main");
  EXPECT_STREQ(program.stream, "T");
  EXPECT_EQ(rnl_model_program(model, 1, &program), RNL_NOT_FOUND);
  EXPECT_STREQ(rnl_last_error(), "the model has no program 1, there are 1");
  rnl_value_info value{};
  value.struct_size = sizeof value;
  ASSERT_EQ(rnl_model_program_input(model, nullptr, 0, &value), RNL_OK) << rnl_last_error();
  EXPECT_STREQ(value.name, "x");
  EXPECT_EQ(value.dtype, RNL_F32);
  ASSERT_EQ(value.rank, 2);
  EXPECT_STREQ(value.sizes[0], "T");
  EXPECT_STREQ(value.sizes[1], "48");
  EXPECT_STREQ(value.sizes[2], "");
  EXPECT_EQ(value.optional, 0);
  EXPECT_EQ(rnl_model_program_input(model, "other", 0, &value), RNL_NOT_FOUND);
  EXPECT_EQ(rnl_model_program_input(model, "main", size_t(program.inputs), &value), RNL_NOT_FOUND);
  ASSERT_EQ(rnl_model_program_output(model, "main", 0, &value), RNL_OK) << rnl_last_error();
  EXPECT_STREQ(value.name, "logits");
  EXPECT_EQ(value.role, RNL_ROLE_NONE);
  rnl_symbol_info symbol{};
  symbol.struct_size = sizeof symbol;
  ASSERT_EQ(rnl_model_symbol(model, 0, &symbol), RNL_OK);
  EXPECT_STREQ(symbol.name, "context");
  EXPECT_EQ(symbol.kind, RNL_SYMBOL_OPTION);
  EXPECT_STREQ(symbol.bound, "");
  ASSERT_EQ(rnl_model_symbol(model, 4, &symbol), RNL_OK);
  EXPECT_STREQ(symbol.name, "T");
  EXPECT_STREQ(symbol.bound, "chunk");
  rnl_state_info state{};
  state.struct_size = sizeof state;
  ASSERT_EQ(rnl_model_state(model, 0, &state), RNL_OK) << rnl_last_error();
  EXPECT_EQ(state.kind, RNL_STATE_RING);
  EXPECT_EQ(state.window, 20);
  EXPECT_EQ(rnl_model_state(model, 1000, &state), RNL_NOT_FOUND);
}

TEST_F(CApi, OutputShapesAreThoseOfTheCall) {
  rnl_session_options o = rnl::session_options();
  o.context = 128, o.chunk = 4;
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK) << rnl_last_error();
  std::vector<float> x(9 * 48, 0.25f);
  rnl_tensor in = tensor("x", x.data(), 9), out{};
  out.name = "logits";
  ASSERT_EQ(rnl_session_output_shapes(session, nullptr, &in, 1, 1, &out, 1), RNL_OK) << rnl_last_error();
  EXPECT_EQ(out.dtype, RNL_F32);
  ASSERT_EQ(out.rank, 2);
  EXPECT_EQ(out.dims[0], 9);
  EXPECT_EQ(out.dims[1], 48);
  EXPECT_EQ(out.bytes, size_t(9 * 48 * 4));
  ASSERT_EQ(rnl_session_output_shapes(session, nullptr, &in, 1, 0, &out, 1), RNL_OK) << rnl_last_error();
  EXPECT_EQ(out.dims[0], 1);
  EXPECT_EQ(rnl_session_position(session), 0);
  // The room that it names is enough.
  std::vector<float> y(out.bytes / 4);
  out.data = y.data();
  EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, &out, 1), RNL_OK) << rnl_last_error();
  out.name = "other";
  EXPECT_EQ(rnl_session_output_shapes(session, nullptr, &in, 1, 0, &out, 1), RNL_INVALID_ARGUMENT);
  in.dims[1] = 47;
  out.name = "logits";
  EXPECT_EQ(rnl_session_output_shapes(session, nullptr, &in, 1, 0, &out, 1), RNL_INVALID_ARGUMENT);
  rnl_session_destroy(session);
}

TEST_F(CApi, BlocksOfNamedOutputsAlone) {
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, nullptr, &session), RNL_OK) << rnl_last_error();
  std::vector<float> x(9 * 48, 0.25f);
  const rnl_tensor in = tensor("x", x.data(), 9);
  struct Seen {
    int64_t rows = 0;
    std::string names;
  } seen;
  const auto see = [](void* user, const rnl_tensor* t, int64_t first_row) {
    auto& s = *static_cast<Seen*>(user);
    EXPECT_EQ(first_row, s.rows);
    s.rows += t->dims[0];
    s.names = t->name;
    return 0;
  };
  const char* names[] = {"logits", "other"};
  ASSERT_EQ(rnl_session_run_named_blocks(session, nullptr, &in, 1, names, 1, 1, see, &seen), RNL_OK)
      << rnl_last_error();
  EXPECT_EQ(seen.rows, 9);
  EXPECT_EQ(seen.names, "logits");
  const int64_t position = rnl_session_position(session);
  EXPECT_EQ(rnl_session_run_named_blocks(session, nullptr, &in, 1, names, 2, 1, see, &seen), RNL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(rnl_last_error()).find("no output \"other\""), std::string::npos);
  EXPECT_EQ(rnl_session_run_named_blocks(session, "none", &in, 1, names, 1, 1, see, &seen), RNL_NOT_FOUND);
  EXPECT_EQ(rnl_session_run_named_blocks(session, nullptr, &in, 1, nullptr, 1, 1, see, &seen), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_run_named_blocks(session, nullptr, &in, 1, names, 1, 1, nullptr, &seen), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_position(session), position);
  rnl_session_destroy(session);
}

TEST_F(CApi, TellsTheOptionsOfASavedStream) {
  const std::string path = ::testing::TempDir() + "runnel_saved_options.state";
  rnl_session_options o = rnl::session_options(), read = rnl::session_options();
  o.context = 96, o.chunk = 8, o.rollback_window = -1, o.kv = RNL_F16;
  rnl_session *session = nullptr, *second = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK) << rnl_last_error();
  std::vector<float> x(3 * 48, 0.25f);
  const rnl_tensor in = tensor("x", x.data(), 3);
  ASSERT_EQ(rnl_session_run(session, nullptr, &in, 1, nullptr, 0), RNL_OK) << rnl_last_error();
  ASSERT_EQ(rnl_session_save(session, path.c_str()), RNL_OK) << rnl_last_error();
  int64_t position = -1;
  ASSERT_EQ(rnl_saved_options(path.c_str(), &read, &position), RNL_OK) << rnl_last_error();
  EXPECT_EQ(position, 3);
  EXPECT_EQ(std::memcmp(&read, &o, sizeof o), 0);
  ASSERT_EQ(rnl_session_create(model, &read, &second), RNL_OK) << rnl_last_error();
  EXPECT_EQ(rnl_session_restore(second, path.c_str()), RNL_OK) << rnl_last_error();
  EXPECT_EQ(rnl_saved_options("/nonexistent.state", &read, &position), RNL_NOT_FOUND);
  EXPECT_EQ(rnl_saved_options((std::string(runnel::test::kSourceDir) + "/README.md").c_str(), &read, &position),
            RNL_STATE_MISMATCH);
  read.struct_size = 0;
  EXPECT_EQ(rnl_saved_options(path.c_str(), &read, &position), RNL_INVALID_ARGUMENT);
  rnl_session_destroy(session);
  rnl_session_destroy(second);
  std::remove(path.c_str());
}

TEST_F(CApi, PlansBeforeAllocating) {
  rnl_session_options o = rnl::session_options();
  o.context = 256;
  rnl_memory planned{}, real{};
  planned.struct_size = real.struct_size = sizeof planned;
  ASSERT_EQ(rnl_session_plan(model, &o, &planned), RNL_OK);
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, &o, &session), RNL_OK);
  ASSERT_EQ(rnl_session_get_memory(session, &real), RNL_OK);
  EXPECT_EQ(std::memcmp(&planned, &real, sizeof real), 0);
  EXPECT_GT(planned.state, 0u);
  EXPECT_EQ(planned.anonymous, planned.state + planned.arena + planned.packed + planned.fixed);
  rnl_session_destroy(session);
}

// A file that is mapped can be dropped from memory and read again, one that was copied cannot.
TEST_F(CApi, ACopiedFileIsAnonymous) {
  const std::string path = ::testing::TempDir() + "runnel_copied_" + std::to_string(getpid()) + ".rnl";
  FILE* file = std::fopen(path.c_str(), "wb");
  ASSERT_TRUE(file);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  std::fclose(file);
  uint64_t anonymous[2];
  for (int copy = 0; copy < 2; ++copy) {
    rnl_model_options o{};
    o.struct_size = sizeof o;
    o.copy = copy;
    rnl_model* opened = nullptr;
    ASSERT_EQ(rnl_model_open(engine, path.c_str(), &o, &opened), RNL_OK) << rnl_last_error();
    rnl_memory m{};
    m.struct_size = sizeof m;
    ASSERT_EQ(rnl_session_plan(opened, nullptr, &m), RNL_OK);
    anonymous[copy] = m.anonymous;
    rnl_model_close(opened);
  }
  EXPECT_EQ(anonymous[1], anonymous[0] + bytes.size());
  std::remove(path.c_str());
}

TEST_F(CApi, OlderCallersHaveShorterStructs) {
  struct OldOptions {
    size_t struct_size;
    int64_t context;
  } old{sizeof(OldOptions), 64};
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, reinterpret_cast<const rnl_session_options*>(&old), &session), RNL_OK)
      << rnl_last_error();
  rnl_session_destroy(session);
  struct OldStats {
    size_t struct_size;
    int64_t position;
    unsigned char guard[8];
  } stats{16, 0, {1, 2, 3, 4, 5, 6, 7, 8}};
  ASSERT_EQ(rnl_session_create(model, nullptr, &session), RNL_OK) << rnl_last_error();
  rnl_session_stats(session, reinterpret_cast<rnl_stats*>(&stats));
  EXPECT_EQ(stats.guard[0], 1);
  EXPECT_EQ(stats.struct_size, 16u);
  rnl_session_destroy(session);
}

TEST_F(CApi, MessagesAreKeptByThread) {
  rnl_model* none = nullptr;
  EXPECT_EQ(rnl_model_open(engine, "/nonexistent.rnl", nullptr, &none), RNL_NOT_FOUND);
  const std::string mine = rnl_last_error();
  EXPECT_NE(mine.find("/nonexistent.rnl"), std::string::npos);
  std::thread other([&] { EXPECT_EQ(rnl_model_open(nullptr, "x", nullptr, &none), RNL_INVALID_ARGUMENT); });
  other.join();
  EXPECT_EQ(mine, rnl_last_error());
  EXPECT_EQ(none, nullptr);
}

TEST_F(CApi, NullArgumentsAreStatuses) {
  EXPECT_EQ(rnl_engine_create(nullptr, nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_model_verify(nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_create(nullptr, nullptr, nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_run(nullptr, nullptr, nullptr, 0, nullptr, 0), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_save(nullptr, nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_tokenize(nullptr, "x", 1, 0, nullptr, 0, nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_generate(nullptr, nullptr, 0, nullptr, nullptr, nullptr, nullptr), RNL_INVALID_ARGUMENT);
  rnl_engine_options bad{sizeof bad, 9999};
  rnl_engine* none = nullptr;
  EXPECT_EQ(rnl_engine_create(&bad, &none), RNL_INVALID_ARGUMENT);
  rnl_engine_destroy(nullptr);
  rnl_model_close(nullptr);
  rnl_session_destroy(nullptr);
}

TEST_F(CApi, TextCallsWithoutATokenizerSaySo) {
  size_t count = 0;
  EXPECT_EQ(rnl_tokenize(model, "hello", 5, 0, nullptr, 0, &count), RNL_NOT_FOUND) << rnl_last_error();
  EXPECT_EQ(rnl_chat_turn(model, nullptr, "hello", 1, nullptr, 0, &count), RNL_UNSUPPORTED);
}

TEST_F(CApi, EmbedSaysWhenAModelHasNoHiddenStates) {
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, nullptr, &session), RNL_OK);
  const int32_t id = 0;
  float x[4];
  EXPECT_EQ(rnl_session_embed(session, &id, 1, nullptr, x, 4), RNL_UNSUPPORTED);
  EXPECT_NE(std::string(rnl_last_error()).find("no embeddings"), std::string::npos) << rnl_last_error();
  rnl_session_destroy(session);
}

TEST_F(CApi, StructsWithoutASizeAreRefused) {
  rnl_engine* none = nullptr;
  const rnl_engine_options e{};
  EXPECT_EQ(rnl_engine_create(&e, &none), RNL_INVALID_ARGUMENT);
  rnl_session_options o{};
  o.context = 64;
  rnl_session* session = nullptr;
  EXPECT_EQ(rnl_session_create(model, &o, &session), RNL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(rnl_last_error()).find("struct_size"), std::string::npos) << rnl_last_error();
  rnl_memory memory{};
  EXPECT_EQ(rnl_session_plan(model, nullptr, &memory), RNL_INVALID_ARGUMENT);
  rnl_model_info info{};
  EXPECT_EQ(rnl_model_get_info(model, &info), RNL_INVALID_ARGUMENT);
  // A field that only a later version knows is not passed over.
  struct Later {
    rnl_session_options known;
    int64_t unknown;
  } later{rnl::session_options(), 0};
  later.known.struct_size = sizeof later;
  ASSERT_EQ(rnl_session_create(model, &later.known, &session), RNL_OK) << rnl_last_error();
  rnl_session_destroy(session);
  later.unknown = 1;
  EXPECT_EQ(rnl_session_create(model, &later.known, &session), RNL_UNSUPPORTED);
}

TEST_F(CApi, ValuesOutOfRangeAreNotCutToOnesWithin) {
  const auto refuses = [&](auto change) {
    rnl_session_options o = rnl::session_options();
    change(o);
    rnl_memory memory{};
    memory.struct_size = sizeof memory;
    rnl_session* none = nullptr;
    return rnl_session_plan(model, &o, &memory) == RNL_INVALID_ARGUMENT &&
           rnl_session_create(model, &o, &none) == RNL_INVALID_ARGUMENT;
  };
  EXPECT_TRUE(refuses([](auto& o) { o.backend = 7; }));
  EXPECT_TRUE(refuses([](auto& o) { o.backend = 256; }));
  EXPECT_TRUE(refuses([](auto& o) { o.kv = 257; }));
  EXPECT_TRUE(refuses([](auto& o) { o.rollback_window = -2; }));
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, nullptr, &session), RNL_OK);
  std::vector<float> x(48);
  rnl_tensor in = tensor("x", x.data(), 1);
  for (const int32_t dtype : {260, 257, 0, 8, 9, -1}) {
    in.dtype = dtype;
    EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, nullptr, 0), RNL_INVALID_ARGUMENT) << dtype;
  }
  in = tensor("x", x.data(), 1);
  in.dims[0] = 0, in.dims[1] = int64_t(1) << 50;
  EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, nullptr, 0), RNL_INVALID_ARGUMENT);
  rnl_session_destroy(session);
}

TEST_F(CApi, NullWithACountIsAStatus) {
  rnl_session* session = nullptr;
  ASSERT_EQ(rnl_session_create(model, nullptr, &session), RNL_OK);
  EXPECT_EQ(rnl_session_run(session, nullptr, nullptr, 2, nullptr, 0), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_run(session, nullptr, nullptr, 0, nullptr, 2), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_snapshot(session, nullptr, 100), RNL_INVALID_ARGUMENT);
  std::vector<float> x(48), y(1);
  rnl_tensor in = tensor("x", x.data(), 1), out = tensor("logits", nullptr, 1);
  EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, &out, 1), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_position(session), 0);
  in.data = nullptr;
  EXPECT_EQ(rnl_session_run(session, nullptr, &in, 1, nullptr, 0), RNL_INVALID_ARGUMENT);
  rnl_session_destroy(session);
  EXPECT_EQ(rnl_session_position(nullptr), 0);
  EXPECT_EQ(rnl_session_snapshot_bytes(nullptr), 0u);
  rnl_session_reset(nullptr);
  rnl_session_cancel(nullptr);
  rnl_model* none = nullptr;
  EXPECT_EQ(rnl_model_open_memory(engine, nullptr, 100, &none), RNL_INVALID_ARGUMENT);
}

TEST_F(CApi, TheBudgetCountsAllOfTheStateBlock) {
  rnl_session_options o = rnl::session_options();
  rnl_memory m{};
  m.struct_size = sizeof m;
  ASSERT_EQ(rnl_session_plan(model, &o, &m), RNL_OK);
  o.budget_bytes = m.state + m.arena;
  EXPECT_EQ(rnl_session_plan(model, &o, &m), RNL_OK);
  --o.budget_bytes;
  EXPECT_EQ(rnl_session_plan(model, &o, &m), RNL_BUDGET_EXCEEDED);
  rnl_session* session = nullptr;
  EXPECT_EQ(rnl_session_create(model, &o, &session), RNL_BUDGET_EXCEEDED);
}

TEST_F(CApi, MoreOperatorsThanThereMayBeAreRefused) {
  runnel::test::ModelBuilder b;
  b.add_input("x0", {"T", "4"});
  for (size_t i = 1; i <= runnel::kMaxOps + 1; ++i) {
    b.add_value("x" + std::to_string(i), {"T", "4"});
    b.add_op("unary", {"x" + std::to_string(i - 1)}, {"x" + std::to_string(i)}).attrs.Set([] {
      runnel::format::UnaryAttrsT a;
      a.kind = runnel::format::UnaryKind::tanh;
      return a;
    }());
  }
  b.program().outputs = {"x" + std::to_string(runnel::kMaxOps + 1)};
  AlignedBytes many(b.build());
  rnl_model* none = nullptr;
  EXPECT_EQ(rnl_model_open_memory(engine, many.data(), many.size(), &none), RNL_UNSUPPORTED);
  EXPECT_NE(std::string(rnl_last_error()).find("16385 operators"), std::string::npos) << rnl_last_error();
  b.program().ops.pop_back();
  b.program().values.pop_back();
  b.program().outputs = {"x" + std::to_string(runnel::kMaxOps)};
  AlignedBytes most(b.build());
  rnl_model* large = nullptr;
  ASSERT_EQ(rnl_model_open_memory(engine, most.data(), most.size(), &large), RNL_OK) << rnl_last_error();
  rnl_memory m{};
  m.struct_size = sizeof m;
  EXPECT_EQ(rnl_session_plan(large, nullptr, &m), RNL_OK) << rnl_last_error();
  rnl_model_close(large);
}

TEST(CApiVersion, IsNamed) {
  EXPECT_STRNE(rnl_version(), "");
  EXPECT_STREQ(rnl_format_version(), "1.0");
}

}  // namespace
