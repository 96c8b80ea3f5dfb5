#include "ops/op_test.h"
#include "runtime/ops/rms_norm/rms_norm.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, bool weight, bool residual, float eps = 1e-6f) {
  Case t;
  t.op = "rms_norm";
  params_of<RmsNormParams>(&t.params)->eps = eps;
  t.in = {Array::random(dims, 1), weight ? Array::random({dims.back()}, 2) : Array(),
          residual ? Array::random(dims, 3) : Array()};
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(RmsNorm, MatchesReferenceAtTheEdges) {
  for (int64_t channels : {1, 2, 15, 16, 17, 31, 64, 100, 640, 4097})
    for (int64_t rows : {0, 1, 2, 7, 65})
      for (int options = 0; options < 4; ++options) compare_all(make({rows, channels}, options & 1, options & 2), 1e-6);
}

TEST(RmsNorm, NormalisesTheLastAxisOfHeads) { compare_all(make({3, 5, 24}, true, false), 1e-6); }

TEST(RmsNorm, ReferenceHoldsTheFormula) {
  Case t;
  t.op = "rms_norm";
  params_of<RmsNormParams>(&t.params)->eps = 1e-5f;
  t.in = {Array::f32({1, 2}, {3, 4}), Array::f32({2}, {1, 2}), Array::f32({1, 2}, {10, 20})};
  t.out = {Array(DType::kF32, {1, 2})};
  const Ran r = run_reference(t);
  const double inv = 1 / std::sqrt(12.5 + 1e-5);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[0], float(3 * inv + 10));
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[1], float(4 * inv * 2 + 20));
}

TEST(RmsNorm, RefusesWrongShapesByName) {
  Case t = make({2, 8}, true, false);
  t.in[1] = Array::random({7}, 1);
  std::vector<TensorView> views;
  const Status s = find_op_by_name("rms_norm")->check(t.call(t.in, t.out, views));
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(s.message()).find("weight is f32[7]"), std::string::npos) << s.message();
}

}  // namespace
}  // namespace runnel::test
