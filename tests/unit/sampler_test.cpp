// The sampler against a plain implementation of its description: full sort, doubles, no shortcuts.
#include "text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace runnel {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// p by id of every token that the description leaves possible. `edge` is the smallest distance of any decision from its
// threshold: where it is tiny, float and double may rightly differ.
std::map<int32_t, double> reference(std::vector<float> x, const SamplerOptions& o, const std::vector<int32_t>& history,
                                    double* edge) {
  *edge = 1;
  for (size_t i = 0; i < o.bias_count; ++i) x[size_t(o.bias[i].id)] += o.bias[i].bias;
  std::map<int32_t, int> counts;
  for (size_t i = history.size() > size_t(o.penalty_window) ? history.size() - size_t(o.penalty_window) : 0;
       i < history.size(); ++i)
    ++counts[history[i]];
  for (const auto& [id, n] : counts) {
    float& v = x[size_t(id)];
    v = v > 0 ? v / o.repetition : v * o.repetition;
    v -= o.frequency * float(n) + o.presence;
  }
  std::vector<int32_t> order(x.size());
  for (size_t i = 0; i < x.size(); ++i) order[i] = int32_t(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[size_t(a)] > x[size_t(b)]; });
  if (o.temperature == 0) return {{order[0], 1.0}};
  const double highest = double(x[size_t(order[0])]);
  const auto p = [&](int32_t id) { return std::exp((double(x[size_t(id)]) - highest) / double(o.temperature)); };
  while (!order.empty() && x[size_t(order.back())] == -kInf) order.pop_back();
  if (o.top_k > 0 && order.size() > size_t(o.top_k)) order.resize(size_t(o.top_k));
  double total = 0, have = 0;
  for (const int32_t id : order) total += p(id);
  if (o.top_p < 1) {
    size_t keep = 0;
    while (keep < order.size() && have < double(o.top_p) * total) {
      have += p(order[keep++]);
      *edge = std::min(*edge, std::fabs(have / total - double(o.top_p)));
    }
    order.resize(std::max<size_t>(keep, 1));
  }
  std::map<int32_t, double> out;
  double mass = 0;
  for (const int32_t id : order) {
    if (o.min_p > 0 && x[size_t(id)] != x[size_t(order[0])])
      *edge = std::min(*edge, std::fabs(p(id) - double(o.min_p)));
    if (p(id) >= double(o.min_p)) out[id] = p(id), mass += p(id);
  }
  for (auto& [id, v] : out) v /= mass;
  return out;
}

std::unique_ptr<SamplerState> state_of(uint64_t seed, const std::vector<int32_t>& history = {}) {
  auto s = std::make_unique<SamplerState>();
  *s = {};
  s->seed = seed;
  for (const int32_t id : history) s->accept(id);
  return s;
}

Sampler make(const SamplerOptions& o, size_t vocab) {
  auto r = Sampler::create(o, int32_t(vocab));
  EXPECT_TRUE(r.is_ok());
  return std::move(r.value());
}

int32_t sample(Sampler& s, const std::vector<float>& x, const SamplerState& state) {
  auto r = s.sample(x.data(), state);
  if (!r.is_ok()) ADD_FAILURE() << r.take_status().message();
  return r.is_ok() ? r.value() : -1;
}

std::vector<float> random_logits(std::mt19937& rng, size_t n, float spread) {
  std::normal_distribution<float> d(0, spread);
  std::vector<float> x(n);
  for (float& v : x) v = d(rng);
  return x;
}

TEST(Sampler, PhiloxMatchesThePublishedVectors) {
  const auto expect = [](PhiloxBlock b, uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3) {
    EXPECT_EQ(b.words[0], w0);
    EXPECT_EQ(b.words[1], w1);
    EXPECT_EQ(b.words[2], w2);
    EXPECT_EQ(b.words[3], w3);
  };
  expect(philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect(philox(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect(philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull), 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1);
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  std::mt19937 rng(1);
  for (const size_t n : {1u, 2u, 15u, 16u, 17u, 2047u, 2048u, 2049u, 5000u, 262144u}) {
    auto x = random_logits(rng, n, 3);
    for (float& v : x) v = std::round(v * 4) / 4;  // many ties
    auto r = argmax(x.data(), int32_t(n));
    ASSERT_TRUE(r.is_ok());
    EXPECT_EQ(r.value(), std::max_element(x.begin(), x.end()) - x.begin()) << n;
    Sampler s = make({}, n);
    EXPECT_EQ(sample(s, x, *state_of(0)), r.value());
  }
}

TEST(Sampler, NonFiniteLogitsAreRefused) {
  SamplerOptions warm;
  warm.temperature = 1;
  for (const SamplerOptions& o : {SamplerOptions(), warm})
    for (const size_t n : {1u, 5u, 16u, 3000u})
      for (const size_t at : {size_t(0), n / 2, n - 1})
        for (const float bad : {kNan, kInf}) {
          std::vector<float> x(n, 0.5f);
          x[at] = bad;
          Sampler s = make(o, n);
          auto r = s.sample(x.data(), *state_of(0));
          ASSERT_FALSE(r.is_ok());
          EXPECT_EQ(r.take_status().code(), Code::kNonFinite);
        }
  std::vector<float> x(100, -kInf);
  for (const SamplerOptions& o : {SamplerOptions(), warm}) {
    Sampler s = make(o, 100);
    auto r = s.sample(x.data(), *state_of(0));
    ASSERT_FALSE(r.is_ok());
    EXPECT_EQ(r.take_status().code(), Code::kNonFinite);
  }
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  const auto refused = [](auto change) {
    SamplerOptions o;
    change(o);
    auto r = Sampler::create(o, 10);
    return !r.is_ok() && r.take_status().code() == Code::kInvalidArgument;
  };
  const LogitBias outside = {10, 1.0f}, infinite = {1, kInf};
  EXPECT_TRUE(refused([](auto& o) { o.temperature = -1; }));
  EXPECT_TRUE(refused([](auto& o) { o.temperature = kNan; }));
  EXPECT_TRUE(refused([](auto& o) { o.temperature = kInf; }));
  EXPECT_TRUE(refused([](auto& o) { o.top_k = -1; }));
  EXPECT_TRUE(refused([](auto& o) { o.top_p = 1.5f; }));
  EXPECT_TRUE(refused([](auto& o) { o.top_p = kNan; }));
  EXPECT_TRUE(refused([](auto& o) { o.min_p = -0.1f; }));
  EXPECT_TRUE(refused([](auto& o) { o.repetition = 0; }));
  EXPECT_TRUE(refused([](auto& o) { o.presence = kNan; }));
  EXPECT_TRUE(refused([](auto& o) { o.frequency = kInf; }));
  EXPECT_TRUE(refused([](auto& o) { o.penalty_window = kMaxPenaltyWindow + 1; }));
  EXPECT_TRUE(refused([&](auto& o) { o.bias = &outside, o.bias_count = 1; }));
  EXPECT_TRUE(refused([&](auto& o) { o.bias = &infinite, o.bias_count = 1; }));
  EXPECT_FALSE(Sampler::create({}, 0).is_ok());
}

// Draws with many seeds: never an id that the reference excludes, and frequencies as it says.
TEST(Sampler, EveryFilterAgreesWithTheReference) {
  std::mt19937 rng(2);
  const std::vector<LogitBias> bias = {{3, 2.0f}, {5, -kInf}, {7, -1.5f}};
  int compared = 0;
  for (int round = 0; round < 400; ++round) {
    const size_t n = round % 8 == 0 ? 9000 : 8 + rng() % 120;
    auto x = random_logits(rng, n, 2);
    if (round % 3 == 0)
      for (float& v : x) v = std::round(v);
    SamplerOptions o;
    const auto pick = [&](std::initializer_list<float> values) { return values.begin()[rng() % values.size()]; };
    o.temperature = pick({0, 0.3f, 0.8f, 1, 1.7f});
    o.top_k = int32_t(pick({0, 0, 1, 3, 40, 100000}));
    o.top_p = pick({1, 1, 0, 0.3f, 0.9f, 0.999f});
    o.min_p = pick({0, 0, 0.02f, 0.3f, 1});
    o.repetition = pick({1, 1, 1.3f, 0.8f});
    o.frequency = pick({0, 0.4f, -0.2f});
    o.presence = pick({0, 0.7f});
    o.penalty_window = int32_t(pick({0, 5, 64}));
    if (rng() % 2) o.bias = bias.data(), o.bias_count = bias.size();
    std::vector<int32_t> history;
    for (int i = 0; i < 20; ++i) history.push_back(int32_t(rng() % std::min<size_t>(n, 12)));
    double edge;
    const auto want = reference(x, o, history, &edge);
    if (edge < 1e-5) continue;
    ++compared;
    Sampler s = make(o, n);
    std::map<int32_t, int> seen;
    const int draws = n > 1000 ? 100 : 2000;
    auto state = state_of(0, history);
    for (int i = 0; i < draws; ++i) {
      state->seed = uint64_t(i);
      ++seen[sample(s, x, *state)];
    }
    double distance = 0;
    for (const auto& [id, count] : seen)
      ASSERT_TRUE(want.count(id)) << "id " << id << " is impossible, round " << round;
    for (const auto& [id, p] : want) {
      const double f = double(seen.count(id) ? seen[id] : 0) / draws;
      ASSERT_LE(std::fabs(f - p), 5 * std::sqrt(p * (1 - p) / draws) + 3.0 / draws)
          << "id " << id << ", round " << round;
      distance += std::fabs(f - p);
    }
    if (want.size() == 1) ASSERT_EQ(distance, 0);
  }
  EXPECT_GT(compared, 300);
}

TEST(Sampler, FlatDistributionsOfAWholeVocabulary) {
  // Everything survives top-p but the last tenth, by the rank of equal logits: the lowest ids.
  const size_t n = 50000;
  std::vector<float> x(n, 1.0f);
  SamplerOptions o;
  o.temperature = 1;
  o.top_p = 0.9f;
  Sampler s = make(o, n);
  auto state = state_of(0);
  int32_t highest = 0;
  for (int i = 0; i < 300; ++i) {
    state->seed = uint64_t(i);
    highest = std::max(highest, sample(s, x, *state));
  }
  EXPECT_LE(highest, 45000);
  EXPECT_GT(highest, 43000);
}

TEST(Sampler, BoundaryValues) {
  std::mt19937 rng(3);
  const auto x = random_logits(rng, 1000, 2);
  const int32_t best = int32_t(std::max_element(x.begin(), x.end()) - x.begin());
  const auto always_best = [&](auto change) {
    SamplerOptions o;
    o.temperature = 1;
    change(o);
    Sampler s = make(o, x.size());
    for (uint64_t seed = 0; seed < 50; ++seed)
      if (sample(s, x, *state_of(seed)) != best) return false;
    return true;
  };
  EXPECT_TRUE(always_best([](auto& o) { o.top_k = 1; }));
  EXPECT_TRUE(always_best([](auto& o) { o.top_p = 0; }));
  EXPECT_TRUE(always_best([](auto& o) { o.min_p = 1; }));
  EXPECT_TRUE(always_best([](auto& o) { o.temperature = 1e-6f; }));
  EXPECT_TRUE(always_best([](auto& o) { o.temperature = 1e-30f; }));
  EXPECT_TRUE(always_best([](auto& o) { o.temperature = 1e-40f; }));
  EXPECT_FALSE(always_best([](auto& o) { o.top_p = 1; }));
  EXPECT_FALSE(always_best([](auto& o) { o.temperature = 1e38f; }));

  std::vector<float> one(777, -kInf);
  one[500] = -3e38f;
  for (const float t : {0.0f, 1.0f})
    for (const int32_t k : {0, 5}) {
      SamplerOptions o;
      o.temperature = t, o.top_k = k, o.top_p = 0.5f, o.min_p = 0.1f;
      Sampler s = make(o, one.size());
      for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(sample(s, one, *state_of(seed)), 500);
    }
  SamplerOptions single;
  single.temperature = 1;
  Sampler s = make(single, 1);
  EXPECT_EQ(sample(s, {0.25f}, *state_of(9)), 0);
}

TEST(Sampler, TheDrawDependsOnSeedAndPositionOnly) {
  std::mt19937 rng(4);
  const auto x = random_logits(rng, 500, 1);
  SamplerOptions o;
  o.temperature = 1;
  Sampler a = make(o, x.size()), b = make(o, x.size());
  auto state = state_of(42);
  std::vector<int32_t> first;
  for (int i = 0; i < 100; ++i) {
    first.push_back(sample(a, x, *state));
    state->accept(first.back());
  }
  EXPECT_GT(std::set<int32_t>(first.begin(), first.end()).size(), 50u);
  ASSERT_TRUE(state->unwind(60).is_ok());
  for (int i = 40; i < 100; ++i) {
    EXPECT_EQ(sample(b, x, *state), first[size_t(i)]);
    state->accept(first[size_t(i)]);
  }
}

TEST(Sampler, UnwoundHistoryGivesTheSamePenalties) {
  std::mt19937 rng(5);
  const auto x = random_logits(rng, 50, 1);
  SamplerOptions o;
  o.temperature = 1, o.repetition = 1.5f, o.frequency = 0.5f, o.penalty_window = kMaxPenaltyWindow;
  Sampler s = make(o, x.size());
  auto state = state_of(7);
  std::vector<int32_t> chosen;
  for (int i = 0; i < 5000; ++i) {
    chosen.push_back(sample(s, x, *state));
    state->accept(chosen.back());
  }
  for (const uint64_t n : {1u, 64u, 500u, 1024u}) {
    ASSERT_TRUE(state->unwind(n).is_ok());
    for (uint64_t i = 5000 - n; i < 5000; ++i) {
      ASSERT_EQ(sample(s, x, *state), chosen[i]);
      state->accept(chosen[i]);
    }
  }
  EXPECT_EQ(state->unwind(1025).code(), Code::kRollbackRange);
  ASSERT_TRUE(state->unwind(1000).is_ok());
  EXPECT_EQ(state->unwind(25).code(), Code::kRollbackRange);
  EXPECT_EQ(state->unwind(5001).code(), Code::kInvalidArgument);
}

TEST(Sampler, AStateWithIdsOutOfRangeIsHarmless) {
  SamplerOptions o;
  o.repetition = 2;
  Sampler s = make(o, 4);
  auto state = state_of(0, {-1, 4, 1 << 30, 2});
  EXPECT_EQ(sample(s, {1, 0, 1.5f, 0}, *state), 0);  // only id 2 is penalised
}

}  // namespace
}  // namespace runnel
