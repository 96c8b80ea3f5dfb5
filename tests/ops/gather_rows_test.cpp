#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, std::vector<int32_t> rows) {
  Case t;
  t.op = "gather_rows";
  const int64_t n = int64_t(rows.size());
  t.in = {Array::random(dims, 1), Array::i32({n}, rows)};
  dims[0] = n;
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(GatherRows, PicksRowsInOrder) {
  const Case t = make({4, 2, 3}, {3, 0, 3});
  const Ran r = run_reference(t);
  const float *x = t.in[0].data<float>(), *y = r.out[0].data<float>();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(y[i], x[18 + i]);
    EXPECT_EQ(y[6 + i], x[i]);
    EXPECT_EQ(y[12 + i], x[18 + i]);
  }
}

TEST(GatherRows, NoRowsNoColumnsOtherTypes) {
  run_reference(make({4, 2}, {}));
  run_reference(make({4, 0}, {1, 2}));
  Case t = make({3}, {2, 1});
  t.in[0] = Array::i32({3}, {7, 8, 9});
  t.out = {Array(DType::kI32, {2})};
  const Ran r = run_reference(t);
  EXPECT_EQ(r.out[0].data<int32_t>()[0], 9);
  EXPECT_EQ(r.out[0].data<int32_t>()[1], 8);
}

TEST(GatherRows, RefusesRowsOutOfRange) {
  for (const int32_t bad : {-1, 4, INT32_MAX, INT32_MIN}) {
    Case t = make({4, 2}, {0, bad});
    std::vector<TensorView> views;
    const OpCall c = t.call(t.in, t.out, views);
    EXPECT_TRUE(find_op_by_name("gather_rows")->check(c).is_ok());
    const Status s = find_op_by_name("gather_rows")->check_data(c);
    EXPECT_EQ(s.code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(s.message()).find("row " + std::to_string(bad) + " (index 1) is not in [0, 4)"),
              std::string::npos)
        << s.message();
  }
}

TEST(GatherRows, RefusesWrongShapes) {
  Case t = make({4, 2}, {0, 1});
  t.out = {Array(DType::kF32, {2, 3})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("gather_rows")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
