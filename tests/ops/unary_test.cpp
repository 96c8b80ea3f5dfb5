#include "runtime/ops/unary/unary.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(UnaryKind kind, std::vector<float> x, float alpha = 1) {
  Case t;
  t.op = "unary";
  *params_of<UnaryParams>(&t.params) = {kind, alpha};
  const int64_t n = int64_t(x.size());
  t.in = {Array::f32({n}, x)};
  t.out = {Array(DType::kF32, {n})};
  return t;
}

// Values near 0, of every magnitude, and the special ones.
std::vector<float> points() {
  std::vector<float> x = {0.0f,  -0.0f, INFINITY, -INFINITY, NAN,    1.0f,    -1.0f,   0.625f,
                          88.7f, 88.8f, -87.3f,   -87.4f,    1e-40f, -1e-40f, 3.4e38f, -3.4e38f};
  std::mt19937 rng(7);
  for (int i = 0; i < 20000; ++i) x.push_back((float(rng() >> 8) * 0x1p-24f - 0.5f) * 30);
  for (int i = 0; i < 5000; ++i) x.push_back((float(rng() >> 8) * 0x1p-24f - 0.5f) * 250);
  for (int i = 0; i < 5000; ++i) {
    const uint32_t bits = rng();
    float v;
    std::memcpy(&v, &bits, 4);
    x.push_back(v);
  }
  return x;
}

// See unary.h.
#if defined(__arm__)
constexpr double kSubnormal = 1.1754944e-38;
#else
constexpr double kSubnormal = 0;
#endif

double slack(UnaryKind kind, double x) {
  if (kind == UnaryKind::kGeluTanh) return 1 + std::fabs(2 * 0.7978845608 * (x + 0.044715 * x * x * x));
  if (kind == UnaryKind::kGeluQuick) return 1 + std::fabs(1.702 * x);
  return 1;
}

TEST(Unary, EveryKindHoldsItsTolerance) {
  const std::vector<float> x = points();
  for (int k = 1; k < kUnaryKinds; ++k) {
    const Case t = make(UnaryKind(k), x, k == int(UnaryKind::kSoftcap) ? 30.0f : -2.5f);
    const Ran want = run_reference(t);
    EXPECT_GT(for_each_kernel(t,
                              [&](const Kernel& kernel, const std::string&) {
                                const Ran got = run_kernel(t, kernel, nullptr);
                                for (size_t i = 0; i < x.size(); ++i) {
                                  const double g = got.out[0].data<float>()[i], w = want.out[0].data<float>()[i];
                                  if (g == w || (std::isnan(g) && std::isnan(w)) || std::fabs(x[i]) < kSubnormal)
                                    continue;
                                  ASSERT_LE(std::fabs(g - w),
                                            8 * 1.1920929e-7 * std::fabs(w) * slack(UnaryKind(k), x[i]) + 1e-36 +
                                                kSubnormal * std::fabs(x[i]))
                                      << kernel.name << " kind " << k << " at " << x[i] << ": " << g
                                      << " but the reference has " << w;
                                }
                              }),
              0);
  }
}

TEST(Unary, SaturatesAndPassesNan) {
  for (int k = 1; k < kUnaryKinds; ++k) {
    const UnaryKind kind = UnaryKind(k);
    const Case t = make(kind, {NAN, INFINITY, -INFINITY, 1e30f, -1e30f});
    for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
      const Ran r = run_kernel(t, kernel, nullptr);
      const float* y = r.out[0].data<float>();
      EXPECT_TRUE(std::isnan(y[0])) << kernel.name << " kind " << k;
      if (kind == UnaryKind::kGelu || kind == UnaryKind::kGeluTanh || kind == UnaryKind::kSilu ||
          kind == UnaryKind::kGeluQuick) {
        EXPECT_EQ(y[1], INFINITY) << kernel.name << " kind " << k;
        EXPECT_EQ(y[2], 0.0f) << kernel.name << " kind " << k;
        EXPECT_EQ(y[3], 1e30f) << kernel.name << " kind " << k;
        EXPECT_EQ(y[4], 0.0f) << kernel.name << " kind " << k;
      }
    });
  }
}

TEST(Unary, EverySizeAndManyTasks) {
  for (const int64_t n : {0, 1, 15, 16, 17, 33, 40000}) {
    Case t = make(UnaryKind::kGeluTanh, {});
    t.in = {Array::random({n}, 3)};
    t.out = {Array(DType::kF32, {n})};
    compare_all(t, 1e-6);
  }
}

TEST(Unary, ReferenceHoldsTheFormulas) {
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kGelu, 1.0, 1), 0.5 * (1 + std::erf(std::sqrt(0.5))));
  EXPECT_NEAR(unary_reference(UnaryKind::kGeluTanh, -0.7, 1),
              0.5 * -0.7 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979) * (-0.7 + 0.044715 * -0.343))), 1e-12);
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kSilu, 2.0, 1), 2 / (1 + std::exp(-2.0)));
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kGeluQuick, 2.0, 1), 2 / (1 + std::exp(-3.404)));
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kSoftplus, 3.0, 1), std::log(1 + std::exp(3.0)));
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kSoftcap, 4.0, 2), 2 * std::tanh(2.0));
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kReluSquared, 3.0, 1), 9);
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kReluSquared, -3.0, 1), 0);
  EXPECT_DOUBLE_EQ(unary_reference(UnaryKind::kScale, 3.0, -2), -6);
}

Status parsed(format::UnaryKind kind, float alpha) {
  flatbuffers::FlatBufferBuilder b;
  b.Finish(format::CreateUnaryAttrs(b, kind, alpha));
  OpParams p;
  return find_op_by_name("unary")->parse(flatbuffers::GetRoot<format::UnaryAttrs>(b.GetBufferPointer()), &p);
}

TEST(Unary, ParseRefusesWhatItDoesNotKnow) {
  OpParams p;
  EXPECT_EQ(find_op_by_name("unary")->parse(kNoAttributes, &p).code(), Code::kInvalidArgument);
  EXPECT_TRUE(parsed(format::UnaryKind::silu, 1).is_ok());
  EXPECT_EQ(parsed(format::UnaryKind(77), 1).code(), Code::kInvalidArgument);
  EXPECT_EQ(parsed(format::UnaryKind::scale, INFINITY).code(), Code::kInvalidArgument);
  EXPECT_EQ(parsed(format::UnaryKind::softcap, 0).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
