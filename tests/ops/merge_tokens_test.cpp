#include <cmath>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

// tokens rows of `inner` numbers in `rows` groups.
Case make(int64_t tokens, std::vector<int64_t> inner, int64_t rows, bool has_weight, bool has_total) {
  Case t;
  t.op = "merge_tokens";
  std::vector<int64_t> x{tokens}, y{rows};
  x.insert(x.end(), inner.begin(), inner.end());
  y.insert(y.end(), inner.begin(), inner.end());
  std::vector<int32_t> groups;
  std::mt19937 rng(uint32_t(tokens + rows));
  for (int64_t i = 0; i < tokens; ++i) groups.push_back(int32_t(rng() % uint32_t(std::max<int64_t>(rows, 1))));
  Array weight = Array::random({tokens}, 5);
  for (int64_t i = 0; i < tokens; ++i) weight.data<float>()[i] = 0.25f + std::fabs(weight.data<float>()[i]);
  t.in = {Array::random(x, 3), Array::i32({tokens}, groups), has_weight ? weight : Array()};
  t.out = {Array(DType::kF32, y)};
  if (has_total) t.out.push_back(Array(DType::kF32, {rows}));
  return t;
}

TEST(C6, MergedTokensAreWeightedMeans) {
  for (const int64_t tokens : {0, 1, 5, 40})
    for (const int64_t rows : {1, 3, 40})
      for (const int64_t inner : {1, 6})
        for (const bool has_weight : {false, true}) {
          const Case t = make(tokens, {inner}, rows, has_weight, true);
          const Ran r = run_reference(t);
          for (int64_t g = 0; g < rows; ++g) {
            double total = 0;
            std::vector<double> sum(size_t(inner), 0.0);
            for (int64_t i = 0; i < tokens; ++i) {
              if (t.in[1].data<int32_t>()[i] != g) continue;
              const double w = has_weight ? double(t.in[2].data<float>()[i]) : 1.0;
              total += w;
              for (int64_t d = 0; d < inner; ++d) sum[size_t(d)] += w * double(t.in[0].data<float>()[i * inner + d]);
            }
            ASSERT_NEAR(r.out[1].data<float>()[g], total, 1e-5 * (1 + total));
            for (int64_t d = 0; d < inner; ++d)
              ASSERT_NEAR(r.out[0].data<float>()[g * inner + d], total == 0 ? 0 : sum[size_t(d)] / total, 3e-6);
          }
        }
}

TEST(MergeTokens, Backends) {
  for (const int64_t tokens : {1, 5, 130})
    for (const int64_t rows : {1, 3, 130})
      for (const bool has_weight : {false, true})
        for (const bool has_total : {false, true}) {
          compare_all(make(tokens, {}, rows, has_weight, has_total), 1e-6);
          compare_all(make(tokens, {7}, rows, has_weight, has_total), 1e-6);
          compare_all(make(tokens, {2, 33}, rows, has_weight, has_total), 1e-6);
        }
}

TEST(MergeTokens, WhatHasNoWeightIsNothing) {
  Case t = make(2, {2}, 3, true, true);
  t.in[0] = Array::f32({2, 2}, {1, 2, 3, 4});
  t.in[1] = Array::i32({2}, {1, 1});
  t.in[2] = Array::f32({2}, {0, 0});
  const Ran r = run_reference(t);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(r.out[0].data<float>()[i], 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(r.out[1].data<float>()[i], 0);
}

TEST(MergeTokens, Refused) {
  const OpDef& op = *find_op_by_name("merge_tokens");
  std::vector<TensorView> views;
  const auto code = [&](Case t) { return op.check(t.call(t.in, t.out, views)).code(); };
  const Case good = make(4, {2}, 3, true, true);
  EXPECT_EQ(code(good), Code::kOk);
  Case t = good;
  t.out[0] = Array(DType::kF32, {3, 3});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good;
  t.out[1] = Array(DType::kF32, {4});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good;
  t.in[2] = Array::random({5}, 1);
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good;
  t.in[1].data<int32_t>()[2] = 3;
  const OpCall call = t.call(t.in, t.out, views);
  EXPECT_EQ(op.check_data(call).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
