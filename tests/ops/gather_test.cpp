#include "runtime/ops/gather/gather.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(int axis) {
  Case t;
  t.op = "gather";
  params_of<GatherParams>(&t.params)->axis = axis;
  t.in = {Array::random({3, 4, 2}, 1), Array::i32({2, 2}, {2, 0, -1, 1})};
  std::vector<int64_t> y = {3, 4, 2};
  y.erase(y.begin() + axis);
  y.insert(y.begin() + axis, {2, 2});
  t.out = {Array(DType::kF32, y)};
  if (axis == 2) t.in[1] = Array::i32({2, 2}, {1, 0, -1, -2});
  return t;
}

TEST(Gather, AlongEachAxis) {
  const int64_t d[3] = {3, 4, 2};
  for (int axis = 0; axis < 3; ++axis) {
    const Case t = make(axis);
    const Ran r = run_reference(t);
    int64_t outer = 1, inner = 1, at = 0;
    for (int i = 0; i < axis; ++i) outer *= d[i];
    for (int i = axis + 1; i < 3; ++i) inner *= d[i];
    for (int64_t o = 0; o < outer; ++o)
      for (int k = 0; k < 4; ++k)
        for (int64_t i = 0; i < inner; ++i) {
          const int64_t id = t.in[1].data<int32_t>()[k], row = id < 0 ? id + d[axis] : id;
          ASSERT_EQ(r.out[0].data<float>()[at++], t.in[0].data<float>()[(o * d[axis] + row) * inner + i]);
        }
  }
}

TEST(Gather, RefusesIdsOutside) {
  Case t = make(1);
  std::vector<TensorView> views;
  const OpDef* def = find_op_by_name("gather");
  EXPECT_TRUE(def->check_data(t.call(t.in, t.out, views)).is_ok());
  for (const int32_t id : {4, -5}) {
    t.in[1].data<int32_t>()[3] = id;
    EXPECT_EQ(def->check_data(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  }
  t.out = {Array(DType::kF32, {3, 2, 2})};
  EXPECT_EQ(def->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
