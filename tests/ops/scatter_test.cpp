#include "runtime/ops/scatter/scatter.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(ScatterKind kind, Array x, std::vector<int32_t> ids, Array updates) {
  Case t;
  t.op = "scatter";
  params_of<ScatterParams>(&t.params)->kind = kind;
  t.out = {x};
  const int64_t n = int64_t(ids.size());
  t.in = {std::move(x), Array::i32({n}, std::move(ids)), std::move(updates)};
  return t;
}

TEST(Scatter, ReferenceHoldsTheFormulas) {
  const struct {
    ScatterKind kind;
    std::vector<float> want;
  } kRows[] = {{ScatterKind::kSet, {1, 2, 30, 40, 50, 60}},
               {ScatterKind::kAdd, {1, 2, 33, 44, 65, 86}},
               {ScatterKind::kMul, {1, 2, 90, 160, 2500, 7200}},
               {ScatterKind::kMax, {1, 2, 30, 40, 50, 60}},
               {ScatterKind::kMin, {1, 2, 3, 4, 5, 6}}};
  for (const auto& row : kRows) {
    const Case t = make(row.kind, Array::f32({3, 2}, {1, 2, 3, 4, 5, 6}), {-1, 1, 2},
                        Array::f32({3, 2}, {10, 20, 30, 40, 50, 60}));
    const Ran r = run_reference(t);
    EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), row.want.data(), 24)) << int(row.kind);
  }
}

TEST(Scatter, IntegersAndNaN) {
  const Ran sums =
      run_reference(make(ScatterKind::kAdd, Array::i32({2}, {1, 2147483647}), {1, 1, 0}, Array::i32({3}, {1, 1, 5})));
  EXPECT_EQ(sums.out[0].data<int32_t>()[0], 6);
  EXPECT_EQ(sums.out[0].data<int32_t>()[1], -2147483647);
  const Ran most = run_reference(
      make(ScatterKind::kMax, Array::f32({2}, {std::nanf(""), 1}), {0, 1}, Array::f32({2}, {3, std::nanf("")})));
  EXPECT_TRUE(std::isnan(most.out[0].data<float>()[0]) && std::isnan(most.out[0].data<float>()[1]));
}

TEST(Scatter, EveryKindOnEveryBackend) {
  for (int kind = 0; kind <= int(ScatterKind::kMin); ++kind) {
    for (const std::vector<int32_t>& ids : {std::vector<int32_t>{}, {4}, {0, -2}, {2, 2, 1}, {-1, 4, 4, 0, -5}}) {
      const int64_t n = int64_t(ids.size());
      compare_all(make(ScatterKind(kind), Array::random({5, 2, 3}, 1), ids, Array::random({n, 2, 3}, 2)), 0);
      Array whole = Array::i32({n}, std::vector<int32_t>(size_t(n), 7));
      compare_all(make(ScatterKind(kind), Array::i32({5}, {1, -2, 2147483647, 9, 7}), ids, std::move(whole)), 0);
    }
    compare_all(make(ScatterKind(kind), Array(DType::kF32, {0, 4}), {}, Array(DType::kF32, {0, 4})), 0);
  }
}

TEST(Scatter, RefusesIdsOutside) {
  for (const int32_t id : {-3, 2}) {
    Case t = make(ScatterKind::kSet, Array::f32({2}, {1, 2}), {id}, Array::f32({1}, {3}));
    std::vector<TensorView> views;
    EXPECT_EQ(find_op_by_name("scatter")->check_data(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace runnel::test
