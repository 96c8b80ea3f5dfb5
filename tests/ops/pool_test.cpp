#include "runtime/ops/pool/pool.h"

#include <limits>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Case make(PoolKind kind, int64_t channels, int32_t kernel, int32_t stride, int32_t pad, bool count_padding,
          int32_t dilation = 1) {
  Case t;
  t.op = "pool";
  *params_of<WindowParams>(&t.params) = {{kernel, 2}, {stride, 1}, {dilation, 1}, {pad, 0},     {pad, 1}, 1, -kInfinity,
                                         kInfinity,   0,           uint8_t(kind), count_padding};
  t.in = {Array::random({2, 7, 5, channels}, 1)};
  t.out = {Array(DType::kF32, {2, (7 + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1, 5, channels})};
  return t;
}

TEST(Pool, MatchesReferenceAtTheEdges) {
  for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage})
    for (const int64_t channels : {1, 15, 16, 33})
      for (const bool count_padding : {false, true}) {
        compare_all(make(kind, channels, 3, 2, 1, count_padding), 1e-6);
        compare_all(make(kind, channels, 2, 1, 2, count_padding, 2), 1e-6);  // windows in the padding alone
      }
}

TEST(Pool, NaNWins) {
  Case t = make(PoolKind::kMax, 20, 3, 1, 1, false);
  for (int i = 0; i < 40; ++i) t.in[0].data<float>()[i * 31] = std::nanf("");
  compare_all(t, 0);
}

TEST(Pool, ReferenceHoldsTheFormula) {
  Case t;
  t.op = "pool";
  *params_of<WindowParams>(&t.params) = {{1, 2}, {1, 1}, {1, 1}, {0, 0}, {0, 1}, 1, -kInfinity, kInfinity, 0, 1, false};
  t.in = {Array::f32({1, 1, 3, 1}, {1, 4, 8})};
  t.out = {Array(DType::kF32, {1, 1, 3, 1})};
  const Ran r = run_reference(t);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[0], 2.5f);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[1], 6);
  EXPECT_FLOAT_EQ(r.out[0].data<float>()[2], 8);  // over what lies within x
  params_of<WindowParams>(&t.params)->count_padding = true;
  EXPECT_FLOAT_EQ(run_reference(t).out[0].data<float>()[2], 4);
}

}  // namespace
}  // namespace runnel::test
