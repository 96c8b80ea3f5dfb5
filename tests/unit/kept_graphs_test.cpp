// Graphs that once read or wrote outside, or gave wrong numbers: each is refused when it is planned, or gives the same
// for every way to run it.
#include <gtest/gtest.h>

#include <functional>

#include "unit/compare_runs.h"
#include "unit/kept_graphs.h"

namespace runnel::test {
namespace {

std::vector<unsigned char> file_of(const KeptGraph& g, const std::function<void(GraphBuilder&)>& more = {}) {
  GraphBuilder b;
  g.build(b);
  if (more) more(b);
  return b.build();
}

const KeptGraph& graph(const std::string& name) {
  static const std::vector<KeptGraph> all = kept_graphs();
  return *std::find_if(all.begin(), all.end(), [&](const KeptGraph& g) { return g.name == name; });
}

std::vector<Way> ways() {
  Way calls, ones, long_calls, two;
  calls.calls = {5, 1, 9, 30, 3}, calls.chunk = 8, calls.rows = 1;
  ones.calls = std::vector<int64_t>(48, 1), ones.chunk = 1, ones.rows = 1, ones.fork_before = 20;
  long_calls.calls = {20, 28}, long_calls.chunk = 7, long_calls.rows = 3, long_calls.back_before = 1,
  long_calls.back = 5;
  two = calls, two.threads = 2, two.window = 0, two.rows = 8;
  return {calls, ones, long_calls, two};
}

class KeptGraphs : public testing::TestWithParam<KeptGraph> {};

TEST_P(KeptGraphs, AreRefusedOrGiveTheSameInEveryWay) {
  const auto file = file_of(GetParam());
  Way whole;
  whole.calls = {48};
  if (GetParam().of == KeptGraph::kPass) whole.calls = std::vector<int64_t>(48, 1);
  const WayResult wanted = run_way(file, whole, 64, 3);
  for (Way way : ways()) {
    if (GetParam().of == KeptGraph::kCall) way.calls = {48};
    if (GetParam().of == KeptGraph::kPass) way.calls = whole.calls;
    const WayResult got = run_way(file, way, 64, 3);
    if (!got.is_planned || !wanted.is_planned) continue;
    // What needs a whole call in one pass says so.
    if (!got.ran || !wanted.ran) {
      EXPECT_NE(got.error + wanted.error, "") << way.text();
      EXPECT_EQ(got.error.find("NaN"), std::string::npos) << got.error;
      continue;
    }
    SCOPED_TRACE(way.text());
    EXPECT_EQ(difference_of(got.out, wanted.out, 1e-5f), "");
  }
}
INSTANTIATE_TEST_SUITE_P(All, KeptGraphs, testing::ValuesIn(kept_graphs()),
                         [](const auto& p) { return std::string(p.param.name); });

TEST(KeptGraph, SoundOnesRun) {
  Way whole;
  whole.calls = {48};
  std::vector<KeptGraph> sound = kept_links();
  for (const KeptGraph& g : kept_operators()) sound.push_back(g);
  for (const KeptGraph& g : sound) {
    const WayResult r = run_way(file_of(g), whole, 64, 3);
    EXPECT_TRUE(r.is_planned) << g.name << ": " << r.error;
    // Nothing has written what it reads.
    EXPECT_EQ(r.ran, std::string(g.name) != "kept_for_another") << r.error;
  }
}

// Of graphs whose one pass was wrong too.
TEST(KeptGraph, SumOverACallIsRight) {
  Way way;
  way.calls = {5}, way.chunk = 8;
  for (const char* name : {"fixed_size_output", "fixed_size_beside_rows"}) {
    const OpenModel model(file_of(graph(name)), 1);
    ASSERT_TRUE(bool(model)) << model.error;
    rnl_session_options o{};
    o.context = 64, o.chunk = 8, o.rows = 1;
    Planned p = plan_session(model, o);
    if (!p.session) continue;
    std::vector<float> x(20, 1.0f);
    rnl_tensor t{};
    t.name = "x", t.dtype = RNL_F32, t.rank = 2, t.dims[0] = 5, t.dims[1] = 4, t.data = x.data(), t.bytes = 80;
    Gathered out;
    ASSERT_EQ(rnl_session_run_blocks(p.session.get(), nullptr, &t, 1, 0, gather, &out), RNL_OK) << rnl_last_error();
    ASSERT_EQ(out.rows["m"].size(), 4u);
    for (const auto& [i, row] : out.rows["m"]) EXPECT_NEAR(row.at(0), 5 * std::tanh(1.0f), 1e-5f) << name;
  }
}

TEST(KeptGraph, RowsBeforeTheStreamAreThoseThatWereWanted) {
  const OpenModel model(file_of(graph("rows_before_stream")), 1);
  ASSERT_TRUE(bool(model)) << model.error;
  rnl_session_options o{};
  o.context = 64, o.chunk = 8, o.rows = 1;
  Planned p = plan_session(model, o);
  ASSERT_TRUE(p.session != nullptr) << p.error;
  AnyCall call;
  call.tokens = 5;
  AnyInputs in;
  ASSERT_TRUE(in.make(model, o, call));
  Gathered out;
  ASSERT_EQ(rnl_session_run_blocks(p.session.get(), nullptr, in.tensors.data(), in.tensors.size(), 1, gather, &out),
            RNL_OK)
      << rnl_last_error();
  const auto* x = static_cast<const float*>(in.tensors[0].data);
  ASSERT_EQ(out.rows["a"].size(), 5u);
  for (const auto& [i, row] : out.rows["a"]) EXPECT_EQ(row, std::vector<float>(x + i * 4, x + i * 4 + 4)) << i;
}

// Infinity in an input that nothing reads is nothing to the outputs.
TEST(KeptGraph, UnreadInputsMayHoldAnything) {
  const OpenModel model(file_of(graph("state_as_unread_input")), 1);
  ASSERT_TRUE(bool(model)) << model.error;
  rnl_session_options o{};
  o.context = 64, o.chunk = 8, o.rows = 1;
  Planned p = plan_session(model, o);
  ASSERT_TRUE(p.session != nullptr) << p.error;
  AnyCall call;
  call.tokens = 3;
  AnyInputs in;
  ASSERT_TRUE(in.make(model, o, call));
  for (const rnl_tensor& t : in.tensors)
    if (std::string(t.name) == "z") std::fill_n(static_cast<float*>(t.data), t.bytes / 4, -INFINITY);
  Gathered out;
  EXPECT_EQ(rnl_session_run_blocks(p.session.get(), nullptr, in.tensors.data(), in.tensors.size(), 0, gather, &out),
            RNL_OK)
      << rnl_last_error();
}

// Keys and values of an f16 graph as q8.
TEST(KeptGraph, AnyBlockAxisServesQ8OrIsRefused) {
  for (const char* name : {"block_axis_1", "block_axis_by_default"}) {
    const OpenModel model(file_of(graph(name)), 1);
    if (!model) continue;
    rnl_session_options o{};
    o.context = 64, o.chunk = 8, o.rows = 1, o.kv = RNL_Q8;
    Planned p = plan_session(model, o);
    if (!p.session) continue;
    for (int64_t at = 0; at < 24; at += 8) {
      AnyCall call;
      call.first = at, call.tokens = 8;
      Gathered out;
      EXPECT_EQ(run_any(p.session.get(), model, o, call, true, &out), RNL_OK) << rnl_last_error();
    }
  }
}

// Positions and context that the caller gave are computed with once more when tokens are taken back.
TEST(KeptGraph, RollbackKeepsWhatTheCallerGave) {
  for (const char* name : {"own_positions", "own_context"}) {
    const OpenModel model(file_of(graph(name)), 1);
    ASSERT_TRUE(bool(model)) << model.error;
    rnl_session_options o{};
    o.context = 64, o.chunk = 8, o.rows = 1, o.rollback_window = 8;
    Planned p = plan_session(model, o);
    ASSERT_TRUE(p.session != nullptr) << p.error;
    const auto feed = [&](int64_t first, Gathered* out) {
      std::vector<float> x{1, 1, 1, 1}, c{2};
      int32_t at = int32_t(70 + first);
      rnl_tensor t[2]{};
      t[0].name = "x", t[0].dtype = RNL_F32, t[0].rank = 2, t[0].dims[0] = 1, t[0].dims[1] = 4, t[0].data = x.data(),
      t[0].bytes = 16;
      t[1].rank = 1, t[1].dims[0] = 1, t[1].bytes = 4;
      if (std::string(name) == "own_positions")
        t[0].rank = 3, t[0].dims[1] = 1, t[0].dims[2] = 4, t[1].name = "positions", t[1].dtype = RNL_I32,
        t[1].data = &at;
      else t[1].name = "c", t[1].dtype = RNL_F32, t[1].data = c.data();
      return rnl_session_run_blocks(p.session.get(), nullptr, t, 2, 0, gather, out);
    };
    Gathered before, after;
    for (int64_t i = 0; i < 3; ++i) ASSERT_EQ(feed(i, &before), RNL_OK) << rnl_last_error();
    if (rnl_session_rollback(p.session.get(), 1)) continue;  // refused by name
    ASSERT_EQ(feed(2, &after), RNL_OK) << rnl_last_error();
    EXPECT_EQ(difference_of(after, before, 0), "") << name;
  }
}

// A program that reads a recurrent state finds its present value, as operators behind the stream's last one do.
TEST(KeptGraph, StatesAreReadAsTheyAre) {
  for (const char* name : {"state_read_in_other_program", "state_read_in_head"}) {
    const OpenModel model(file_of(graph(name)), 1);
    if (!model) continue;
    rnl_session_options o{};
    o.context = 64, o.chunk = 8, o.rows = 1, o.rollback_window = 8;
    Planned p = plan_session(model, o);
    if (!p.session) continue;
    std::vector<float> x(4), sum(4);
    for (int i = 0; i < 20; ++i) {
      for (int k = 0; k < 4; ++k) x[size_t(k)] = float(i + k), sum[size_t(k)] += x[size_t(k)];
      rnl_tensor t{};
      t.name = "x", t.dtype = RNL_F32, t.rank = 2, t.dims[0] = 1, t.dims[1] = 4, t.data = x.data(), t.bytes = 16;
      Gathered out;
      ASSERT_EQ(rnl_session_run_blocks(p.session.get(), nullptr, &t, 1, 0, gather, &out), RNL_OK) << rnl_last_error();
      if (i == 10) ASSERT_EQ(rnl_session_rollback(p.session.get(), 0), RNL_OK);
      std::vector<float> y = out.rows["y"][0];
      if (std::string(name) == "state_read_in_head") {
        for (float& v : y) v /= 2;  // of the token, and of the state behind it
      } else {
        std::vector<float> zeros(4), now(4);
        rnl_tensor z{}, to{};
        z.name = "z", z.dtype = RNL_F32, z.rank = 1, z.dims[0] = 4, z.data = zeros.data(), z.bytes = 16;
        to.name = "now", to.data = now.data(), to.bytes = 16;
        ASSERT_EQ(rnl_session_run(p.session.get(), "peek", &z, 1, &to, 1), RNL_OK) << rnl_last_error();
        y = now;
      }
      ASSERT_EQ(y, sum) << name << " after " << i;
    }
  }
}

// A window that the ring does not know of.
TEST(KeptGraph, AWindowThatLiesIsRefused) {
  const OpenModel model(file_of(graph("window_lies")), 1);
  ASSERT_TRUE(bool(model)) << model.error;
  rnl_session_options o{};
  o.context = 200, o.chunk = 8, o.rows = 1, o.rollback_window = 64;
  const Planned p = plan_session(model, o);
  EXPECT_TRUE(p.session == nullptr);
  EXPECT_NE(p.error.find("says a window of 1"), std::string::npos) << p.error;
}

// A window of the state's that is longer than the state: each pass still takes a token.
TEST(KeptGraph, AWindowBeyondTheSlotsDoesNotStopTheStream) {
  Way whole;
  whole.calls = {150}, whole.window = 0;
  const WayResult got = run_way(file_of(graph("window_beyond_slots")), whole, 200, 3);
  EXPECT_TRUE(got.ran) << got.error;
}

// Rings and recurrences together: a call that fails late leaves both as they were.
TEST(KeptGraph, AFailedCallTakesBothBack) {
  const OpenModel model(file_of(graph("ring_and_recurrent")), 1);
  ASSERT_TRUE(bool(model)) << model.error;
  for (const int64_t failing : {2, 40, 150}) {
    rnl_session_options o{};
    o.context = 100000, o.chunk = 8, o.rows = 1, o.rollback_window = 16;
    Planned a = plan_session(model, o), b = plan_session(model, o);
    ASSERT_TRUE(a.session && b.session) << a.error;
    std::vector<int32_t> all;
    for (int32_t i = 0; i < 300; ++i) all.push_back(i * 7 % 32);
    const auto feed = [&](rnl_session* s, int64_t from, int64_t n, Gathered* out) {
      const rnl_tensor t{"ids", RNL_I32, 1, {n}, all.data() + from, size_t(n) * 4};
      return rnl_session_run_blocks(s, nullptr, &t, 1, 0, gather, out);
    };
    Gathered unused, got, wanted;
    ASSERT_EQ(feed(a.session.get(), 0, 90, &unused), RNL_OK);
    all[size_t(90 + failing - 1)] = 1000;
    ASSERT_NE(feed(a.session.get(), 90, failing, &unused), RNL_OK);
    const int64_t position = rnl_session_position(a.session.get());
    if (position) ASSERT_EQ(feed(b.session.get(), 0, 90, &unused), RNL_OK);
    if (position > 90) ASSERT_EQ(feed(b.session.get(), 90, position - 90, &unused), RNL_OK);
    EXPECT_TRUE(position == 90 || std::strstr(rnl_last_error(), "stream")) << position << " " << rnl_last_error();
    ASSERT_EQ(feed(a.session.get(), 250, 5, &got), RNL_OK);
    ASSERT_EQ(feed(b.session.get(), 250, 5, &wanted), RNL_OK);
    EXPECT_EQ(difference_of(got, wanted, 0), "") << failing << ", " << position;
  }
}

TEST(KeptGraph, AnI32OutputIsNoChoiceOfTheDevice) {
  for (const char* name : {"i32_output", "i32_output_alone"}) {
    const OpenModel model(file_of(graph(name)), 1);
    ASSERT_TRUE(bool(model)) << model.error;
    rnl_session_options o{};
    o.context = 64, o.chunk = 8, o.rows = 1;
    Planned p = plan_session(model, o);
    if (!p.session) continue;
    const int32_t ids[] = {1, std::string(name) == "i32_output" ? 7 : 4000};
    rnl_generate_options g{};
    g.struct_size = sizeof g, g.max_tokens = 2, g.logprobs_count = 3;
    g.logprobs = [](void*, const rnl_logprobs*) {};
    std::vector<int32_t> chosen;
    const auto take = [](void* to, int32_t id, const char*, size_t) {
      static_cast<std::vector<int32_t>*>(to)->push_back(id);
      return 0;
    };
    // Logits of 4: an id of 0 to 3, or a refusal.
    if (rnl_session_generate(p.session.get(), ids, 2, &g, take, &chosen, nullptr) == RNL_OK)
      EXPECT_EQ(chosen.size(), 2u);
    for (int32_t id : chosen) EXPECT_LT(id, 4) << name;
  }
}

}  // namespace
}  // namespace runnel::test
