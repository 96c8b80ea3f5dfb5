#include "runtime/ops/resize/resize.h"

#include <numeric>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

ResizeParams plain(ResizeMode mode, ResizePlace place) {
  ResizeParams p{};
  p.end[0] = p.end[1] = 1, p.cubic = -0.75f, p.mode = mode, p.place = place;
  return p;
}

Case make(const ResizeParams& p, std::vector<int64_t> from, int64_t height, int64_t width) {
  Case t;
  t.op = "resize";
  *params_of<ResizeParams>(&t.params) = p;
  t.out = {Array(DType::kF32, {from[0], height, width, from[3]})};
  t.in = {Array::random(std::move(from), 1)};
  return t;
}

// Of one row: x is 1, 2, 3, ...
std::vector<float> row(const ResizeParams& p, int64_t from, int64_t to) {
  Case t = make(p, {1, 1, from, 1}, 1, to);
  std::iota(t.in[0].data<float>(), t.in[0].data<float>() + from, 1.0f);
  const Ran r = run_reference(t);
  return {r.out[0].data<float>(), r.out[0].data<float>() + to};
}

void expect(const ResizeParams& p, int64_t from, const std::vector<float>& want) {
  const std::vector<float> got = row(p, from, int64_t(want.size()));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-6) << "place " << i;
}

TEST(Resize, MatchesReferenceAtTheEdges) {
  for (const ResizeMode mode : {ResizeMode::kNearest, ResizeMode::kLinear, ResizeMode::kCubic})
    for (int place = 0; place <= int(ResizePlace::kCrop); ++place)
      for (const int64_t channels : {1, 3, 16, 33})
        for (const bool antialias : {false, true})
          for (const bool exclude : {false, true}) {
            ResizeParams p = plain(mode, ResizePlace(place));
            p.antialias = antialias && mode != ResizeMode::kNearest && p.place != ResizePlace::kCrop;
            p.exclude_outside = exclude, p.outside = 7;
            if (p.place == ResizePlace::kCrop) p.begin[0] = -0.25f, p.end[1] = 1.5f;
            p.rounding = ResizeRounding(place % 4);
            const double tolerance = mode == ResizeMode::kNearest ? 0 : 4e-6;
            compare_all(make(p, {2, 7, 5, channels}, 3, 11), tolerance);
            compare_all(make(p, {2, 7, 5, channels}, 14, 1), tolerance);
            compare_all(make(p, {1, 1, 9, channels}, 1, 4), tolerance);
          }
}

TEST(Resize, LongRowsAndNothing) {
  ResizeParams p = plain(ResizeMode::kCubic, ResizePlace::kHalfPixel);
  p.antialias = true;
  compare_all(make(p, {1, 300, 500, 4}, 2, 3), 2e-6);
  compare_all(make(p, {0, 3, 4, 4}, 2, 3), 0);
  compare_all(make(plain(ResizeMode::kLinear, ResizePlace::kAlignCorners), {1, 40, 60, 24}, 80, 90), 1e-6);
}

// Numbers of ONNX's own examples and of torch 2.
TEST(Resize, ReferenceHoldsTheFormulas) {
  const auto linear = ResizeMode::kLinear, cubic = ResizeMode::kCubic, nearest = ResizeMode::kNearest;
  expect(plain(linear, ResizePlace::kHalfPixel), 2, {1, 1.25f, 1.75f, 2});
  expect(plain(linear, ResizePlace::kAlignCorners), 2, {1, 4 / 3.0f, 5 / 3.0f, 2});
  expect(plain(linear, ResizePlace::kAsymmetric), 2, {1, 1.5f, 2, 2});
  expect(plain(linear, ResizePlace::kPytorch), 4, {1});
  expect(plain(linear, ResizePlace::kHalfPixel), 4, {2.5f});
  expect(plain(cubic, ResizePlace::kHalfPixel), 4,
         {0.89453125f, 1.19140625f, 1.66796875f, 2.296875f, 2.703125f, 3.33203125f, 3.80859375f, 4.10546875f});
  expect(plain(nearest, ResizePlace::kAsymmetric), 4, {1, 1, 2, 2, 3, 3, 4, 4});
  ResizeParams p = plain(nearest, ResizePlace::kHalfPixel);
  expect(p, 3, {1, 1, 2, 2, 3, 3});
  p.rounding = ResizeRounding::kCeil;
  expect(p, 3, {1, 2, 2, 3, 3, 3});
  p.rounding = ResizeRounding::kFloor;
  expect(p, 3, {1, 1, 1, 2, 2, 3});
  p = plain(nearest, ResizePlace::kHalfPixel);
  expect(p, 2, {1});  // between two: the lower one
  p.rounding = ResizeRounding::kPreferCeil;
  expect(p, 2, {2});
  p = plain(linear, ResizePlace::kHalfPixel), p.antialias = true;
  expect(p, 4, {1.625f, 3.375f});
  p.exclude_outside = true;
  expect(p, 4, {12 / 7.0f, 23 / 7.0f});
  p = plain(linear, ResizePlace::kCrop), p.begin[1] = 0.4f, p.end[1] = 1.2f, p.outside = 10;
  expect(p, 4, {2.2f, 3, 3.8f, 10});
  p = plain(linear, ResizePlace::kSymmetric), p.scale[1] = 0.6f;
  expect(p, 4, {1.6666667f, 3.3333333f});
}

TEST(Resize, RefusesWhatItCannotBound) {
  ResizeParams p = plain(ResizeMode::kLinear, ResizePlace::kHalfPixel);
  p.antialias = true, p.scale[1] = 1e-6f;
  Case t = make(p, {1, 1, 8, 1}, 1, 8);
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("resize")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
