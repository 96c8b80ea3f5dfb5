// Calls that fail or are cancelled, and what can be taken back after them: on every kind of state, against a new
// session that was fed the same tokens by the same calls.
#include "converter/kit.h"
#include "base/xxh64.h"

namespace runnel::convert {
namespace {

constexpr int64_t kWindow = 64;
constexpr int32_t kBad = 1000000;

std::vector<int32_t> ids_from(int64_t first, int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = first; i < first + count; ++i) ids.push_back(int32_t(i * 7 % 97 + 1));
  return ids;
}

class Undo : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    convert_to(kGoldens / GetParam(), tmp_ / "m.rnl");
    model_ = open_model(tmp_ / "m.rnl");
  }
  std::unique_ptr<Session> make(int64_t chunk, int64_t window = kWindow) const {
    PlanOptions o = test::plan_options();
    o.context = 2000;
    o.chunk = chunk;
    o.rollback = window;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    return std::move(s.value());
  }
  static std::vector<float> feed(Session& s, const std::vector<int32_t>& ids) {
    std::vector<float> logits;
    const Status status = feed_ids(s, ids, &logits);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return logits;
  }
  // A call whose last token is not in the vocabulary.
  static void fail(Session& s, int64_t count) {
    std::vector<int32_t> ids = ids_from(500, count);
    ids.back() = kBad;
    std::vector<float> logits;
    EXPECT_EQ(feed_ids(s, ids, &logits).code(), Code::kInvalidArgument);
  }
  bool has_rings() const {
    for (const StateInfo& s : model_->states())
      if (s.kind == format::StateKind::ring) return true;
    return false;
  }
  // Takes n tokens back on a copy, and expects what a new session gives that was fed `calls`.
  void expect_back(const Session& s, int64_t n, const std::vector<std::vector<int32_t>>& calls,
                   const std::string& what) {
    auto copy = s.fork();
    ASSERT_TRUE(copy.is_ok());
    const Status back = copy.value()->rollback(n);
    ASSERT_TRUE(back.is_ok()) << what << ", " << n << " back: " << back.message();
    auto fresh = make(s.plan().options.chunk, s.plan().options.rollback);
    int64_t left = s.position() - n;
    for (const auto& call : calls) {
      const int64_t fed = std::min<int64_t>(left, int64_t(call.size()));
      if (fed > 0) feed(*fresh, {call.begin(), call.begin() + fed});
      left -= fed;
    }
    ASSERT_EQ(left, 0);
    EXPECT_EQ(feed(*copy.value(), ids_from(900, 3)), feed(*fresh, ids_from(900, 3))) << what << ", " << n << " back";
  }

  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
};

TEST_P(Undo, ACallbackThatStopsKeepsWholePasses) {
  for (const int64_t chunk : {1, 5, 256}) {
    auto s = make(chunk);
    feed(*s, ids_from(0, 3));
    // At the first output of the call, and at one of its third pass.
    for (const int64_t stop_at : {int64_t(0), 2 * chunk}) {
      const std::vector<int32_t> ids = ids_from(40, 12);
      if (stop_at >= 12) continue;
      const IoTensor in{"ids", DType::kI32, 1, {12}, const_cast<int32_t*>(ids.data()), 48};
      const int64_t before = s->position();
      Session::RunOptions o;
      int64_t at = stop_at;
      o.rows_all = true;
      o.sink_context = &at;
      o.sink = [](void* context, uint32_t, const TensorView&, int64_t row) {
        return row >= *static_cast<int64_t*>(context) ? Status::make(Code::kCancelled, "stopped") : Status::ok();
      };
      EXPECT_EQ(s->run(&in, 1, o).code(), Code::kCancelled);
      EXPECT_EQ(s->position(), before + stop_at);
      auto fresh = make(chunk);
      feed(*fresh, ids_from(0, 3));
      if (before > 3) feed(*fresh, {ids.begin(), ids.begin() + (before - 3)});
      if (stop_at > 0) feed(*fresh, {ids.begin(), ids.begin() + stop_at});
      auto copy = s->fork();
      EXPECT_EQ(feed(*copy.value(), ids_from(7, 2)), feed(*fresh, ids_from(7, 2)))
          << "chunk " << chunk << ", stopped at " << stop_at;
    }
  }
}

TEST_P(Undo, FailedCallsLeaveTheStreamAndItsWindow) {
  for (const int64_t chunk : {16, 256}) {
    std::vector<std::vector<int32_t>> calls;
    auto s = make(chunk);
    for (int64_t i = 0; i < 200; ++i) calls.push_back(ids_from(i, 1)), feed(*s, calls.back());
    for (const int64_t bad : {1, 2, 64, 200, 1, 15}) {
      const int64_t before = s->position();
      fail(*s, bad);
      // What rings alone no longer hold after several passes is told, and the stream has whole passes of the call then.
      if (s->position() != before) {
        EXPECT_GT(bad, chunk);
        EXPECT_EQ((s->position() - before) % chunk, 0);
        const auto fed = ids_from(500, s->position() - before);
        calls.push_back(fed);
      }

      // After several passes a ring may hold less than the window before the start.
      const bool is_short = has_rings() && bad > chunk;
      for (const int64_t n : {int64_t(0), int64_t(1), int64_t(33), kWindow})
        if (!is_short || s->check_rollback(n).is_ok())
          expect_back(*s, n, calls, "chunk " + std::to_string(chunk) + ", a failed call of " + std::to_string(bad));
    }
  }
}

// A call of several passes moves both checkpoints on before it fails; calls behind it write the journal on.
TEST_P(Undo, TheWindowOutlivesCallsBetweenFailedOnes) {
  constexpr int64_t kSmall = 8;
  for (const int64_t chunk : {1, 3}) {
    std::vector<std::vector<int32_t>> calls = {ids_from(0, 3), ids_from(3, 12)};
    auto s = make(chunk, kSmall);
    for (const auto& call : calls) feed(*s, call);
    for (int64_t round = 0; round < 8; ++round) {
      const int64_t before = s->position();
      fail(*s, 7 + 3 * (round % 3));
      // Rings do not reach back over all of it.
      if (s->position() != before) calls.push_back(ids_from(500, s->position() - before));
      calls.push_back(ids_from(40 + round, 1 + round % 6));
      feed(*s, calls.back());
      for (const int64_t n : {kSmall, kSmall / 2}) {
        if (has_rings() && !s->check_rollback(n).is_ok()) continue;
        expect_back(*s, n, calls, "chunk " + std::to_string(chunk) + ", round " + std::to_string(round));
      }
    }
  }
}

TEST_P(Undo, CancelledCallsKeepTheWindow) {
  auto s = make(16);
  std::vector<std::vector<int32_t>> calls;
  for (int64_t i = 0; i < 100; ++i) calls.push_back(ids_from(i, 1)), feed(*s, calls.back());
  for (const int64_t passes : {1, 3, 7}) {
    int64_t left = passes;
    s->set_progress([](void* context, int64_t, int64_t) { return --*static_cast<int64_t*>(context) > 0; }, &left);
    std::vector<float> logits;
    EXPECT_EQ(feed_ids(*s, ids_from(300, 200), &logits).code(), Code::kCancelled);
    s->set_progress(nullptr, nullptr);
    calls.push_back(ids_from(300, passes * 16));
    for (const int64_t n : {int64_t(0), int64_t(5), int64_t(40), kWindow})
      expect_back(*s, n, calls, "after " + std::to_string(passes) + " passes");
  }
}

TEST_P(Undo, RollbacksInARowShareTheWindow) {
  auto s = make(8, 20);
  std::vector<std::vector<int32_t>> calls;
  for (int64_t i = 0; i < 90; ++i) calls.push_back(ids_from(i, i % 13 + 1)), feed(*s, calls.back());
  ASSERT_TRUE(s->rollback(11).is_ok());
  const int64_t position = s->position();
  ASSERT_TRUE(s->rollback(9).is_ok());
  EXPECT_EQ(s->position(), position - 9);
  expect_back(*s, 0, calls, "in a row");
}

TEST_P(Undo, WithoutAWindowACallIsTakenBack) {
  auto s = make(16, 0), fresh = make(16, 0);
  for (int64_t i = 0; i < 30; ++i) feed(*s, ids_from(i * 5, 5)), feed(*fresh, ids_from(i * 5, 5));
  for (const int64_t bad : {1, 16, 20, 63, 64, 90}) {
    const int64_t before = s->position();
    fail(*s, bad);
    if (s->position() != before) continue;  // rings alone; FailedCallsLeaveTheStreamAndItsWindow
    auto copy = s->fork(), again = fresh->fork();
    EXPECT_EQ(feed(*copy.value(), ids_from(2, 4)), feed(*again.value(), ids_from(2, 4))) << bad;
  }
}

TEST_P(Undo, ARollbackThatIsRefusedChangesNothing) {
  auto s = make(16);
  feed(*s, ids_from(0, 90));
  auto copy = s->fork();
  EXPECT_EQ(s->rollback(kWindow + 1).code(), Code::kRollbackRange);
  EXPECT_EQ(s->rollback(-1).code(), Code::kInvalidArgument);
  EXPECT_EQ(s->rollback(91).code(), Code::kRollbackRange);
  EXPECT_EQ(feed(*s, ids_from(5, 3)), feed(*copy.value(), ids_from(5, 3)));
}

INSTANTIATE_TEST_SUITE_P(All, Undo,
                         testing::Values("tiny_llama", "tiny_gemma3", "tiny_mistral", "tiny_mamba", "tiny_mamba2",
                                         "tiny_rwkv", "tiny_jamba", "tiny_granite_hybrid", "tiny_recurrent_gemma",
                                         "tiny_lfm2", "tiny_qwen3_next", "tiny_xlstm", "tiny_fla_samba"),
                         [](const auto& p) { return std::string(p.param); });

// Between a failed call of many passes and its start, a hybrid's rings may be overwritten: then neither half of the
// states may go back alone.
TEST(UndoHybrid, BothKindsOfStatesStayTogether) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "tiny_recurrent_gemma", tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t window : {0, 8}) {
    PlanOptions o = test::plan_options();
    o.context = 100000;
    o.chunk = 16;
    o.rollback = window;
    auto s = Session::create(*model, nullptr, o, nullptr, nullptr),
         fresh = Session::create(*model, nullptr, o, nullptr, nullptr);
    ASSERT_TRUE(s.is_ok() && fresh.is_ok());
    std::vector<float> a, b;
    for (int64_t i = 0; i < 40; ++i) {
      ASSERT_TRUE(feed_ids(*s.value(), ids_from(i, 7), &a).is_ok());
      ASSERT_TRUE(feed_ids(*fresh.value(), ids_from(i, 7), &b).is_ok());
    }
    std::vector<int32_t> bad = ids_from(3, 1999);
    bad.push_back(kBad);
    const Status failed = feed_ids(*s.value(), bad, &a);
    EXPECT_EQ(failed.code(), Code::kInvalidArgument);
    const int64_t kept = s.value()->position();
    if (kept == 0) {
      EXPECT_NE(std::strstr(failed.message(), "empty"), nullptr) << failed.message();
      fresh.value()->reset();
    } else if (kept > 280) {
      EXPECT_NE(std::strstr(failed.message(), "now holds"), nullptr) << failed.message();
      ASSERT_TRUE(feed_ids(*fresh.value(), std::span(bad).first(size_t(kept - 280)), &b).is_ok());
    }
    ASSERT_TRUE(feed_ids(*s.value(), ids_from(70, 5), &a).is_ok());
    ASSERT_TRUE(feed_ids(*fresh.value(), ids_from(70, 5), &b).is_ok());
    EXPECT_EQ(a, b) << "window " << window << ", " << kept << " tokens";
  }
}

// A saved state with a checksum of its own may still lie.
TEST(SavedState, NamesOnlyBuffersAndPassesThatThereAre) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "tiny_jamba", tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  for (const int64_t window : {0, 8}) {
    PlanOptions o = test::plan_options();
    o.context = 256;
    o.chunk = 16;
    o.rollback = window;
    auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
    ASSERT_TRUE(s.is_ok());
    std::vector<float> logits;
    for (int64_t i = 0; i < 10; ++i) ASSERT_TRUE(feed_ids(*s.value(), ids_from(i, 5), &logits).is_ok());
    std::vector<unsigned char> saved(s.value()->snapshot_bytes());
    ASSERT_TRUE(s.value()->snapshot(saved.data(), saved.size()).is_ok());
    const auto restores = [&](const std::function<void(StateHeader&, unsigned char*)>& change) {
      std::vector<unsigned char> changed = saved;
      change(*reinterpret_cast<StateHeader*>(changed.data()), changed.data());
      const uint64_t sum = xxh64(changed.data(), changed.size() - 8);
      std::memcpy(changed.data() + changed.size() - 8, &sum, 8);
      return s.value()->restore(changed.data(), changed.size()).code();
    };
    EXPECT_EQ(restores([](StateHeader&, unsigned char*) {}), Code::kOk);
    EXPECT_EQ(restores([](StateHeader& h, unsigned char*) { h.mark_buffer[0] = 9; }), Code::kStateMismatch);
    EXPECT_EQ(restores([](StateHeader& h, unsigned char*) { h.mark[1] = h.position + 1; }), Code::kStateMismatch);
    EXPECT_EQ(restores([](StateHeader& h, unsigned char*) { h.mark[0] = -1; }), Code::kStateMismatch);
    if (window == 0) {
      EXPECT_EQ(restores([](StateHeader& h, unsigned char*) { h.mark_buffer[0] = 1 - h.mark_buffer[1]; }),
                Code::kStateMismatch);
    } else {
      const size_t journal = size_t(s.value()->plan().reach) * s.value()->plan().journal_row;
      EXPECT_EQ(restores([&](StateHeader&, unsigned char* all) {
                  std::memset(all + saved.size() - 8 - journal, 77, journal);
                }),
                Code::kStateMismatch);
    }
    ASSERT_TRUE(feed_ids(*s.value(), ids_from(50, 5), &logits).is_ok());
  }
}

}  // namespace
}  // namespace runnel::convert
