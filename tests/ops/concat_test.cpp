#include "runtime/ops/concat/concat.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<std::vector<int64_t>> dims, int axis, std::vector<int64_t> y) {
  Case t;
  t.op = "concat";
  params_of<ConcatParams>(&t.params)->axis = axis;
  uint32_t seed = 0;
  for (auto& d : dims) t.in.push_back(Array::random(d, ++seed));
  t.out = {Array(DType::kF32, y)};
  return t;
}

TEST(Concat, JoinsAlongAnyAxis) {
  const Case rows = make({{2, 3}, {1, 3}}, 0, {3, 3});
  const Ran a = run_reference(rows);
  EXPECT_EQ(0, std::memcmp(a.out[0].data<float>(), rows.in[0].data<float>(), 24));
  EXPECT_EQ(0, std::memcmp(a.out[0].data<float>() + 6, rows.in[1].data<float>(), 12));
  const Case columns = make({{2, 3}, {2, 0}, {2, 2}}, 1, {2, 5});
  const Ran b = run_reference(columns);
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(0, std::memcmp(b.out[0].data<float>() + 5 * r, columns.in[0].data<float>() + 3 * r, 12));
    EXPECT_EQ(0, std::memcmp(b.out[0].data<float>() + 5 * r + 3, columns.in[2].data<float>() + 2 * r, 8));
  }
}

TEST(Concat, Refuses) {
  std::vector<TensorView> views;
  for (Case t : {make({{2, 3}, {1, 3}}, 0, {4, 3}), make({{2, 3}, {1, 4}}, 0, {3, 3}), make({{2, 3}, {3}}, 0, {3, 3}),
                 make({{2, 3}, {1, 3}}, 2, {3, 3})})
    EXPECT_EQ(find_op_by_name("concat")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  Case t = make({{2}, {1}}, 0, {3});
  t.in[1] = Array::i32({1}, {1});
  EXPECT_EQ(find_op_by_name("concat")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  t.in[1] = Array();
  EXPECT_EQ(find_op_by_name("concat")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
