#include "runtime/ops/softmax/softmax.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, float scale) {
  Case t;
  t.op = "softmax";
  params_of<SoftmaxParams>(&t.params)->scale = scale;
  t.in = {Array::random(dims, 1, 5.0f)};
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(Softmax, MatchesReferenceAtTheEdges) {
  for (int64_t channels : {1, 2, 15, 16, 17, 31, 100, 5000})
    for (int64_t rows : {0, 1, 2, 7, 65})
      for (float scale : {1.0f, -0.5f, 40.0f, 0.0f}) compare_all(make({rows, channels}, scale), 1e-5);
}

TEST(Softmax, MasksAndNan) {
  for (int64_t n : {3, 16, 20, 37}) {
    Case t = make({4, n}, 1);
    float* x = t.in[0].data<float>();
    for (int64_t i = 0; i < n; ++i) x[i] = -INFINITY;
    x[n + 1] = -INFINITY;
    x[2 * n + 2] = NAN;
    x[3 * n] = INFINITY;
    compare_all(t, 1e-6);
    const Ran r = run_reference(t);
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(r.out[0].data<float>()[i], 0.0f);
    for (int64_t i = 0; i < n; ++i) EXPECT_TRUE(std::isnan(r.out[0].data<float>()[2 * n + i]));
  }
}

TEST(Softmax, ReferenceHoldsTheFormula) {
  Case t = make({1, 2}, 2);
  t.in = {Array::f32({1, 2}, {1, 2})};
  const Ran r = run_reference(t);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[0], float(1 / (1 + std::exp(2.0))));
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[1], float(1 / (1 + std::exp(-2.0))));
}

TEST(Softmax, Refuses) {
  Case t = make({2, 8}, 1);
  t.out = {Array(DType::kF32, {2, 7})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("softmax")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  flatbuffers::FlatBufferBuilder b;
  b.Finish(format::CreateSoftmaxAttrs(b, NAN));
  OpParams p;
  EXPECT_EQ(
      find_op_by_name("softmax")->parse(flatbuffers::GetRoot<format::SoftmaxAttrs>(b.GetBufferPointer()), &p).code(),
      Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
