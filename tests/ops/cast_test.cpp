#include "runtime/ops/cast/cast.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

TEST(Cast, TowardsZeroWithinTheRange) {
  Case t;
  t.op = "cast";
  t.in = {Array::f32({8}, {-1.9f, 1.9f, 0.5f, 3e9f, -3e9f, std::nanf(""), INFINITY, 2147483520.0f})};
  t.out = {Array(DType::kI32, {8})};
  const Ran r = run_reference(t);
  const int32_t want[8] = {-1, 1, 0, INT32_MAX, INT32_MIN, 0, INT32_MAX, 2147483520};
  EXPECT_EQ(0, std::memcmp(r.out[0].data<int32_t>(), want, sizeof want));
}

TEST(Cast, IntegersToTheNearest) {
  Case t;
  t.op = "cast";
  t.in = {Array::i32({2}, {-7, 16777217})};
  t.out = {Array(DType::kF32, {2})};
  const Ran r = run_reference(t);
  EXPECT_EQ(r.out[0].data<float>()[0], -7.0f);
  EXPECT_EQ(r.out[0].data<float>()[1], 16777216.0f);
  t.out = {Array(DType::kI32, {2})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("cast")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
