#include "ops/golden.h"
#include "ops/recurrence_test.h"
#include "runtime/ops/causal_conv/causal_conv.h"

namespace runnel::test {
namespace {

Case make(int64_t tokens, int64_t channels, int64_t taps, int64_t dilation = 1, bool state = true,
          UnaryKind activation = UnaryKind::kNone, bool reverse = false, DType dtype = DType::kF32) {
  Case t;
  t.op = "causal_conv";
  *params_of<CausalConvParams>(&t.params) = {activation, reverse, dilation};
  t.in = {Array::random({tokens, channels}, 1), Array::random({channels, taps}, 2), Array::random({channels}, 3),
          Array(), Array()};
  t.out = {Array(DType::kF32, {tokens, channels})};
  if (state) {
    const int64_t past = (taps - 1) * dilation;
    t.in[3] = Array::random({past, channels}, 4);
    if (dtype == DType::kF16) {
      t.in[3] = Array(DType::kF16, {past, channels});
      for (size_t i = 0; i < t.in[3].bytes() / 2; ++i) t.in[3].data<uint16_t>()[i] = uint16_t(0x3800 + i % 700);
    }
    t.out.push_back(Array(dtype, {past, channels}));
  }
  return t;
}

TEST(CausalConv, MatchesReferenceAtTheEdges) {
  for (int64_t tokens : {0, 1, 2, 3, 9, 40})
    for (int64_t channels : {1, 15, 16, 17, 100})
      for (int64_t taps : {1, 2, 4, 7})
        for (bool state : {false, true}) compare_all(make(tokens, channels, taps, 1, state), 1e-5);
}

TEST(CausalConv, DilationActivationDirectionAndHalfStates) {
  compare_all(make(30, 33, 3, 5), 2e-6);
  compare_all(make(30, 33, 4, 2, false, UnaryKind::kSilu, true), 2e-6);
  compare_all(make(5, 20, 4, 3, true, UnaryKind::kGelu), 2e-6);
  compare_all(make(3, 40, 4, 1, true, UnaryKind::kSilu, false, DType::kF16), 2e-6);
}

TEST(CausalConv, SegmentsAreIndependent) {
  Case t = make(12, 18, 4, 1, false);
  t.in[4] = Array::i32({4}, {0, 5, 5, 12});
  compare_all(t, 2e-6);
  const Ran all = run_reference(t);
  Case second = make(7, 18, 4, 1, false);
  second.in[0] = rows_of(t.in[0], 5, 12);
  const Ran own = run_reference(second);
  EXPECT_EQ(0, std::memcmp(own.out[0].data<char>(), all.out[0].data<float>() + 5 * 18, own.out[0].bytes()));
}

TEST(CausalConv, CutsKeepTheBits) {
  for (int64_t taps : {2, 4}) {
    const Case t = make(23, 40, taps, taps == 2 ? 3 : 1, true, UnaryKind::kSilu);
    expect_cuts_keep_bits(t, 23, {0}, {{3, 1}}, {{1}, {7, 8}, {2, 4, 22}, {1, 2, 3, 4, 5}});
    expect_in_place_is_the_same(t, 3, 1);
  }
}

TEST(CausalConv, RefusesWrongShapesByName) {
  Case t = make(4, 8, 3);
  t.in[3] = Array::random({1, 8}, 1);
  EXPECT_NE(refusal(t).find("state is f32[1, 8], want f32[2, 8]"), std::string::npos) << refusal(t);
  t = make(4, 8, 3, 1, false);
  t.in[4] = Array::i32({2}, {0, 5});
  EXPECT_NE(refusal(t).find("segment bound 5"), std::string::npos) << refusal(t);
  t = make(4, 8, 3);
  t.in[4] = Array::i32({2}, {0, 4});
  EXPECT_NE(refusal(t).find("together with states"), std::string::npos) << refusal(t);
}

TEST(CausalConv, GoldenOfTransformersMamba) {
  const Golden golden("causal_conv");
  Case t;
  t.op = "causal_conv";
  *params_of<CausalConvParams>(&t.params) = {UnaryKind::kSilu, false, 1};
  t.in = {golden["silu.x"], golden["silu.weight"], golden["silu.bias"]};
  t.out = {golden["silu.y"]};
  expect_golden(t, 0, golden["silu.y"], 1e-5, "causal_conv1d_fn");
}

}  // namespace
}  // namespace runnel::test
