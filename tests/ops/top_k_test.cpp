#include "runtime/ops/top_k/top_k.h"

#include <algorithm>
#include <numeric>

#include "ops/recurrence_test.h"

namespace runnel::test {
namespace {

Case make(Array x, std::vector<int64_t> shape, bool smallest = false, bool last = false) {
  Case t;
  t.op = "top_k";
  *params_of<TopKParams>(&t.params) = {smallest, last};
  t.in = {std::move(x)};
  t.out = {Array(DType::kF32, shape), Array(DType::kI32, shape)};
  return t;
}

TEST(TopK, SortsAsAStableSort) {
  for (const int64_t n : {1, 7, 64, 200})
    for (const int64_t k : {int64_t(0), int64_t(1), std::min<int64_t>(n, 5), n})
      for (const bool smallest : {false, true})
        for (const bool last : {false, true}) {
          Array x = Array::random({3, n}, uint32_t(n));
          float* v = x.data<float>();
          for (int64_t i = 0; i < 3 * n; ++i) v[i] = std::round(v[i] * 4);  // many equal ones
          if (n > 60) v[3] = NAN, v[40] = NAN, v[n + 2] = INFINITY, v[n + 9] = -INFINITY, v[5] = -0.0f, v[6] = 0.0f;
          const Case t = make(x, {3, k}, smallest, last);
          const Ran r = run_reference(t);
          for (int64_t row = 0; row < 3; ++row) {
            const float* from = x.data<float>() + row * n;
            std::vector<int32_t> order(static_cast<size_t>(n));
            std::iota(order.begin(), order.end(), 0);
            if (last) std::reverse(order.begin(), order.end());
            std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
              if (std::isnan(from[a]) || std::isnan(from[b])) return !std::isnan(from[a]) && std::isnan(from[b]);
              return smallest ? from[a] < from[b] : from[a] > from[b];
            });
            for (int64_t i = 0; i < k; ++i) {
              ASSERT_EQ(r.out[1].data<int32_t>()[row * k + i], order[size_t(i)]) << n << " " << k << " " << i;
              ASSERT_EQ(0, std::memcmp(r.out[0].data<float>() + row * k + i, from + order[size_t(i)], 4));
            }
          }
        }
}

TEST(TopK, IdsMayBeAbsent) {
  Case t = make(Array::f32({4}, {1, 3, 2, 3}), {2});
  t.out.pop_back();
  const float want[2] = {3, 3};
  EXPECT_EQ(0, std::memcmp(run_reference(t).out[0].data<float>(), want, sizeof want));
}

TEST(TopK, Refuses) {
  EXPECT_NE(refusal(make(Array::random({2, 4}, 1), {2, 5})).find("values are f32[2, 5] of x f32[2, 4]"),
            std::string::npos);
  EXPECT_NE(refusal(make(Array::random({2, 4}, 1), {3, 4})).find("values are"), std::string::npos);
  EXPECT_NE(refusal(make(Array::i32({4}, {1, 2, 3, 4}), {2})).find("want f32 [..., n]"), std::string::npos);
  Case t = make(Array::random({2, 4}, 1), {2, 3});
  t.out[1] = Array(DType::kI32, {2, 2});
  EXPECT_NE(refusal(t).find("ids are i32[2, 2] but values f32[2, 3]"), std::string::npos) << refusal(t);
}

}  // namespace
}  // namespace runnel::test
