#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> from, std::vector<int64_t> to) {
  Case t;
  t.op = "reshape";
  t.in = {Array::random(from, 1)};
  t.out = {Array(DType::kF32, to)};
  return t;
}

TEST(Reshape, KeepsTheElements) {
  const Case t = make({2, 3, 4}, {6, 4});
  const Ran r = run_reference(t);
  EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), t.in[0].data<float>(), 96));
  run_reference(make({0, 3}, {5, 0}));
  EXPECT_TRUE(find_op_by_name("reshape")->is_view);
}

TEST(Reshape, OutputMayBeTheInput) {
  Case t = make({2, 3}, {6});
  std::vector<Array> in = t.in;
  std::vector<TensorView> views;
  OpCall c = t.call(in, t.out, views);
  views[1].data = views[0].data;
  find_op_by_name("reshape")->reference(c);
  EXPECT_EQ(0, std::memcmp(in[0].data<float>(), t.in[0].data<float>(), 24));
}

TEST(Reshape, RefusesOtherSizesAndOverflow) {
  std::vector<TensorView> views;
  Case t = make({2, 3}, {7});
  EXPECT_EQ(find_op_by_name("reshape")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  OpCall c = t.call(t.in, t.out, views);
  for (TensorView& v : views) v.rank = 3, v.dims[0] = int64_t(1) << 32, v.dims[1] = int64_t(1) << 32, v.dims[2] = 0;
  EXPECT_EQ(find_op_by_name("reshape")->check(c).code(), Code::kInvalidArgument);
  for (TensorView& v : views) v.rank = 1, v.dims[0] = -1;
  EXPECT_EQ(find_op_by_name("reshape")->check(c).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
