#include "runtime/ops/slice/slice.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, int axis, int64_t begin, int64_t n) {
  Case t;
  t.op = "slice";
  *params_of<SliceParams>(&t.params) = {begin, axis};
  t.in = {Array::random(dims, 1)};
  dims[size_t(axis)] = n;
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(Slice, EveryAxis) {
  for (int axis = 0; axis < 3; ++axis)
    for (const int64_t begin : {0, 1, 2, -1, -2, -3})
      for (int64_t n = 0; n <= 2; ++n) {
        const int64_t first = begin < 0 ? begin + 3 : begin;
        if (first + n > 3) continue;
        const Case t = make({3, 3, 3}, axis, begin, n);
        const Ran r = run_reference(t);
        int64_t at = 0, size[3] = {3, 3, 3};
        size[axis] = n;
        for (int64_t i = 0; i < size[0]; ++i)
          for (int64_t j = 0; j < size[1]; ++j)
            for (int64_t k = 0; k < size[2]; ++k) {
              int64_t index[3] = {i, j, k};
              index[axis] += first;
              ASSERT_EQ(r.out[0].data<float>()[at++], t.in[0].data<float>()[(index[0] * 3 + index[1]) * 3 + index[2]]);
            }
      }
}

TEST(Slice, RefusesWhatIsOutside) {
  std::vector<TensorView> views;
  for (const auto [begin, n] :
       {std::pair<int64_t, int64_t>{0, 4}, {1, 3}, {4, 0}, {-4, 1}, {-1, 2}, {INT64_MAX, 1}, {INT64_MIN, 1}}) {
    Case t = make({3, 2}, 0, begin, n);
    EXPECT_EQ(find_op_by_name("slice")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument)
        << begin << " " << n;
  }
  Case t = make({3, 2}, 0, 0, 1);
  params_of<SliceParams>(&t.params)->axis = 2;
  EXPECT_EQ(find_op_by_name("slice")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
