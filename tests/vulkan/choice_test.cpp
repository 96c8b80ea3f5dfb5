// The greedy choice on the device: the token that the CPU chooses from the same logits, and a few bytes for the host
// instead of them.
#include <cmath>
#include <limits>
#include <random>

#include "converter/kit.h"
#include "text/generate.h"
#include "text/sampler.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::convert {
namespace {

// A program whose output rows are rows of its input, so that any value can be chosen from.
std::unique_ptr<Model> rows_of_input(int64_t n) {
  const std::string size = std::to_string(n);
  TemporaryFolder tmp;
  write_file(tmp / "g.json", R"({
    "context": 64,
    "symbols": [{"name": "context", "kind": "option"}, {"name": "chunk", "kind": "option"}, {"name": "rollback", "kind": "option"}, {"name": "rows", "kind": "option"},
                {"name": "T", "kind": "axis", "bound": "chunk"}, {"name": "R", "kind": "axis", "bound": "rows"}],
    "programs": [{"name": "main",
      "inputs": [{"name": "x", "shape": ["T", ")" +
                                 size + R"("]}, {"name": "rows", "dtype": "i32", "shape": ["R"], "role": "rows"}],
      "values": [{"name": "h", "shape": ["T", ")" +
                                 size + R"("]}, {"name": "logits", "shape": ["R", ")" + size + R"("]}],
      "ops": [{"name": "slice", "inputs": ["x"], "outputs": ["h"], "attrs_type": "SliceAttrs", "attrs": {"axis": 1, "begin": 0}},
              {"name": "gather_rows", "inputs": ["h", "rows"], "outputs": ["logits"]}],
      "outputs": ["logits"]}]})");
  write_file(tmp / "w.safetensors", safetensors_of({}));
  convert_to(tmp / "g.json", tmp / "m.rnl", Weights::kKeep, tmp / "w.safetensors");
  return open_model(tmp / "m.rnl");
}

std::unique_ptr<Session> make(const Model& model, BackendKind backend, int64_t chunk = 16) {
  PlanOptions o;
  o.backend = backend;
  o.context = 256;
  o.chunk = chunk;
  o.rollback = 16;
  auto s = Session::create(model, nullptr, o, nullptr, nullptr);
  if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
  return std::move(s.value());
}

struct Seen {
  int32_t choice = -1;
  int64_t logits = 0;
};

Status choose_last(Session& s, const std::vector<float>& rows, int64_t n, Seen* seen) {
  IoTensor in{"x", DType::kF32, 2, {int64_t(rows.size()) / n, n}, const_cast<float*>(rows.data()), rows.size() * 4};
  Session::RunOptions o;
  o.choice = &seen->choice;
  o.choose_among = n;
  o.sink_context = seen;
  o.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    auto& k = *static_cast<Seen*>(context);
    k.logits += view_bytes(block) / 4;
    return Status::ok();
  };
  return s.run(&in, 1, o);
}

TEST(Choice, IsTheLowestOfTheHighest) {
  std::mt19937 rng(3);
  const float tiny = std::numeric_limits<float>::denorm_min();
  for (const int64_t n : {1, 2, 63, 64, 65, 1024, 1025, 5000, 300000}) {
    const auto model = rows_of_input(n);
    auto s = make(*model, BackendKind::kVulkan, 2);
    const auto expect = [&](const std::vector<float>& last, const char* what) {
      std::vector<float> rows(size_t(n), 7.0f);  // a token before it, whose row would give another choice
      rows.insert(rows.end(), last.begin(), last.end());
      Seen seen;
      const Status status = choose_last(*s, rows, n, &seen);
      ASSERT_TRUE(status.is_ok()) << status.message();
      auto want = argmax(last.data(), int32_t(n));
      ASSERT_TRUE(want.is_ok());
      EXPECT_EQ(seen.choice, want.value()) << what << " of " << n;
      EXPECT_EQ(seen.logits, 0) << what;
    };
    std::vector<float> v(size_t(n), 0.0f);
    expect(v, "zeros");
    for (size_t i = 0; i < v.size(); i += 2) v[i] = -0.0f;
    expect(v, "zeros of both signs");
    v[size_t(n) / 2] = tiny;
    expect(v, "a number that some devices take for 0");
    v.assign(size_t(n), -tiny);
    v[size_t(n - 1)] = -0.0f;
    expect(v, "the last one");
    v.assign(size_t(n), -std::numeric_limits<float>::max());
    expect(v, "the lowest numbers");
    for (int round = 0; round < 12; ++round) {
      for (float& x : v)
        x = float(int(rng() % 2001) - 1000) * (round % 3 == 0 ? 1e-38f : round % 3 == 1 ? 1.0f : 1e30f);
      if (round % 2)
        for (int k = 0; k < 5; ++k) v[rng() % v.size()] = 1001;
      expect(v, "random values");
    }
    EXPECT_EQ(s->backend()->stats().cpu_ops, 0u);
  }
}

TEST(Choice, MustBeOfFiniteValues) {
  const auto model = rows_of_input(3000);
  for (const float bad : {INFINITY, -INFINITY, NAN})
    for (const size_t at : {size_t(0), size_t(1500), size_t(2999)}) {
      auto s = make(*model, BackendKind::kVulkan);
      std::vector<float> v(3000, 1.0f);
      v[at] = bad;
      Seen seen;
      EXPECT_EQ(choose_last(*s, v, 3000, &seen).code(), Code::kNonFinite) << bad << " at " << at;
      EXPECT_EQ(seen.choice, -1);
      EXPECT_EQ(s->position(), 0);
      v[at] = 2;
      const Status status = choose_last(*s, v, 3000, &seen);
      EXPECT_TRUE(status.is_ok()) << status.message();
      EXPECT_EQ(seen.choice, int32_t(at));
    }
}

std::vector<int32_t> greedy(Session& s, const std::vector<int32_t>& ids, int64_t n, Status* status) {
  GenerateOptions o;
  o.max_tokens = n;
  o.ignore_end = true;
  o.sampling.temperature = 0;
  std::vector<int32_t> out;
  int64_t generated = 0;
  *status = generate(
      s, ids.data(), ids.size(), o,
      [](void* context, int32_t id, const char*, size_t) {
        static_cast<std::vector<int32_t>*>(context)->push_back(id);
        return true;
      },
      &out, &generated);
  return out;
}
std::vector<int32_t> greedy(Session& s, const std::vector<int32_t>& ids, int64_t n) {
  Status status;
  std::vector<int32_t> out = greedy(s, ids, n, &status);
  EXPECT_TRUE(status.is_ok()) << status.message();
  return out;
}

struct Source {
  const char *name, *folder;
  Weights weights;
  Head head;
};
class GreedyText : public testing::TestWithParam<Source> {
 protected:
  void SetUp() override {
    TemporaryFolder tmp;
    ConvertOptions o;
    o.input = kGoldens / GetParam().folder;
    o.output = tmp / "m.rnl";
    o.weights = GetParam().weights;
    o.head = GetParam().head;
    convert(o);
    model_ = open_model(tmp / "m.rnl");
  }
  std::unique_ptr<Model> model_;
  const std::vector<int32_t> prompt_ = {3, 17, 5, 40, 9, 22, 2, 31, 8, 13, 27, 50, 6, 19, 44, 1, 35, 12, 7};
};

// The same tokens as a device whose logits the host sees; and after a roll-back, a snapshot
// and a fork, the same again.
TEST_P(GreedyText, IsWhatTheLogitsSay) {
  auto s = make(*model_, BackendKind::kVulkan), seen = make(*model_, BackendKind::kVulkan);
  const std::vector<int32_t> text = greedy(*s, prompt_, 24);
  ASSERT_EQ(text.size(), 24u);
  std::vector<int32_t> ids = prompt_, want;
  for (int i = 0; i < 24; ++i) {
    std::vector<float> logits;
    ASSERT_TRUE(feed_ids(*seen, ids, &logits).is_ok());
    want.push_back(argmax(logits.data(), int32_t(logits.size())).value());
    ids = {want.back()};
  }
  EXPECT_EQ(text, want);
  // The last token is pending: the stream holds the 23 before it.
  ASSERT_TRUE(s->rollback(9).is_ok());
  const std::vector<int32_t> tail(want.end() - 10, want.end() - 9);
  std::vector<unsigned char> kept(s->snapshot_bytes());
  ASSERT_TRUE(s->snapshot(kept.data(), kept.size()).is_ok());
  const std::vector<int32_t> rest(want.end() - 9, want.end());
  EXPECT_EQ(greedy(*s, tail, 9), rest) << "after a roll-back";
  ASSERT_TRUE(s->restore(kept.data(), kept.size()).is_ok());
  EXPECT_EQ(greedy(*s, tail, 9), rest) << "after a snapshot";
  ASSERT_TRUE(s->restore(kept.data(), kept.size()).is_ok());
  auto fork = s->fork();
  ASSERT_TRUE(fork.is_ok());
  EXPECT_EQ(greedy(*fork.value(), tail, 9), rest) << "of a fork";
}

TEST_P(GreedyText, GoesOnWhenTheDeviceIsLost) {
  // On the CPU products of 8-bit weights round: there what follows the loss may be another text.
  const bool is_exact = GetParam().weights == Weights::kKeep;
  std::vector<int32_t> want = greedy(*make(*model_, is_exact ? BackendKind::kCpu : BackendKind::kVulkan), prompt_, 24);
  auto device = vulkan::shared_device();
  ASSERT_TRUE(device.is_ok());
  auto s = make(*model_, BackendKind::kVulkan);
  device.value()->lose_after(11);
  Status status;
  std::vector<int32_t> text = greedy(*s, prompt_, 24, &status);
  ASSERT_EQ(status.code(), Code::kDeviceLost) << status.message();
  ASSERT_FALSE(text.empty());
  ASSERT_LT(text.size(), 24u);
  ASSERT_TRUE(s->recover().is_ok());
  const std::vector<int32_t> rest = greedy(*s, {}, 24 - int64_t(text.size()));
  EXPECT_EQ(rest.size(), 24 - text.size());
  if (!is_exact) want.resize(text.size());
  else text.insert(text.end(), rest.begin(), rest.end());
  EXPECT_EQ(text, want);
}

// At every submission: the stream then holds what was delivered, and after a recovery the text goes on; where nothing
// was delivered it is as before.
TEST(LostText, HoldsWhatWasDelivered) {
  TemporaryFolder tmp;
  for (const auto& [folder, every] :
       {std::pair{"tiny_gemma3", 256}, std::pair{"tiny_gemma3", 1}, std::pair{"tiny_mamba2", 3}}) {
    convert_to(kGoldens / folder, tmp / "m.rnl");
    const auto model = open_model(tmp / "m.rnl");
    const std::vector<int32_t> first = {3, 17, 5}, prompt = {40, 9, 22, 2};
    const auto begun = [&](BackendKind backend, int64_t snapshot_every) {
      PlanOptions o;
      o.backend = backend;
      o.context = 64;
      o.snapshot_every = snapshot_every;
      auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
      if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
      (void)greedy(*s.value(), first, 2);  // one of them is pending then
      return std::move(s.value());
    };
    const std::vector<int32_t> want = greedy(*begun(BackendKind::kCpu, 256), prompt, 6);
    for (int64_t n = 1;; ++n) {
      auto s = begun(BackendKind::kVulkan, every);
      const int64_t before = s->position();
      vulkan::shared_device().value()->lose_after(n);
      Status status;
      std::vector<int32_t> text = greedy(*s, prompt, 6, &status);
      if (status.is_ok()) {
        vulkan::shared_device().value()->lose_after(0);
        EXPECT_GE(n, 6);
        break;
      }
      ASSERT_EQ(status.code(), Code::kDeviceLost) << status.message();
      // The pending token, the prompt, and all that was delivered but the last.
      const int64_t position = text.empty() ? before : before + 1 + int64_t(prompt.size() + text.size()) - 1;
      EXPECT_EQ(s->position(), position) << "lost at " << n << ", every " << every;
      ASSERT_TRUE(s->recover().is_ok());
      EXPECT_EQ(s->position(), position);
      const std::vector<int32_t> rest =
          greedy(*s, text.empty() ? prompt : std::vector<int32_t>(), 6 - int64_t(text.size()));
      text.insert(text.end(), rest.begin(), rest.end());
      EXPECT_EQ(text, want) << folder << ", lost at " << n << ", every " << every;
    }
  }
}

constexpr Source kSources[] = {
    {"gemma3", "tiny_gemma3", Weights::kKeep, Head::kAuto},
    {"gemma3_split", "tiny_gemma3", Weights::kQ8, Head::kSplit},
    {"mamba2", "tiny_mamba2", Weights::kKeep, Head::kAuto},
    {"lfm2", "tiny_lfm2", Weights::kKeep, Head::kAuto},
};
INSTANTIATE_TEST_SUITE_P(All, GreedyText, testing::ValuesIn(kSources),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace runnel::convert
