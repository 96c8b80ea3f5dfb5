#include "runtime/ops/expand/expand.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

TEST(Expand, RepeatsAxesOfOne) {
  Case t;
  t.op = "expand";
  t.in = {Array::f32({2, 1}, {5, 7})};
  t.out = {Array(DType::kF32, {2, 2, 3})};
  const Ran r = run_reference(t);
  const float want[12] = {5, 5, 5, 7, 7, 7, 5, 5, 5, 7, 7, 7};
  EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), want, sizeof want));
}

TEST(Expand, Refuses) {
  Case t;
  t.op = "expand";
  t.in = {Array::f32({2}, {5, 7})};
  t.out = {Array(DType::kF32, {2, 3})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("expand")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
