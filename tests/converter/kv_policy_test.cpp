// Policies of keys and values, put into models by the converter: the cut into calls, roll-backs, forks, saved states.
#include "kit.h"

namespace runnel::convert {
namespace {

std::unique_ptr<Model> kept_by(const std::string& golden, const std::string& policy, const fs::path& to) {
  return converted_with(golden, to, [&](ConvertOptions* o) { o->kv_policy = policy; });
}

std::unique_ptr<Session> session_of(const Model& model, int64_t context = 128) {
  PlanOptions options = test::plan_options();
  options.context = context;
  options.chunk = 32;
  options.rows = 8;
  options.rollback = 64;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  return std::move(session.value());
}

const char* const kPolicies[] = {"h2o:budget=24,recent=8,block=16", "snapkv:budget=24,window=5,pool=3,block=16",
                                 "h2o:budget=0,recent=0,block=8", "snapkv:budget=16,window=1,pool=1,block=1",
                                 "h2o:budget=20,recent=20,block=5,exact=1"};

TEST(C4, ABudgetThatIsNeverReachedIsTheModelItself) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids("tiny_llama", 120);
  const std::vector<float> plain = all_logits(*kept_by("tiny_llama", "h2o:exact=2", tmp / "a.rnl"), ids, 120);
  for (const char* policy : {"h2o:budget=120,recent=10,block=16", "snapkv:budget=200,block=32"})
    for (const int64_t chunk : {1, 7, 64, 120})
      EXPECT_LE(largest_difference(all_logits(*kept_by("tiny_llama", policy, tmp / "b.rnl"), ids, chunk), plain),
                1e-4f * largest(plain))
          << policy << ", chunk " << chunk;
}

TEST(C4, TheCutIntoCallsChangesNothing) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids("tiny_llama", 150);
  const std::vector<float> plain =
      all_logits(*kept_by("tiny_llama", "h2o:budget=150,recent=8", tmp / "a.rnl"), ids, 150);
  for (const char* policy : kPolicies) {
    const auto model = kept_by("tiny_llama", policy, tmp / "b.rnl");
    const std::vector<float> whole = all_logits(*model, ids, 150);
    EXPECT_GT(largest_difference(whole, plain), 1e-3f * largest(plain)) << policy;
    for (const int64_t chunk : {1, 7, 64})
      EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), whole), 1e-4f * largest(whole))
          << policy << ", chunk " << chunk;
  }
}

TEST(C4, PoliciesRollBackForkAndSave) {
  for (const char* policy : kPolicies) {
    TemporaryFolder tmp;
    const auto model = kept_by("tiny_llama", policy, tmp / "m.rnl");
    const std::vector<int32_t> ids = long_ids("tiny_llama", 300);
    const bool keeps_a_layer = std::string(policy).find("exact") != std::string::npos;
    const int64_t context = keeps_a_layer ? 512 : 128;  // without one the stream may become as long as it likes
    const auto session = session_of(*model, context);
    std::vector<float> ignored, one, two;
    for (size_t at = 0; at < 260; at += 20)
      ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(at, 20), &ignored).is_ok());
    auto fork = session->fork();
    ASSERT_TRUE(fork.is_ok());
    std::vector<char> snapshot(session->snapshot_bytes());
    ASSERT_TRUE(session->snapshot(snapshot.data(), snapshot.size()).is_ok());
    ASSERT_TRUE(session->save((tmp / "s").c_str()).is_ok());
    ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(260, 30), &one).is_ok());
    ASSERT_TRUE(feed_ids(*fork.value(), std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << policy;
    ASSERT_TRUE(session->rollback(30).is_ok());
    ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << policy;
    const auto other = session_of(*model, context), third = session_of(*model, context);
    ASSERT_TRUE(other->restore(snapshot.data(), snapshot.size()).is_ok());
    ASSERT_TRUE(feed_ids(*other, std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << policy;
    ASSERT_TRUE(third->load((tmp / "s").c_str()).is_ok());
    ASSERT_TRUE(feed_ids(*third, std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << policy;
  }
}

TEST(C4, BytesDoNotGrowWithTheContext) {
  TemporaryFolder tmp;
  const auto model = kept_by("tiny_llama", "h2o:budget=32,recent=16,block=16", tmp / "m.rnl");
  EXPECT_EQ(session_of(*model, 128)->snapshot_bytes(), session_of(*model, 4096)->snapshot_bytes());
  EXPECT_STREQ(model->root().provenance()->passes()->c_str(),
               "kv-policy h2o:budget=32,recent=16,block=16: 3 attentions");
}

TEST(C4, RefusesPoliciesAndModelsByName) {
  TemporaryFolder tmp;
  const auto expect_error = [&](const char* golden, const char* policy, const char* word) {
    try {
      kept_by(golden, policy, tmp / "m.rnl");
      ADD_FAILURE() << policy;
    } catch (const std::exception& e) {
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fs::exists(tmp / "m.rnl"));
  };
  expect_error("tiny_llama", "nothing", "not a method; there is h2o[:budget=1024");
  expect_error("tiny_llama", "h2o:window=3", "\"window=3\" is no option of it");
  expect_error("tiny_llama", "h2o:budget=3.5", "budget is not a whole number");
  expect_error("tiny_llama", "h2o:budget=8,recent=9", "the budget does not hold the newest 9");
  expect_error("tiny_llama", "snapkv:window=65", "window is not at most block");
  expect_error("tiny_llama", "snapkv:pool=4", "pool is not odd");
  expect_error("tiny_mamba", "h2o", "no attention of this model sees all of a stream");
  expect_error("tiny_gemma2", "h2o", "caps its scores");
}

}  // namespace
}  // namespace runnel::convert
