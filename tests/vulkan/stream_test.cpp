// Streams as long and as often rolled back as the CPU's are. Minutes on a device that is a CPU; label long.
#include <sys/resource.h>

#include <random>

#include "converter/kit.h"

namespace runnel::convert {
namespace {

int32_t id_at(int64_t i) { return int32_t(uint64_t(i * 2654435761u >> 7) % 61); }

class Stream {
 public:
  Stream(const Model& model, BackendKind backend, int64_t context) {
    PlanOptions o;
    o.backend = backend;
    o.context = context;
    o.chunk = 256;
    o.rollback = 32;
    auto s = Session::create(model, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    session_ = std::move(s.value());
  }
  // Tokens whose ids depend on their number, the last one's logits kept.
  void feed(const std::vector<int32_t>& ids) {
    const Status s = feed_ids(*session_, ids, &logits);
    if (!s.is_ok()) throw std::runtime_error(s.message());
  }
  Session& session() { return *session_; }
  std::vector<float> logits;

 private:
  std::unique_ptr<Session> session_;
};

std::unique_ptr<Model> converted(const std::string& folder) {
  TemporaryFolder tmp;
  convert_to(kGoldens / folder, tmp / "m.rnl");
  return open_model(tmp / "m.rnl");
}

long peak_kilobytes() {
  rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_maxrss;
}

// A device that is a CPU takes 210 seconds for a million tokens of Mamba-2 and four times as long for as many of
// RecurrentGemma, which has a quarter of them.
class Streams : public testing::TestWithParam<std::pair<const char*, int64_t>> {};

TEST_P(Streams, UpToAMillionTokens) {
  constexpr int64_t kCall = 4000;
  const int64_t tokens = GetParam().second;
  const auto model = converted(GetParam().first);
  Stream device(*model, BackendKind::kVulkan, 1 << 20), cpu(*model, BackendKind::kCpu, 1 << 20);
  std::vector<int32_t> ids(kCall);
  long early = 0;
  for (int64_t at = 0; at < tokens; at += kCall) {
    for (int64_t i = 0; i < kCall; ++i) ids[size_t(i)] = id_at(at + i);
    device.feed(ids);
    cpu.feed(ids);
    if (at == 20 * kCall) early = peak_kilobytes();
    if (at % 50000 == 0)
      ASSERT_LE(largest_difference(device.logits, cpu.logits), 1e-4f * largest(cpu.logits)) << "at " << at;
  }
  EXPECT_EQ(device.session().position(), tokens);
  EXPECT_LE(largest_difference(device.logits, cpu.logits), 1e-4f * largest(cpu.logits));
  EXPECT_LE(peak_kilobytes() - early, 8192) << "memory grows with the stream";
}

TEST_P(Streams, AThousandRollbacks) {
  const auto model = converted(GetParam().first);
  Stream s(*model, BackendKind::kVulkan, 1024);
  std::vector<int32_t> stream;
  int64_t furthest = 0;
  std::mt19937 rng(11);
  for (int round = 0; round < 1000; ++round) {
    if (s.session().position() > 600) s.session().reset(), stream.clear(), furthest = 0;
    std::vector<int32_t> more;
    for (size_t n = 1 + rng() % (round % 20 == 0 ? 90 : 5); n > 0; --n) more.push_back(id_at(int64_t(rng())));
    s.feed(more);
    stream.insert(stream.end(), more.begin(), more.end());
    furthest = std::max(furthest, s.session().position());
    const int64_t most = std::min<int64_t>(s.session().position() - 1, 32 - (furthest - s.session().position()));
    const int64_t back = most > 0 ? int64_t(rng() % uint64_t(most + 1)) : 0;
    const Status status = s.session().rollback(back);
    ASSERT_TRUE(status.is_ok()) << "round " << round << ": " << status.message();
    stream.resize(stream.size() - size_t(back));
    if (round % 25) continue;
    Stream fresh(*model, BackendKind::kVulkan, 1024);
    fresh.feed(stream);
    fresh.feed({1, 2, 3});
    s.feed({1, 2, 3});
    // Fed by other calls: near, not bit for bit, which the tests of roll-backs show with the same calls.
    EXPECT_LE(largest_difference(s.logits, fresh.logits), 1e-4f * largest(fresh.logits)) << "round " << round;
    stream.insert(stream.end(), {1, 2, 3});
    furthest = std::max(furthest, s.session().position());
  }
}
INSTANTIATE_TEST_SUITE_P(All, Streams,
                         testing::Values(std::pair{"tiny_mamba2", int64_t(1000000)},
                                         std::pair{"tiny_recurrent_gemma", int64_t(252000)}),
                         [](const auto& info) { return std::string(info.param.first); });

}  // namespace
}  // namespace runnel::convert
