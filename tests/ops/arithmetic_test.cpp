#include "runtime/ops/arithmetic/arithmetic.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(ArithmeticKind kind, bool is_float, std::vector<int64_t> a, std::vector<int64_t> b, std::vector<int64_t> y) {
  Case t;
  t.op = "arithmetic";
  params_of<ArithmeticParams>(&t.params)->kind = kind;
  const DType type = is_float ? DType::kF32 : DType::kI32;
  t.in = {Array::random(a, 1, 4.0f), Array::random(b, 2, 4.0f)};
  for (Array& x : t.in) {
    Array whole(DType::kI32, {int64_t(x.bytes() / 4)});
    for (size_t i = 0; i < x.bytes() / 4; ++i) {
      const float v = std::round(x.data<float>()[i]);  // so that some are equal
      x.data<float>()[i] = v;
      whole.data<int32_t>()[i] = int32_t(v);
    }
    if (is_float) continue;
    Array integers(DType::kI32, &x == &t.in[0] ? a : b);
    std::memcpy(integers.data<char>(), whole.data<char>(), whole.bytes());
    x = integers;
  }
  t.out = {Array(is_comparison(kind) ? DType::kI32 : type, y)};
  return t;
}

TEST(Arithmetic, EveryKindBroadcasts) {
  for (int k = 0; k <= int(ArithmeticKind::kXor); ++k)
    for (const bool is_float : {false, true}) {
      const ArithmeticKind kind = ArithmeticKind(k);
      if (is_float ? kind >= ArithmeticKind::kAnd : kind == ArithmeticKind::kPow) continue;
      run_reference(make(kind, is_float, {2, 3, 5}, {3, 1}, {2, 3, 5}));
      run_reference(make(kind, is_float, {1}, {4, 1, 2}, {4, 1, 2}));
      run_reference(make(kind, is_float, {0, 3}, {1, 3}, {0, 3}));
    }
}

TEST(Arithmetic, ReferenceHoldsTheFormulas) {
  const struct {
    ArithmeticKind kind;
    int32_t a, b, y;
  } kRows[] = {{ArithmeticKind::kDiv, -7, 2, -3},
               {ArithmeticKind::kDiv, 7, 0, 0},
               {ArithmeticKind::kDiv, INT32_MIN, -1, INT32_MIN},
               {ArithmeticKind::kMod, -7, 3, 2},
               {ArithmeticKind::kMod, 7, -3, -2},
               {ArithmeticKind::kFmod, -7, 3, -1},
               {ArithmeticKind::kMax, -2, 5, 5},
               {ArithmeticKind::kXor, 6, 3, 5},
               {ArithmeticKind::kAtMost, 3, 3, 1},
               {ArithmeticKind::kLess, 3, 3, 0},
               {ArithmeticKind::kUnequal, 1, 2, 1},
               {ArithmeticKind::kMul, 65536, 65536, 0}};
  for (const auto& row : kRows) {
    Case t = make(row.kind, false, {1}, {1}, {1});
    t.in = {Array::i32({1}, {row.a}), Array::i32({1}, {row.b})};
    EXPECT_EQ(run_reference(t).out[0].data<int32_t>()[0], row.y)
        << int(row.kind) << " of " << row.a << " and " << row.b;
  }
  Case t = make(ArithmeticKind::kMod, true, {2}, {2}, {2});
  t.in = {Array::f32({2}, {-7.5f, 7.5f}), Array::f32({2}, {2, -2})};
  EXPECT_FLOAT_EQ(run_reference(t).out[0].data<float>()[0], 0.5f);
  EXPECT_FLOAT_EQ(run_reference(t).out[0].data<float>()[1], -0.5f);
}

TEST(Arithmetic, NaNIsUnequalToAll) {
  Case t = make(ArithmeticKind::kUnequal, true, {2}, {2}, {2});
  t.in = {Array::f32({2}, {std::nanf(""), 1}), Array::f32({2}, {std::nanf(""), 1})};
  const Ran r = run_reference(t);
  EXPECT_EQ(r.out[0].data<int32_t>()[0], 1);
  EXPECT_EQ(r.out[0].data<int32_t>()[1], 0);
}

TEST(Arithmetic, Refuses) {
  std::vector<TensorView> views;
  const auto code = [&](Case t) { return find_op_by_name("arithmetic")->check(t.call(t.in, t.out, views)).code(); };
  EXPECT_EQ(code(make(ArithmeticKind::kAnd, true, {2}, {2}, {2})), Code::kInvalidArgument);
  EXPECT_EQ(code(make(ArithmeticKind::kAdd, true, {2}, {3}, {3})), Code::kInvalidArgument);
  EXPECT_EQ(code(make(ArithmeticKind::kAdd, true, {1}, {1}, {3})), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
