#include "ops/golden.h"
#include "ops/recurrence_test.h"
#include "runtime/ops/route/route.h"

namespace runnel::test {
namespace {

Case make(std::vector<float> logits, std::vector<float> bias, int64_t experts, int64_t k, RouteParams p) {
  Case t;
  t.op = "route";
  *params_of<RouteParams>(&t.params) = p;
  const int64_t tokens = int64_t(logits.size()) / experts;
  t.in = {Array::f32({tokens, experts}, logits), bias.empty() ? Array() : Array::f32({experts}, bias)};
  t.out = {Array(DType::kF32, {tokens, k}), Array(DType::kI32, {tokens, k})};
  return t;
}

void expect(const Case& t, std::vector<int32_t> ids, std::vector<double> weights) {
  const Ran r = run_reference(t);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(r.out[1].data<int32_t>()[i], ids[i]) << i;
    EXPECT_NEAR(r.out[0].data<float>()[i], weights[i], 1e-6) << i;
  }
}

TEST(Route, SoftmaxBeforeAndAfterTheChoice) {
  const double e = std::exp(1.0), all = e * e + e + 1 + 1 / e;
  expect(make({0, 2, 1, -1}, {}, 4, 2, {RouteScoring::kSoftmax, false, false, false, 0, 1, 1, 1}), {1, 2},
         {e * e / all, e / all});
  expect(make({0, 2, 1, -1}, {}, 4, 2, {RouteScoring::kSoftmax, false, true, false, 0, 1, 1, 1}), {1, 2},
         {e / (e + 1), 1 / (e + 1)});
  expect(make({0, 2, 1, -1}, {}, 4, 2, {RouteScoring::kSoftmax, true, false, false, 0, 3, 1, 1}), {1, 2},
         {3 * e / (e + 1), 3 / (e + 1)});
}

TEST(Route, BiasChoosesButDoesNotWeigh) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  expect(make({0, 2, 1, -1}, {0, -5, 0, 0.5f}, 4, 2, {RouteScoring::kSigmoid, false, false, false, 0, 1, 1, 1}), {3, 2},
         {sigmoid(-1), sigmoid(1)});
}

TEST(Route, GroupsAreChosenFirst) {
  // Groups {5, 0}, {3, 3}, {4, 1}: the two best sum to 5, 6, 5.
  const RouteParams top2{RouteScoring::kNone, false, false, true, 0, 1, 3, 1},
      top1{RouteScoring::kNone, false, false, false, 0, 1, 3, 1};
  expect(make({5, 0, 3, 3, 4, 1}, {}, 6, 2, top2), {2, 3}, {3, 3});
  expect(make({5, 0, 3, 3, 4, 1}, {}, 6, 2, top1), {0, 1}, {5, 0});
}

TEST(Route, AtTheLimitsOfADevice) {
  const Array logits = Array::random({2, 1024}, 1, 3.0f);
  const std::vector<float> values(logits.data<float>(), logits.data<float>() + 2048);
  compare_all(make(values, {}, 1024, 1024, {RouteScoring::kSoftmax, false, true, false, 0, 1, 1, 1}), 1e-5);
  compare_all(make(values, {}, 1024, 2, {RouteScoring::kSigmoid, false, true, false, 0, 1, 1024, 512}), 1e-5);
}

TEST(Route, TiesAndNanTakeTheLowerId) {
  expect(make({1, 1, 1}, {}, 3, 3, {RouteScoring::kNone, false, false, false, 0, 1, 1, 1}), {0, 1, 2}, {1, 1, 1});
  const Ran r = run_reference(make({NAN, 1, NAN}, {}, 3, 2, {RouteScoring::kNone, false, false, false, 0, 1, 1, 1}));
  EXPECT_EQ(r.out[1].data<int32_t>()[0], 1);
  EXPECT_EQ(r.out[1].data<int32_t>()[1], 0);
}

TEST(Route, RefusesMoreThanThereAre) {
  EXPECT_NE(refusal(make({1, 2, 3, 4}, {}, 4, 3, {RouteScoring::kNone, false, false, false, 0, 1, 2, 1}))
                .find("3 experts chosen among 2"),
            std::string::npos);
}

TEST(Route, GoldensOfTransformers) {
  const Golden golden("route");
  const std::pair<const char*, RouteParams> routers[] = {
      {"mixtral", {RouteScoring::kSoftmax, false, true, false, 0, 1, 1, 1}},
      {"qwen3_next", {RouteScoring::kSoftmax, false, true, false, 0, 1, 1, 1}},
      {"deepseek_v3", {RouteScoring::kSigmoid, false, true, true, 1e-20f, 2.5f, 4, 2}},
      {"gpt_oss", {RouteScoring::kSoftmax, true, false, false, 0, 1, 1, 1}},
  };
  for (const auto& [name, params] : routers) {
    const std::string n = name;
    Case t;
    t.op = "route";
    *params_of<RouteParams>(&t.params) = params;
    t.in = {golden[n + ".logits"], n == "deepseek_v3" ? golden[n + ".bias"] : Array()};
    t.out = {golden[n + ".weights"], golden[n + ".ids"]};
    const std::vector<Array> want = t.out;
    expect_golden(t, 0, want[0], 1e-6, n + " weights");
    expect_golden(t, 1, want[1], 0, n + " ids");
  }
}

}  // namespace
}  // namespace runnel::test
