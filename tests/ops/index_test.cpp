#include "runtime/ops/index/index.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(DType type, int64_t n, float begin, float step) {
  Case t;
  t.op = "index";
  *params_of<IndexParams>(&t.params) = {begin, step};
  t.out = {Array(type, {n})};
  return t;
}

TEST(Index, CountsInSteps) {
  const Ran r = run_reference(make(DType::kI32, 4, 5, -2));
  const int32_t want[4] = {5, 3, 1, -1};
  EXPECT_EQ(0, std::memcmp(r.out[0].data<int32_t>(), want, sizeof want));
  EXPECT_FLOAT_EQ(run_reference(make(DType::kF32, 3, 0.5f, 0.25f)).out[0].data<float>()[2], 1.0f);
  run_reference(make(DType::kF32, 0, 0, 1));
}

TEST(Index, RefusesPartsOfIntegers) {
  Case t = make(DType::kI32, 4, 0.5f, 1);
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("index")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
