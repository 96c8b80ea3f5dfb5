#include "runtime/ops/group_norm/group_norm.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, int64_t groups) {
  Case t;
  t.op = "group_norm";
  *params_of<GroupNormParams>(&t.params) = {groups, 1e-5f};
  t.in = {Array::random(dims, 1), Array::random({dims.back()}, 2), Array::random({dims.back()}, 3)};
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(GroupNorm, ReferenceHoldsTheFormula) {
  for (const int64_t groups : {1, 2, 6}) {
    const Case t = make({2, 3, 2, 6}, groups);
    const Ran r = run_reference(t);
    const int64_t each = 6 / groups;
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t g = 0; g < groups; ++g) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < 6 * each; ++i) {
          const double v = t.in[0].data<float>()[(b * 6 + i / each) * 6 + g * each + i % each];
          sum += v, square += v * v;
        }
        const double n = double(6 * each), mean = sum / n, deviation = std::sqrt(square / n - mean * mean + 1e-5);
        for (int64_t i = 0; i < 6 * each; ++i) {
          const int64_t channel = g * each + i % each, at = (b * 6 + i / each) * 6 + channel;
          const double want = (t.in[0].data<float>()[at] - mean) / deviation * t.in[1].data<float>()[channel] +
                              t.in[2].data<float>()[channel];
          EXPECT_NEAR(r.out[0].data<float>()[at], want, 1e-5);
        }
      }
  }
}

TEST(GroupNorm, Refuses) {
  Case t = make({2, 3, 6}, 4);
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("group_norm")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
