#include "runtime/ops/batch_matmul/batch_matmul.h"

#include "ops/recurrence_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> a, std::vector<int64_t> b, std::vector<int64_t> y, bool ta = false, bool tb = false,
          float scale = 1) {
  Case t;
  t.op = "batch_matmul";
  *params_of<BatchMatmulParams>(&t.params) = {ta, tb, scale};
  t.in = {Array::random(std::move(a), 1), Array::random(std::move(b), 2)};
  t.out = {Array(DType::kF32, std::move(y))};
  return t;
}

TEST(BatchMatmul, ReferenceHoldsTheFormula) {
  Case t = make({2, 2}, {2, 1}, {2, 1}, false, false, 2);
  t.in = {Array::f32({2, 2}, {1, 2, 3, 4}), Array::f32({2, 1}, {5, 6})};
  Ran r = run_reference(t);
  EXPECT_EQ(r.out[0].data<float>()[0], 34.0f);
  EXPECT_EQ(r.out[0].data<float>()[1], 78.0f);
  params_of<BatchMatmulParams>(&t.params)->transpose_a = true;
  r = run_reference(t);
  EXPECT_EQ(r.out[0].data<float>()[0], 46.0f);
  EXPECT_EQ(r.out[0].data<float>()[1], 68.0f);
}

TEST(BatchMatmul, MatchesReferenceAtTheEdges) {
  for (int64_t m : {0, 1, 3, 4, 9})
    for (int64_t n : {1, 15, 16, 32, 50})
      for (int64_t k : {0, 1, 7, 256, 300}) compare_all(make({m, k}, {k, n}, {m, n}), 1e-5);
}

TEST(BatchMatmul, TransposesAndBroadcasts) {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      const std::vector<int64_t> a = ta ? std::vector<int64_t>{5, 1, 70, 6} : std::vector<int64_t>{5, 1, 6, 70},
                                 b = tb ? std::vector<int64_t>{3, 33, 70} : std::vector<int64_t>{3, 70, 33};
      compare_all(make(a, b, {5, 3, 6, 33}, ta, tb, 0.5f), 1e-5);
    }
}

TEST(BatchMatmul, RefusesWrongShapesByName) {
  EXPECT_NE(refusal(make({2, 3}, {4, 5}, {2, 5})).find("does not give"), std::string::npos);
  EXPECT_NE(refusal(make({2, 2, 3}, {3, 3, 5}, {2, 2, 5})).find("does not give"), std::string::npos);
  EXPECT_EQ(refusal(make({2, 2, 3}, {3, 5}, {2, 2, 5})), "");
}

}  // namespace
}  // namespace runnel::test
