// A device that is lost between any two submissions: the call that meets it fails, nothing that was fed before is, and
// the session goes on on the CPU with the logits that a session on the CPU has.
#include "converter/kit.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::convert {
namespace {

constexpr int64_t kSnapshotEvery = 24;

std::unique_ptr<Model> converted(const std::string& folder) {
  TemporaryFolder tmp;
  convert_to(kGoldens / folder, tmp / "m.rnl");
  return open_model(tmp / "m.rnl");
}

std::unique_ptr<Session> make(const Model& model, BackendKind backend) {
  PlanOptions o;
  o.backend = backend;
  o.context = 512;
  o.chunk = 16;
  o.rollback = 8;
  o.snapshot_every = kSnapshotEvery;
  auto s = Session::create(model, nullptr, o, nullptr, nullptr);
  if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
  return std::move(s.value());
}

Status feed(Session& s, int64_t first, int64_t count, std::vector<float>* out) {
  std::vector<int32_t> ids;
  for (int64_t i = first; i < first + count; ++i) ids.push_back(int32_t(uint64_t(i * 7919 + 3) % 61));
  return feed_ids(s, ids, out);
}

// What is done with a session: calls longer and shorter than a pass and than the log, and tokens taken back, also to
// before the snapshot.
struct Step {
  enum Kind { kFeed, kRollback, kFork } kind;
  int64_t count;
};
std::vector<Step> steps() {
  std::vector<Step> all{{Step::kFeed, 40}, {Step::kFeed, 3}};
  for (int i = 0; i < 24; ++i) {
    all.push_back({Step::kFeed, 1 + i % 3});
    if (i % 4 == 2) all.push_back({Step::kRollback, 1 + i % 7});
  }
  all.insert(all.end(), {{Step::kFork, 0},
                         {Step::kFeed, 9},
                         {Step::kRollback, 8},
                         {Step::kFeed, 2},
                         {Step::kFeed, 30},
                         {Step::kRollback, 3},
                         {Step::kFeed, 1}});
  return all;
}

Status take(Session& s, const Step& step, int64_t fed, std::vector<float>* logits) {
  if (step.kind == Step::kRollback) return s.rollback(step.count);
  if (step.kind == Step::kFork) return s.fork().is_ok() ? Status::ok() : s.fork().take_status();
  return feed(s, fed, step.count, logits);
}

// Submissions that all steps took; the device is lost at number `lose_at`, 0: never.
uint64_t run_all(const Model& model, int64_t lose_at, const std::vector<std::vector<float>>& wanted,
                 std::vector<std::vector<float>>* seen) {
  auto device = vulkan::shared_device();
  if (!device.is_ok()) throw std::runtime_error(device.take_status().message());
  auto s = make(model, BackendKind::kVulkan);
  const uint64_t before = device.value()->submissions();
  device.value()->lose_after(lose_at);
  int64_t fed = 0;
  bool was_lost = false;
  size_t at = 0;
  for (const Step& step : steps()) {
    const int64_t position = s->position();
    std::vector<float> logits;
    Status status = take(*s, step, fed, &logits);
    if (!status.is_ok()) {
      EXPECT_EQ(status.code(), Code::kDeviceLost) << status.message();
      EXPECT_FALSE(was_lost) << status.message();
      EXPECT_EQ(s->position(), position);
      EXPECT_EQ(take(*s, step, fed, &logits).code(), Code::kDeviceLost);
      was_lost = true;
      const Status recovered = s->recover();
      EXPECT_TRUE(recovered.is_ok()) << recovered.message();
      EXPECT_EQ(s->position(), position);
      EXPECT_EQ(s->backend(), nullptr);
      status = take(*s, step, fed, &logits);
      EXPECT_TRUE(status.is_ok()) << status.message();
    }
    if (!status.is_ok()) return 0;
    if (step.kind != Step::kFeed) continue;
    fed += step.count;
    if (seen) seen->push_back(logits);
    if (wanted.empty()) continue;
    EXPECT_LE(largest_difference(logits, wanted[at]), 1e-4f * largest(wanted[at]))
        << "lost at " << lose_at << ", call " << at;
    ++at;
  }
  EXPECT_EQ(was_lost, lose_at > 0);
  return device.value()->submissions() - before;
}

class Recovery : public testing::TestWithParam<const char*> {};
TEST_P(Recovery, ALostDeviceLosesNoToken) {
  const auto model = converted(GetParam());
  auto cpu = make(*model, BackendKind::kCpu);
  std::vector<std::vector<float>> wanted;
  int64_t fed = 0;
  for (const Step& step : steps()) {
    std::vector<float> logits;
    const Status s = take(*cpu, step, fed, &logits);
    ASSERT_TRUE(s.is_ok()) << s.message();
    if (step.kind != Step::kFeed) continue;
    fed += step.count;
    wanted.push_back(logits);
  }
  const int64_t submissions = int64_t(run_all(*model, 0, wanted, nullptr));
  ASSERT_GT(submissions, 50);
  // A device is opened anew for each: every fourth place, which meets calls, roll-backs, copies and forks.
  for (int64_t n = 1; n <= submissions; n += 4) {
    run_all(*model, n, wanted, nullptr);
    if (HasFailure()) break;
  }
}
// A model whose layers all see a window alone, so that its memory does not grow.
std::unique_ptr<Model> of_windows(int window) {
  TemporaryFolder tmp;
  fs::copy(kGoldens / "tiny_mistral", tmp / "source");
  std::ifstream in(tmp / "source/config.json");
  Json config = Json::parse(in);
  config["sliding_window"] = window;
  write_file(tmp / "source/config.json", config.dump());
  convert_to(tmp / "source", tmp / "m.rnl");
  return open_model(tmp / "m.rnl");
}

std::unique_ptr<Session> with_context(const Model& model, BackendKind backend, int64_t context) {
  PlanOptions o;
  o.backend = backend;
  o.context = context;
  o.chunk = 64;
  auto s = Session::create(model, nullptr, o, nullptr, nullptr);
  if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
  return std::move(s.value());
}

// Such a stream goes on beyond the context on both sides, with the numbers of a session that has room for all of it.
TEST(Rings, GoOnBeyondTheContext) {
  const auto model = of_windows(8);
  auto wide = with_context(*model, BackendKind::kCpu, 1024), cpu = with_context(*model, BackendKind::kCpu, 64),
       device = with_context(*model, BackendKind::kVulkan, 64);
  int64_t fed = 0;
  for (const int64_t count : {64, 64, 1, 130, 57, 58, 3}) {
    std::vector<float> wanted, logits;
    ASSERT_TRUE(feed(*wide, fed, count, &wanted).is_ok());
    for (Session* s : {cpu.get(), device.get()}) {
      const Status status = feed(*s, fed, count, &logits);
      ASSERT_TRUE(status.is_ok()) << status.message() << " at " << fed;
      EXPECT_LE(largest_difference(logits, wanted), 1e-4f * largest(wanted))
          << "at " << fed << (s == cpu.get() ? " on the CPU" : " on the device");
    }
    fed += count;
  }
}

// A ring that the context makes shorter than the window ends the stream at the same place on both sides.
TEST(Rings, ShorterThanTheirWindowEndAtTheContext) {
  const auto model = of_windows(100);
  for (const BackendKind backend : {BackendKind::kCpu, BackendKind::kVulkan}) {
    auto s = with_context(*model, backend, 64);
    std::vector<float> logits;
    ASSERT_TRUE(feed(*s, 0, 60, &logits).is_ok());
    EXPECT_EQ(feed(*s, 60, 5, &logits).code(), Code::kContextFull) << int(backend);
    EXPECT_EQ(s->position(), 60);
    EXPECT_TRUE(feed(*s, 60, 4, &logits).is_ok());
    EXPECT_EQ(feed(*s, 64, 1, &logits).code(), Code::kContextFull) << int(backend);
  }
}

// Beyond the context too, and when it fails on its way the position stays and the next try begins where it broke off.
TEST(Rings, RecoveryBeyondTheContextMayBeTriedAgain) {
  const auto model = of_windows(8);
  auto cpu = with_context(*model, BackendKind::kCpu, 64), s = with_context(*model, BackendKind::kVulkan, 64);
  std::vector<float> wanted, logits;
  int64_t fed = 0;
  for (const int64_t count : {64, 64, 1, 1}) {
    ASSERT_TRUE(feed(*cpu, fed, count, &wanted).is_ok());
    ASSERT_TRUE(feed(*s, fed, count, &logits).is_ok());
    fed += count;
  }
  vulkan::shared_device().value()->lose_after(1);
  ASSERT_EQ(feed(*s, fed, 1, &logits).code(), Code::kDeviceLost);
  EXPECT_EQ(s->position(), fed);
  int left = 10;
  s->set_observer(
      [](void* context, const ObservedOp&) {
        return --*static_cast<int*>(context) < 0 ? Status::make(Code::kInternal, "no more") : Status::ok();
      },
      &left);
  for (int i = 0; i < 2; ++i) {
    left = 10 + 50 * i;
    EXPECT_EQ(s->recover().code(), Code::kInternal);
    EXPECT_EQ(s->position(), fed);
    EXPECT_EQ(s->stats().position, fed);
    EXPECT_EQ(feed(*s, fed, 1, &logits).code(), Code::kDeviceLost);
  }
  s->set_observer(nullptr, nullptr);
  const Status recovered = s->recover();
  ASSERT_TRUE(recovered.is_ok()) << recovered.message();
  EXPECT_TRUE(s->recover().is_ok());
  EXPECT_EQ(s->position(), fed);
  for (const int64_t count : {1, 64, 5}) {
    ASSERT_TRUE(feed(*cpu, fed, count, &wanted).is_ok());
    ASSERT_TRUE(feed(*s, fed, count, &logits).is_ok());
    EXPECT_LE(largest_difference(logits, wanted), 1e-4f * largest(wanted)) << "at " << fed;
    fed += count;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Recovery,
                         testing::Values("tiny_gemma3", "tiny_lfm2", "tiny_mamba2", "tiny_recurrent_gemma"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace runnel::convert
