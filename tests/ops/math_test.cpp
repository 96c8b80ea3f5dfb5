#include "runtime/ops/math/math.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(MathKind kind, int64_t n, float alpha = 0.3f, float beta = 0.6f) {
  Case t;
  t.op = "math";
  *params_of<MathParams>(&t.params) = {kind, alpha, beta};
  t.in = {Array::random({n}, 1, 2.0f)};
  t.out = {Array(DType::kF32, {n})};
  return t;
}

TEST(Math, KernelsMatchTheReferenceAtTheEdges) {
  for (const MathKind kind : {MathKind::kErf, MathKind::kElu, MathKind::kLeakyRelu, MathKind::kHardSigmoid,
                              MathKind::kHardSwish, MathKind::kClip})
    for (const int64_t n : {0, 1, 15, 16, 17, 100, 40000}) compare_all(make(kind, n), 2e-6);
}

TEST(Math, SpecialValuesStay) {
  for (const MathKind kind : {MathKind::kErf, MathKind::kLeakyRelu, MathKind::kClip}) {
    Case t = make(kind, 18);
    t.in[0].data<float>()[0] = INFINITY;
    t.in[0].data<float>()[1] = -INFINITY;
    t.in[0].data<float>()[2] = std::nanf("");
    compare_all(t, 2e-6);
  }
}

// What stands with the reference on the CPU; in Vulkan mode the device is compared with it.
TEST(Math, ReferenceHoldsTheFormulas) {
  const struct {
    MathKind kind;
    double (*f)(double);
  } kFunctions[] = {{MathKind::kCeil, std::ceil},   {MathKind::kRound, std::nearbyint}, {MathKind::kErf, std::erf},
                    {MathKind::kSin, std::sin},     {MathKind::kCos, std::cos},         {MathKind::kTan, std::tan},
                    {MathKind::kAsin, std::asin},   {MathKind::kAcos, std::acos},       {MathKind::kAtan, std::atan},
                    {MathKind::kSinh, std::sinh},   {MathKind::kCosh, std::cosh},       {MathKind::kAsinh, std::asinh},
                    {MathKind::kAcosh, std::acosh}, {MathKind::kAtanh, std::atanh}};
  for (const auto& row : kFunctions) {
    const Case t = make(row.kind, 50);
    const Ran r = run_reference(t);
    for (int i = 0; i < 50; ++i) {
      const double want = row.f(double(t.in[0].data<float>()[i])), got = double(r.out[0].data<float>()[i]);
      if (std::isnan(want)) EXPECT_TRUE(std::isnan(got));
      else EXPECT_NEAR(got, want, 1e-6 * std::max(1.0, std::fabs(want))) << int(row.kind);
    }
  }
  const Ran sign = run_reference(make(MathKind::kSign, 9));
  for (int i = 0; i < 9; ++i) EXPECT_EQ(std::fabs(sign.out[0].data<float>()[i]), 1.0f);
}

TEST(Math, RefusesIntegers) {
  Case t = make(MathKind::kErf, 4);
  t.in = {Array(DType::kI32, {4})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("math")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
