#include "runtime/ops/layer_norm/layer_norm.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, bool weight, bool bias) {
  Case t;
  t.op = "layer_norm";
  params_of<LayerNormParams>(&t.params)->eps = 1e-5f;
  t.in = {Array::random(dims, 1), weight ? Array::random({dims.back()}, 2) : Array(),
          bias ? Array::random({dims.back()}, 3) : Array()};
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(LayerNorm, MatchesReferenceAtTheEdges) {
  for (int64_t channels : {1, 2, 15, 16, 17, 31, 64, 100, 640, 4097})
    for (int64_t rows : {0, 1, 2, 7, 65})
      for (int options = 0; options < 4; ++options) compare_all(make({rows, channels}, options & 1, options & 2), 1e-5);
}

TEST(LayerNorm, NormalisesTheLastAxis) { compare_all(make({3, 5, 24}, true, true), 2e-6); }

TEST(LayerNorm, ALargeMeanDoesNotCancel) {
  Case t = make({4, 300}, false, false);
  for (int i = 0; i < 1200; ++i) t.in[0].data<float>()[i] += 1000.0f;
  compare_all(t, 1e-4);  // the inputs themselves carry 24 bits of 1000
}

TEST(LayerNorm, ReferenceHoldsTheFormula) {
  Case t = make({1, 2}, true, true);
  t.in = {Array::f32({1, 2}, {3, 7}), Array::f32({2}, {1, 2}), Array::f32({2}, {10, 20})};
  const Ran r = run_reference(t);
  const double inv = 1 / std::sqrt(4 + 1e-5);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[0], float(-2 * inv + 10));
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[1], float(2 * inv * 2 + 20));
}

TEST(LayerNorm, RefusesWrongShapesByName) {
  Case t = make({2, 8}, true, true);
  t.in[2] = Array::random({7}, 1);
  std::vector<TensorView> views;
  const Status s = find_op_by_name("layer_norm")->check(t.call(t.in, t.out, views));
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(s.message()).find("bias is f32[7]"), std::string::npos) << s.message();
}

}  // namespace
}  // namespace runnel::test
