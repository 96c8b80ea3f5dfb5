#include "runtime/ops/solve/solve.h"

#include "ops/recurrence_test.h"

namespace runnel::test {
namespace {

// a = m m^T + 1/2 I for random m.
Case make(int64_t batch, int64_t n, int64_t columns, float ridge = 0) {
  Case t;
  t.op = "solve";
  params_of<SolveParams>(&t.params)->ridge = ridge;
  const Array m = Array::random({batch, n, n}, 1);
  Array a(DType::kF32, {batch, n, n});
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = i == j ? 0.5 : 0;
        for (int64_t k = 0; k < n; ++k)
          sum += double(m.data<float>()[(b * n + i) * n + k]) * double(m.data<float>()[(b * n + j) * n + k]);
        a.data<float>()[(b * n + i) * n + j] = float(sum);
      }
  t.in = {a, Array::random({batch, n, columns}, 2)};
  t.out = {Array(DType::kF32, {batch, n, columns})};
  return t;
}

TEST(Solve, TheProductIsTheRightHandSide) {
  for (int64_t n : {1, 2, 5, 16, 40, 128})
    for (float ridge : {0.0f, 2.0f}) {
      const Case t = make(3, n, 4, ridge);
      const Ran r = run_reference(t);
      const float *a = t.in[0].data<float>(), *b = t.in[1].data<float>(), *x = r.out[0].data<float>();
      for (int64_t at = 0; at < 3; ++at)
        for (int64_t i = 0; i < n; ++i)
          for (int64_t c = 0; c < 4; ++c) {
            double sum = double(ridge) * double(x[(at * n + i) * 4 + c]);
            for (int64_t k = 0; k < n; ++k) sum += double(a[(at * n + i) * n + k]) * double(x[(at * n + k) * 4 + c]);
            EXPECT_NEAR(sum, b[(at * n + i) * 4 + c], 1e-3) << n;
          }
    }
}

TEST(Solve, EmptyAndNotPositiveDefinite) {
  EXPECT_EQ(run_reference(make(0, 3, 2)).out[0].bytes(), 0u);
  EXPECT_EQ(run_reference(make(2, 3, 0)).out[0].bytes(), 0u);
  Case t = make(1, 2, 1);
  t.in[0] = Array::f32({1, 2, 2}, {1, 0, 0, -1});
  const Ran r = run_reference(t);
  EXPECT_TRUE(std::isnan(r.out[0].data<float>()[1]));
}

TEST(Solve, RefusesWrongShapesByName) {
  Case t = make(1, 3, 2);
  t.in[0] = Array::random({1, 3, 4}, 1);
  EXPECT_NE(refusal(t).find("want [..., n, n]"), std::string::npos);
  EXPECT_NE(refusal(make(1, 129, 1)).find("at most 128"), std::string::npos);
}

}  // namespace
}  // namespace runnel::test
