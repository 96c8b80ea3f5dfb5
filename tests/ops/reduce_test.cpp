#include "ops/recurrence_test.h"
#include "runtime/ops/reduce/reduce.h"

namespace runnel::test {
namespace {

std::vector<float> reduced(std::vector<int64_t> dims, int axis, ReduceKind kind, std::vector<float> x) {
  Case t;
  t.op = "reduce";
  *params_of<ReduceParams>(&t.params) = {kind, axis};
  t.in = {Array::f32(dims, x)};
  dims.erase(dims.begin() + axis);
  t.out = {Array(DType::kF32, dims)};
  const Ran r = run_reference(t);
  return {r.out[0].data<float>(), r.out[0].data<float>() + r.out[0].bytes() / 4};
}

TEST(Reduce, EveryKindAndAxis) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(reduced({2, 3}, 0, ReduceKind::kSum, x), (std::vector<float>{5, 7, 9}));
  EXPECT_EQ(reduced({2, 3}, 1, ReduceKind::kSum, x), (std::vector<float>{6, 15}));
  EXPECT_EQ(reduced({1, 2, 3}, 1, ReduceKind::kMean, x), (std::vector<float>{2.5, 3.5, 4.5}));
  EXPECT_EQ(reduced({2, 3}, 1, ReduceKind::kMax, x), (std::vector<float>{3, 6}));
  EXPECT_EQ(reduced({2, 3}, 0, ReduceKind::kMin, x), (std::vector<float>{1, 2, 3}));
}

TEST(Reduce, EmptyAxesAndNan) {
  EXPECT_EQ(reduced({2, 0}, 1, ReduceKind::kSum, {}), (std::vector<float>{0, 0}));
  EXPECT_EQ(reduced({1, 0}, 1, ReduceKind::kMax, {})[0], -INFINITY);
  EXPECT_TRUE(std::isnan(reduced({1, 3}, 1, ReduceKind::kMax, {1, NAN, 2})[0]));
}

TEST(Reduce, RefusesWrongShapesByName) {
  Case t;
  t.op = "reduce";
  *params_of<ReduceParams>(&t.params) = {ReduceKind::kSum, 2};
  t.in = {Array::random({2, 3}, 1)};
  t.out = {Array(DType::kF32, {2})};
  EXPECT_NE(refusal(t).find("without axis 2"), std::string::npos) << refusal(t);
}

}  // namespace
}  // namespace runnel::test
