#include "runtime/ops/pad/pad.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(PadKind kind, int32_t begin, int64_t n, std::vector<float> x) {
  Case t;
  t.op = "pad";
  PadParams* p = params_of<PadParams>(&t.params);
  p->rank = 1, p->begin[0] = begin, p->kind = kind, p->value = -1;
  const int64_t size = int64_t(x.size());
  t.in = {Array::f32({size}, std::move(x))};
  t.out = {Array(DType::kF32, {n})};
  return t;
}

TEST(Pad, ReferenceHoldsTheFormulas) {
  const struct {
    PadKind kind;
    std::vector<float> want;
  } kRows[] = {{PadKind::kConstant, {-1, -1, -1, 1, 2, 3, -1, -1, -1}},
               {PadKind::kEdge, {1, 1, 1, 1, 2, 3, 3, 3, 3}},
               {PadKind::kReflect, {2, 3, 2, 1, 2, 3, 2, 1, 2}},
               {PadKind::kWrap, {1, 2, 3, 1, 2, 3, 1, 2, 3}}};
  for (const auto& row : kRows) {
    const Ran r = run_reference(make(row.kind, 3, 9, {1, 2, 3}));
    EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), row.want.data(), 36)) << int(row.kind);
  }
  const Ran cut = run_reference(make(PadKind::kEdge, -1, 1, {1, 2, 3}));
  EXPECT_EQ(cut.out[0].data<float>()[0], 2.0f);
}

TEST(Pad, SeveralAxes) {
  Case t;
  t.op = "pad";
  PadParams* p = params_of<PadParams>(&t.params);
  p->rank = 2, p->begin[0] = 1, p->begin[1] = 0, p->kind = PadKind::kReflect;
  t.in = {Array::f32({2, 2}, {1, 2, 3, 4})};
  t.out = {Array(DType::kF32, {3, 3})};
  const Ran r = run_reference(t);
  const float want[9] = {3, 4, 3, 1, 2, 1, 3, 4, 3};
  EXPECT_EQ(0, std::memcmp(r.out[0].data<float>(), want, sizeof want));
  t.in = {Array(DType::kF32, {0, 2})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("pad")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
