#include "runtime/ops/put_rows/put_rows.h"

#include "ops/recurrence_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int32_t> rows) {
  Case t;
  t.op = "put_rows";
  const int64_t count = int64_t(rows.size());
  t.in = {Array::random({5, 2, 3}, 1), Array::i32({count}, std::move(rows)), Array::random({count, 2, 3}, 2)};
  t.out = {Array(DType::kF32, {5, 2, 3})};
  return t;
}

TEST(PutRows, ReplacesRowsAndKeepsTheOthers) {
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{}, {4}, {0, 3}, {2, 2, 1}}) {
    const Case t = make(rows);
    const Ran r = run_reference(t);
    for (int64_t row = 0; row < 5; ++row) {
      const float* want = t.in[0].data<float>() + row * 6;
      for (size_t i = 0; i < rows.size(); ++i)
        if (rows[i] == row) want = t.in[2].data<float>() + i * 6;
      ASSERT_EQ(0, std::memcmp(r.out[0].data<float>() + row * 6, want, 24)) << row;
    }
  }
}

TEST(PutRows, MovesIntegersAndNothing) {
  Case t;
  t.op = "put_rows";
  t.in = {Array::i32({3}, {1, 2, 3}), Array::i32({1}, {1}), Array::i32({1}, {9})};
  t.out = {Array(DType::kI32, {3})};
  const int32_t want[3] = {1, 9, 3};
  EXPECT_EQ(0, std::memcmp(run_reference(t).out[0].data<int32_t>(), want, sizeof want));
  t.in = {Array(DType::kF32, {0, 4}), Array::i32({0}, {}), Array(DType::kF32, {0, 4})};
  t.out = {Array(DType::kF32, {0, 4})};
  run_reference(t);
}

TEST(PutRows, Refuses) {
  for (const int32_t row : {-1, 5, INT32_MAX}) {
    const Case t = make({1, row});
    EXPECT_NE(refusal(t).find("row " + std::to_string(row)), std::string::npos) << refusal(t);
  }
  Case t = make({1});
  t.in[2] = Array::random({2, 2, 3}, 1);
  EXPECT_NE(refusal(t).find("values are f32[2, 2, 3]"), std::string::npos) << refusal(t);
  t = make({1});
  t.in[1] = Array::f32({1}, {1});
  EXPECT_NE(refusal(t).find("want an axis and i32 [count]"), std::string::npos) << refusal(t);
  t = make({1});
  t.out[0] = Array(DType::kF32, {4, 2, 3});
  EXPECT_NE(refusal(t).find("y is f32[4, 2, 3] but base"), std::string::npos) << refusal(t);
}

}  // namespace
}  // namespace runnel::test
