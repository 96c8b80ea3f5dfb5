// The session's promises: chunking, rollback, snapshots, saved states and failures, on a model made of attention
// layers.
#include "session/session.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "backend.h"
#include "unit/model_builder.h"

namespace runnel::test {
namespace {

constexpr int kWidth = 48;

std::vector<float> random_rows(int64_t rows, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> v(size_t(rows) * kWidth);
  for (float& x : v) x = float(int(rng() % 2001) - 1000) / 500.0f;
  return v;
}

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(uint32_t window = 20) : bytes_(attention_model(3, window).build()) {
    auto m = Model::open_memory(bytes_.data(), bytes_.size());
    EXPECT_TRUE(m.is_ok()) << m.take_status().message();
    model_ = std::move(m.value());
    // Passes of one token by two threads, all others by three.
    pool_ = thread_pool_create(3);
    thread_pool_set_part(pool_, 2);
  }
  ~SessionTest() override { thread_pool_destroy(pool_); }
  std::unique_ptr<Session> make(int64_t context = 512, int64_t chunk = 16, int64_t rollback = 64,
                                DType kv = DType::kNone) {
    PlanOptions o = test::plan_options();
    o.context = context;
    o.chunk = chunk;
    o.rollback = rollback;
    o.rows = 4;
    o.kv = kv;
    auto s = Session::create(*model_, pool_, o, nullptr, nullptr);
    if (!s.is_ok()) return ADD_FAILURE() << s.take_status().message(), nullptr;
    return std::move(s.value());
  }
  // Feeds rows [begin, end) of x and returns the outputs of every token.
  static std::vector<float> feed(Session& s, const std::vector<float>& x, int64_t begin, int64_t end) {
    std::vector<float> out(size_t(end - begin) * kWidth, NAN);
    const Status status = feed_into(s, x, begin, end, &out);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return out;
  }
  static Status feed_into(Session& s, const std::vector<float>& x, int64_t begin, int64_t end,
                          std::vector<float>* out) {
    IoTensor in{"x",
                DType::kF32,
                2,
                {end - begin, kWidth},
                const_cast<float*>(x.data()) + begin * kWidth,
                size_t(end - begin) * kWidth * 4};
    Session::RunOptions o;
    o.rows_all = true;
    o.sink_context = out;
    o.sink = [](void* context, uint32_t, const TensorView& block, int64_t first_row) -> Status {
      auto& v = *static_cast<std::vector<float>*>(context);
      std::memcpy(v.data() + first_row * kWidth, block.data, view_bytes(block));
      return Status::ok();
    };
    return s.run(&in, 1, o);
  }

  AlignedBytes bytes_;
  std::unique_ptr<Model> model_;
  ThreadPool* pool_;
};

TEST_F(SessionTest, ChunksDoNotChangeTheBits) {
  const auto x = random_rows(150, 1);
  const auto whole = feed(*make(512, 256), x, 0, 150);
  for (float v : whole) ASSERT_TRUE(std::isfinite(v));
  for (int64_t chunk : {1, 7, 16, 64}) {
    auto s = make(512, chunk);
    EXPECT_EQ(feed(*s, x, 0, 150), whole) << chunk;
    EXPECT_EQ(s->position(), 150);
  }
}

TEST_F(SessionTest, RowsDefaultToTheLastTokenAndMayBePicked) {
  const auto x = random_rows(40, 2);
  const auto all = feed(*make(), x, 0, 40);
  auto s = make();
  std::vector<float> last(kWidth), picked(3 * kWidth);
  IoTensor in[2] = {{"x", DType::kF32, 2, {40, kWidth}, const_cast<float*>(x.data()), x.size() * 4}, {}};
  IoTensor out{"logits", DType::kF32, 0, {}, last.data(), last.size() * 4};
  ASSERT_TRUE(s->run_into(nullptr, in, 1, &out, 1).is_ok());
  EXPECT_EQ(out.dims[0], 1);
  EXPECT_EQ(last, std::vector<float>(all.end() - kWidth, all.end()));

  s->reset();
  int64_t rows[3] = {0, 17, 39};
  in[1] = {"rows", DType::kI64, 1, {3}, rows, sizeof rows};
  out = {"logits", DType::kF32, 0, {}, picked.data(), picked.size() * 4};
  ASSERT_TRUE(s->run_into(nullptr, in, 2, &out, 1).is_ok());
  for (int r = 0; r < 3; ++r)
    EXPECT_EQ(0, std::memcmp(picked.data() + r * kWidth, all.data() + rows[r] * kWidth, kWidth * 4));

  s->reset();
  in[1].dims[0] = 0;
  ASSERT_TRUE(s->run_into(nullptr, in, 2, nullptr, 0).is_ok());
  EXPECT_EQ(s->position(), 40);
  int64_t falling[2] = {5, 4};
  in[1] = {"rows", DType::kI64, 1, {2}, falling, sizeof falling};
  EXPECT_EQ(s->run_into(nullptr, in, 2, &out, 1).code(), Code::kInvalidArgument);
}

// Positions as floats and the session's context, once from the stream and once given.
TEST(Session, FillsInContextAndPositionsAsFloats) {
  test::ModelBuilder b;
  b.add_input("x", {"T", "1"});
  b.add_input("rows", {"R"}, format::DType::i32, format::Role::rows);
  b.add_input("at", {"T"}, format::DType::f32, format::Role::positions);
  b.add_input("context", {"1"}, format::DType::f32, format::Role::context);
  b.add_value("sum", {"T"});
  b.add_value("column", {"T", "1"});
  b.add_value("all", {"T", "1"});
  b.add_value("logits", {"R", "1"});
  b.add_op("binary", {"at", "context"}, {"sum"}).attrs.Set(format::BinaryAttrsT{});
  b.add_op("reshape", {"sum"}, {"column"});
  b.add_op("binary", {"x", "column"}, {"all"}).attrs.Set(format::BinaryAttrsT{});
  b.add_op("gather_rows", {"all", "rows"}, {"logits"});
  b.program().outputs = {"logits"};
  AlignedBytes bytes(b.build());
  auto model = Model::open_memory(bytes.data(), bytes.size());
  ASSERT_TRUE(model.is_ok()) << model.take_status().message();
  PlanOptions options = test::plan_options();
  options.context = 1000;
  options.chunk = 4;
  auto session = Session::create(*model.value(), nullptr, options, nullptr, nullptr);
  ASSERT_TRUE(session.is_ok()) << session.take_status().message();
  std::vector<float> x(6), y(6);
  const std::vector<float> at = {9, 8, 7, 6, 5, 4};
  int64_t rows[6] = {0, 1, 2, 3, 4, 5};
  IoTensor in[3] = {{"x", DType::kF32, 2, {6, 1}, x.data(), 24},
                    {"rows", DType::kI64, 1, {6}, rows, sizeof rows},
                    {"at", DType::kF32, 1, {6}, const_cast<float*>(at.data()), 24}};
  IoTensor out{"logits", DType::kF32, 0, {}, y.data(), 24};
  ASSERT_TRUE(session.value()->run_into(nullptr, in, 2, &out, 1).is_ok());
  EXPECT_EQ(y, (std::vector<float>{1000, 1001, 1002, 1003, 1004, 1005}));
  ASSERT_TRUE(session.value()->run_into(nullptr, in, 2, &out, 1).is_ok());
  EXPECT_EQ(y[0], 1006);
  ASSERT_TRUE(session.value()->run_into(nullptr, in, 3, &out, 1).is_ok());
  EXPECT_EQ(y, (std::vector<float>{1009, 1008, 1007, 1006, 1005, 1004}));
}

TEST(Plan, RowsThatAreNotBoundedByRowsAreRefused) {
  test::ModelBuilder b = test::attention_model(1, 0);
  b.add_input("own", {"1"}, format::DType::i32, format::Role::rows);
  std::rotate(b.program().inputs.begin(), b.program().inputs.end() - 1,
              b.program().inputs.end());  // found first, and filled by the session
  AlignedBytes bytes(b.build());
  auto model = Model::open_memory(bytes.data(), bytes.size());
  ASSERT_TRUE(model.is_ok()) << model.take_status().message();
  auto plan = make_plan(*model.value(), test::plan_options());
  ASSERT_FALSE(plan.is_ok());
  EXPECT_NE(std::strstr(plan.take_status().message(), "axis of rows"), nullptr);
}

TEST_F(SessionTest, RollbackIsBitForBit) {
  const auto x = random_rows(400, 3);
  for (int64_t chunk : {1, 16}) {
    auto s = make(512, chunk);
    for (int64_t n = 1; n <= 64; n += 3) {
      s->reset();
      const int64_t fed = 90 + n * 2;
      feed(*s, x, 0, fed);
      ASSERT_TRUE(s->rollback(n).is_ok());
      EXPECT_EQ(s->position(), fed - n);
      auto fresh = make(512, chunk);
      feed(*fresh, x, 0, fed - n);
      EXPECT_EQ(feed(*s, x, 200, 240), feed(*fresh, x, 200, 240)) << "n " << n << ", chunk " << chunk;
    }
  }
}

TEST_F(SessionTest, ThousandRandomRollbacks) {
  const auto x = random_rows(4096, 4);
  auto s = make(4096, 16);
  std::vector<int64_t> stream;  // which row of x each position holds
  std::mt19937 rng(5);
  int64_t next = 0;
  for (int round = 0; round < 1000; ++round) {
    const int64_t n = 1 + int64_t(rng() % 24);
    if (s->position() + n > 300) s->reset(), stream.clear();
    next = int64_t(rng() % 4000);
    feed(*s, x, next, next + n);
    for (int64_t i = 0; i < n; ++i) stream.push_back(next + i);
    const int64_t back = int64_t(rng() % uint32_t(std::min<int64_t>(64, s->position()) + 1));
    const Status st = s->rollback(back);
    ASSERT_TRUE(st.is_ok()) << st.message();
    stream.resize(stream.size() - size_t(back));
    if (round % 50) continue;
    std::vector<float> again;
    for (int64_t row : stream) again.insert(again.end(), x.begin() + row * kWidth, x.begin() + (row + 1) * kWidth);
    auto fresh = make(4096, 16);
    if (!stream.empty()) feed(*fresh, again, 0, int64_t(stream.size()));
    auto a = s->fork();
    ASSERT_TRUE(a.is_ok());
    ASSERT_EQ(feed(*a.value(), x, 10, 30), feed(*fresh, x, 10, 30)) << round;
  }
}

TEST_F(SessionTest, RollbackBeyondTheWindowNamesIt) {
  const auto x = random_rows(200, 6);
  auto s = make(512, 16, 32);
  feed(*s, x, 0, 200);
  const Status st = s->rollback(33);
  EXPECT_EQ(st.code(), Code::kRollbackRange);
  EXPECT_NE(std::string(st.message()).find("rollback_window is 32"), std::string::npos) << st.message();
  EXPECT_EQ(s->position(), 200);
  EXPECT_EQ(s->rollback(-1).code(), Code::kInvalidArgument);
  auto fresh = make();
  EXPECT_EQ(fresh->rollback(1).code(), Code::kRollbackRange);
}

TEST_F(SessionTest, SnapshotForkSaveAndRestore) {
  const auto x = random_rows(300, 7);
  for (DType kv : {DType::kF32, DType::kF16, DType::kQ8}) {
    auto s = make(512, 16, 64, kv);
    feed(*s, x, 0, 130);
    std::vector<unsigned char> copy(s->snapshot_bytes());
    ASSERT_TRUE(s->snapshot(copy.data(), copy.size()).is_ok());
    auto forked = s->fork();
    ASSERT_TRUE(forked.is_ok());
    const std::string path = ::testing::TempDir() + "/runnel_state_" + std::to_string(::getpid());
    ASSERT_TRUE(s->save(path.c_str()).is_ok());
    const auto want = feed(*s, x, 130, 170);
    EXPECT_EQ(feed(*forked.value(), x, 130, 170), want);
    auto other = make(512, 16, 64, kv);
    feed(*other, x, 200, 290);
    ASSERT_TRUE(other->restore(copy.data(), copy.size()).is_ok());
    EXPECT_EQ(feed(*other, x, 130, 170), want);
    auto loaded = make(512, 16, 64, kv);
    const Status st = loaded->load(path.c_str());
    ASSERT_TRUE(st.is_ok()) << st.message();
    EXPECT_EQ(loaded->position(), 130);
    EXPECT_EQ(feed(*loaded, x, 130, 170), want);
    ::unlink(path.c_str());
  }
}

TEST_F(SessionTest, ForeignAndDamagedStatesAreRefused) {
  const auto x = random_rows(100, 8);
  auto s = make();
  feed(*s, x, 0, 100);
  std::vector<unsigned char> copy(s->snapshot_bytes());
  ASSERT_TRUE(s->snapshot(copy.data(), copy.size()).is_ok());
  for (size_t at :
       {size_t(0), size_t(9), size_t(17), size_t(25), size_t(33), size_t(41), copy.size() / 2, copy.size() - 1}) {
    auto broken = copy;
    broken[at] ^= 0x40;
    auto target = make();
    EXPECT_EQ(target->restore(broken.data(), broken.size()).code(), Code::kStateMismatch) << at;
    EXPECT_EQ(target->position(), 0);
  }
  for (size_t size : {size_t(0), size_t(7), copy.size() / 2, copy.size() - 1})
    EXPECT_EQ(make()->restore(copy.data(), size).code(), Code::kStateMismatch);
  EXPECT_EQ(make(512, 16, 64, DType::kF16)->restore(copy.data(), copy.size()).code(), Code::kStateMismatch);
  EXPECT_EQ(make(64)->restore(copy.data(), copy.size()).code(), Code::kStateMismatch);  // too short for what the stream
                                                                                        // holds
  EXPECT_EQ(s->load("/nonexistent/state").code(), Code::kNotFound);
  EXPECT_EQ(s->save("/nonexistent/state").code(), Code::kIo);
}

TEST_F(SessionTest, FullContextIsAStatus) {
  const auto x = random_rows(200, 9);
  auto s = make(100, 16);
  feed(*s, x, 0, 90);
  std::vector<float> out(20 * kWidth);
  const Status st = feed_into(*s, x, 90, 101, &out);
  EXPECT_EQ(st.code(), Code::kContextFull);
  EXPECT_EQ(s->position(), 90);
  feed(*s, x, 90, 100);
  EXPECT_EQ(s->position(), 100);
}

TEST_F(SessionTest, NonFiniteInputTakesTheCallBack) {
  auto x = random_rows(64, 10);
  auto s = make();
  feed(*s, x, 0, 30);
  auto fresh = s->fork();
  ASSERT_TRUE(fresh.is_ok());
  auto bad = x;
  bad[size_t(45) * kWidth + 3] = NAN;
  std::vector<float> out(40 * kWidth);
  const Status st = feed_into(*s, bad, 30, 60, &out);
  EXPECT_EQ(st.code(), Code::kNonFinite) << st.message();
  EXPECT_EQ(s->position(), 30);
  EXPECT_EQ(feed(*s, x, 30, 60), feed(*fresh.value(), x, 30, 60));
}

TEST_F(SessionTest, CancelKeepsWholePasses) {
  const auto x = random_rows(200, 11);
  auto s = make(512, 16);
  s->set_progress([](void*, int64_t done, int64_t) { return done < 48; }, nullptr);
  std::vector<float> out(200 * kWidth);
  EXPECT_EQ(feed_into(*s, x, 0, 200, &out).code(), Code::kCancelled);
  EXPECT_EQ(s->position(), 48);
  s->set_progress(nullptr, nullptr);
  auto fresh = make(512, 16);
  feed(*fresh, x, 0, 48);
  EXPECT_EQ(feed(*s, x, 48, 90), feed(*fresh, x, 48, 90));
}

TEST_F(SessionTest, CancelFromAnotherThread) {
  const auto x = random_rows(4000, 12);
  auto s = make(4096, 4);
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    while (!done.load()) {
      s->cancel();
      (void)s->stats();
      std::this_thread::yield();
    }
  });
  std::vector<float> out(size_t(4000) * kWidth);
  const Status st = feed_into(*s, x, 0, 4000, &out);
  done.store(true);
  canceller.join();
  EXPECT_EQ(st.code(), Code::kCancelled);
  EXPECT_LT(s->position(), 4000);
}

TEST_F(SessionTest, WrongInputsAreNamed) {
  auto s = make();
  float data[kWidth * 2] = {};
  auto message = [&](IoTensor t) {
    const Status st = s->run_into(nullptr, &t, 1, nullptr, 0);
    EXPECT_EQ(st.code(), Code::kInvalidArgument);
    return std::string(st.message());
  };
  EXPECT_NE(message({"y", DType::kF32, 2, {2, kWidth}, data, sizeof data}).find("\"y\""), std::string::npos);
  EXPECT_NE(message({"x", DType::kF16, 2, {2, kWidth}, data, sizeof data}).find("f16"), std::string::npos);
  EXPECT_NE(message({"x", DType::kF32, 1, {2}, data, sizeof data}).find("1 axes"), std::string::npos);
  EXPECT_NE(message({"x", DType::kF32, 2, {2, 47}, data, sizeof data}).find("47"), std::string::npos);
  EXPECT_NE(message({"x", DType::kF32, 2, {4, kWidth}, data, sizeof data}).find("bytes"), std::string::npos);
  EXPECT_NE(message({"x", DType::kF32, 2, {0, kWidth}, data, sizeof data}).find("no tokens"), std::string::npos);
  EXPECT_EQ(s->run_into("other", nullptr, 0, nullptr, 0).code(), Code::kNotFound);
  EXPECT_EQ(s->position(), 0);
}

TEST_F(SessionTest, PlansAreExactAndBudgetsHold) {
  PlanOptions o = test::plan_options();
  o.context = 512;
  o.chunk = 16;
  auto plan = make_plan(*model_, o);
  ASSERT_TRUE(plan.is_ok());
  std::vector<unsigned char> state(Session::state_block_bytes(plan.value()) + 256),
      arena(plan.value().arena_bytes + 256);
  auto align = [](std::vector<unsigned char>& v) {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(v.data()) + 255) & ~uintptr_t(255));
  };
  auto s = Session::create(*model_, nullptr, o, align(state), align(arena));
  ASSERT_TRUE(s.is_ok()) << s.take_status().message();
  const auto x = random_rows(50, 13);
  EXPECT_EQ(feed(*s.value(), x, 0, 50), feed(*make(), x, 0, 50));
  o.budget_bytes = 1000;
  auto small = make_plan(*model_, o);
  ASSERT_FALSE(small.is_ok());
  const Status st = small.take_status();
  EXPECT_EQ(st.code(), Code::kBudgetExceeded);
  EXPECT_NE(std::string(st.message()).find(std::to_string(plan.value().memory.state + plan.value().memory.arena)),
            std::string::npos)
      << st.message();
}

}  // namespace
}  // namespace runnel::test
