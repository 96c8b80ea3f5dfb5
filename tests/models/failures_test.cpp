// Every way in which a call fails, on every kind of tiny model: a bad id (of graphs: NaN) in each pass of a call, a
// rollback that is refused, a full context, a pass that is cancelled. What follows is, bit for bit, what a new session
// gives that is fed what the stream then holds, by the same calls.
#include "models/streams/world.h"

namespace runnel::streams {
namespace {

using Ids = std::vector<int32_t>;

class Failures : public testing::TestWithParam<Kind> {
 protected:
  static constexpr int64_t kChunk = 4, kPasses = 5;

  // A session and what it holds.
  struct Stream {
    Stream(Models& models, const Kind& kind, int64_t window)
        : w(models, {kind, 1, false, std::min<int64_t>(kind.longest, 96), kChunk, 0, window}), s(w.make()) {
      // What is no stream is computed in one pass.
      passes = w.counts ? kPasses : 1;
    }
    Ids ids(int64_t count) {
      Ids all;
      for (int64_t i = 0; i < count; ++i) all.push_back(int32_t((next++ * 7 + 3) % std::min(w.ids, 61)));
      return all;
    }
    int64_t position() const { return rnl_session_position(s.get()); }
    int64_t length() const {
      int64_t n = 0;
      for (const Ids& call : calls) n += int64_t(call.size());
      return n;
    }
    void cut(int64_t n) {
      for (; n > 0 && !calls.empty(); --n) {
        calls.back().pop_back();
        if (calls.back().empty()) calls.pop_back();
      }
    }
    // After a call of these ids: what is in the stream of it.
    void note(const Ids& fed, const std::string& what) {
      if (!w.counts) return;
      const int64_t kept = position() - length();
      if (position() == 0) calls.clear();
      else if (kept > 0) calls.emplace_back(fed.begin(), fed.begin() + kept);
      ASSERT_EQ(position(), length()) << what;
      if (kept > 0 && kept < int64_t(fed.size()) && !w.is_tight()) EXPECT_EQ(kept % kChunk, 0) << what;
    }
    // Stays within the context where that ends.
    void make_room(int64_t count) {
      if (w.counts && position() + count <= w.context()) return;
      rnl_session_reset(s.get());
      calls.clear();
      feed_on(5);
      feed_on(3);
    }
    void feed_on(int64_t count) {
      const Ids fed = ids(count);
      ASSERT_EQ(feed(w, s.get(), fed, {}, {}, nullptr), RNL_OK) << rnl_last_error();
      note(fed, "a call");
    }
    void expect_same(const std::string& what) {
      rnl_session* forked = nullptr;
      ASSERT_EQ(rnl_session_fork(s.get(), &forked), RNL_OK) << rnl_last_error();
      const SessionPtr copy(forked), fresh = w.make();
      for (const Ids& call : calls) ASSERT_EQ(feed(w, fresh.get(), call, {}, {}, nullptr), RNL_OK) << rnl_last_error();
      const int64_t room = w.counts ? std::min<int64_t>(3, w.context() - length()) : 3;
      if (room == 0) return;
      const Ids more = ids(room);
      Blocks got, wanted;
      ASSERT_EQ(feed(w, copy.get(), more, {Wish::kAll, {}, false}, {}, &got), RNL_OK) << what << rnl_last_error();
      ASSERT_EQ(feed(w, fresh.get(), more, {Wish::kAll, {}, false}, {}, &wanted), RNL_OK) << rnl_last_error();
      EXPECT_EQ(difference(got, wanted), "") << what;
    }

    World w;
    SessionPtr s;
    std::vector<Ids> calls;
    int64_t next = 0, passes = 1;
  };

  static void bad_ids(Stream& t) {
    for (int64_t pass = 0; pass < t.passes; ++pass) {
      const std::string what = "a bad id in pass " + std::to_string(pass);
      t.make_room(t.passes * kChunk + 3);
      Ids fed = t.ids(t.passes * kChunk - 1);
      fed[size_t(pass * kChunk + pass % (kChunk - 1))] = kBadId;
      const rnl_status_code code = feed(t.w, t.s.get(), fed, {Wish::kAll, {}, false}, {}, nullptr);
      if (t.w.setup.kind.is_graph) EXPECT_EQ(code, RNL_NON_FINITE) << what;
      else EXPECT_EQ(code, RNL_INVALID_ARGUMENT) << what;
      t.note(fed, what);
      t.expect_same(what);
    }
  }
  static void refused_rollbacks(Stream& t) {
    t.make_room(8);
    const int64_t window = t.w.window(), before = t.position();
    for (const int64_t n : {window + 1, before + 1, int64_t(-1)}) {
      const rnl_status_code code = rnl_session_rollback(t.s.get(), n);
      EXPECT_TRUE(code == RNL_ROLLBACK_RANGE || code == RNL_INVALID_ARGUMENT) << n << " back: " << code;
    }
    EXPECT_EQ(t.position(), before);
    t.expect_same("refused rollbacks");
    const int64_t back = std::min<int64_t>({2, window, before});
    ASSERT_EQ(rnl_session_rollback(t.s.get(), back), RNL_OK) << rnl_last_error();
    t.cut(back);
    t.expect_same("a rollback");
  }
  static void cancelled_passes(Stream& t) {
    const auto stop = [&](Trouble::Mode mode, int64_t at, const std::string& what) {
      t.make_room(t.passes * kChunk + 3);
      const Ids fed = t.ids(t.passes * kChunk);
      const rnl_status_code code = feed(t.w, t.s.get(), fed, {Wish::kAll, {}, false}, {mode, at}, nullptr);
      // Between passes there is nothing to stop where there is one.
      EXPECT_TRUE(code == RNL_CANCELLED || (t.passes == 1 && mode == Trouble::kStopProgress)) << what << ": " << code;
      t.note(fed, what);
      t.expect_same(what);
    };
    stop(Trouble::kCancelBefore, 0, "a cancelled call");
    for (int64_t pass = 0; pass + 1 < t.passes || pass == 0; ++pass) {
      stop(Trouble::kStopProgress, pass, "a stop after pass " + std::to_string(pass));
      stop(Trouble::kStopOutput, pass, "a stop at block " + std::to_string(pass));
    }
  }
  static void full_context(Stream& t) {
    if (!t.w.counts) return;
    t.make_room(t.w.context() + 1);
    const Ids fed = t.ids(t.w.context() - t.position() + 1);
    const int64_t before = t.position();
    const rnl_status_code code = feed(t.w, t.s.get(), fed, {}, {}, nullptr);
    if (code == RNL_OK) return;  // goes on without end
    EXPECT_EQ(code, RNL_CONTEXT_FULL) << rnl_last_error();
    EXPECT_EQ(t.position(), before);
    t.expect_same("a context that would not have held the call");
    t.feed_on(t.w.context() - before);
    EXPECT_EQ(feed(t.w, t.s.get(), t.ids(1), {}, {}, nullptr), RNL_CONTEXT_FULL);
    const int64_t back = std::min<int64_t>(t.w.window(), 3);
    ASSERT_EQ(rnl_session_rollback(t.s.get(), back), RNL_OK) << rnl_last_error();
    t.cut(back);
    t.expect_same("a full context");
  }
};

TEST_P(Failures, LeaveAStreamThatIsKnown) {
  Models models;
  for (const int64_t window : {16, -1}) {
    SCOPED_TRACE("rollback_window " + std::to_string(window));
    try {
      Stream t(models, GetParam(), window);
      t.make_room(t.w.context() + 1);
      bad_ids(t);
      refused_rollbacks(t);
      cancelled_passes(t);
      full_context(t);
    } catch (const Broken& e) {
      ADD_FAILURE() << e.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Failures, testing::ValuesIn(all_kinds()), [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace runnel::streams
