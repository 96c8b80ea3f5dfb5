#include "runtime/ops/select_tokens/select_tokens.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<float> scores, int64_t capacity, float threshold = -INFINITY, uint32_t least = 0) {
  Case t;
  t.op = "select_tokens";
  *params_of<SelectTokensParams>(&t.params) = {threshold, least};
  const int64_t n = int64_t(scores.size());
  t.in = {Array::f32({n}, std::move(scores))};
  t.out = {Array(DType::kI32, {capacity}), Array(DType::kI32, {1})};
  return t;
}

std::vector<int32_t> ids_of(const Case& t, int32_t* count = nullptr) {
  Ran r = run_reference(t);
  if (count) *count = r.out[1].data<int32_t>()[0];
  const int32_t* p = r.out[0].data<int32_t>();
  return {p, p + r.out[0].bytes() / 4};
}

// By sorting all of them.
std::vector<int32_t> sorted_choice(const std::vector<float>& scores, size_t capacity, float threshold, size_t least) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int32_t i) { return std::isnan(scores[size_t(i)]); });
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  size_t wanted = 0;
  while (wanted < order.size() && (wanted < least || scores[size_t(order[wanted])] >= threshold)) ++wanted;
  order.resize(std::min(wanted, capacity));
  std::sort(order.begin(), order.end());
  return order;
}

TEST(SelectTokens, IsWhatSortingGives) {
  for (const int64_t n : {0, 1, 2, 7, 40, 300})
    for (const int64_t capacity : {0, 1, 3, 40, 301})
      for (const float threshold : {-INFINITY, -0.25f, 0.0f, 0.5f, INFINITY})
        for (const uint32_t least : {0u, 2u, 1000u})
          for (const bool coarse : {false, true}) {
            const Array drawn = Array::random({n}, uint32_t(n + 1));
            std::vector<float> scores(drawn.data<float>(), drawn.data<float>() + n);
            // Many equal ones, both zeros among them.
            for (float& x : scores) x = coarse ? std::round(x * 2) / 2 : x;
            int32_t count = -1;
            std::vector<int32_t> got = ids_of(make(scores, capacity, threshold, least), &count);
            const auto want = sorted_choice(scores, size_t(capacity), threshold, least);
            ASSERT_EQ(count, int32_t(want.size()));
            for (size_t i = want.size(); i < got.size(); ++i) ASSERT_EQ(got[i], -1);
            got.resize(want.size());
            ASSERT_EQ(got, want) << n << " " << capacity << " " << threshold << " " << least;
          }
}

TEST(SelectTokens, NumbersAtTheEdge) {
  const std::vector<float> scores = {NAN, -INFINITY, INFINITY, -0.0f, 0.0f, -NAN};
  EXPECT_EQ(ids_of(make(scores, 3)), (std::vector<int32_t>{2, 3, 4}));
  EXPECT_EQ(ids_of(make(scores, 2)), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(ids_of(make(scores, 6)), (std::vector<int32_t>{1, 2, 3, 4, -1, -1}));
}

TEST(SelectTokens, Backends) {
  compare_all(make({3, 1, 2, 5, 4}, 3, 1.5f), 0);
  compare_all(make({NAN, -INFINITY, INFINITY, -0.0f, 0.0f, -NAN, 1e-42f, -1e-42f}, 8), 0);
  for (const int64_t n : {1, 63, 64, 65, 300})
    for (const int64_t capacity : {1, 40, 301})
      for (const float threshold : {-INFINITY, 0.0f, 1.0f, INFINITY}) {
        const Array drawn = Array::random({n}, uint32_t(n));
        std::vector<float> scores(drawn.data<float>(), drawn.data<float>() + n);
        for (size_t i = 0; i < scores.size(); i += 2) scores[i] = std::round(scores[i] * 2) / 2;
        compare_all(make(scores, capacity, threshold, 5), 0);
      }
  Case alone = make({3, 1, 2, 5, 4}, 3);
  alone.out.pop_back();
  compare_all(alone, 0);
}

TEST(SelectTokens, Refused) {
  const OpDef& op = *find_op_by_name("select_tokens");
  std::vector<TensorView> views;
  const auto code = [&](Case t) { return op.check(t.call(t.in, t.out, views)).code(); };
  EXPECT_EQ(code(make({1, 2}, 1)), Code::kOk);
  Case t = make({1, 2}, 1);
  t.in[0] = Array::f32({1, 2}, {1, 2});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = make({1, 2}, 1);
  t.out[0] = Array(DType::kF32, {1});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = make({1, 2}, 1);
  t.out[1] = Array(DType::kI32, {2});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
