#include "runtime/ops/where/where.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

TEST(Where, TakesFromOneOrTheOther) {
  Case t;
  t.op = "where";
  t.in = {Array::i32({2, 1}, {0, 7}), Array::f32({3}, {1, 2, 3}), Array::f32({}, {-1})};
  t.out = {Array(DType::kF32, {2, 3})};
  const Ran r = run_reference(t);
  const float want[6] = {-1, -1, -1, 1, 2, 3};
  EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), want, sizeof want));
  t.in[1] = Array::i32({3}, {1, 2, 3}), t.in[2] = Array::i32({2, 3}, {9, 8, 7, 6, 5, 4});
  t.out = {Array(DType::kI32, {2, 3})};
  const Ran s = run_reference(t);
  const int32_t integers[6] = {9, 8, 7, 1, 2, 3};
  EXPECT_EQ(0, std::memcmp(s.out[0].data<int32_t>(), integers, sizeof integers));
}

TEST(Where, Refuses) {
  Case t;
  t.op = "where";
  t.in = {Array::f32({1}, {0}), Array::f32({1}, {1}), Array::f32({1}, {1})};
  t.out = {Array(DType::kF32, {1})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("where")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
