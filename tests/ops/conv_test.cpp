#include "runtime/ops/conv/conv.h"

#include <limits>

#include "ops/op_test.h"
#include "ops/unary/unary.h"
#include "packed_formats.h"

namespace runnel::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  int64_t batch, height, width, channels, out;
  int32_t groups, kernel[2], stride[2], dilation[2], before[2], behind[2];
};

// A convolution with everything that it owns.
struct Conv {
  PackedMatrix weights;
  Case call;
};

void make(Conv& c, const Shape& s, PackedKind kind, bool bias, UnaryKind activation = UnaryKind::kNone) {
  c.call = Case();
  c.call.op = "conv";
  WindowParams p{{s.kernel[0], s.kernel[1]},
                 {s.stride[0], s.stride[1]},
                 {s.dilation[0], s.dilation[1]},
                 {s.before[0], s.before[1]},
                 {s.behind[0], s.behind[1]},
                 s.groups,
                 -kInfinity,
                 kInfinity,
                 uint8_t(activation),
                 0,
                 false};
  *params_of<WindowParams>(&c.call.params) = p;
  const int64_t places = int64_t(s.kernel[0]) * s.kernel[1];
  int64_t out[2];
  const int64_t size[2] = {s.height, s.width};
  for (int i = 0; i < 2; ++i)
    out[i] = (size[i] + s.before[i] + s.behind[i] - (s.kernel[i] - 1) * s.dilation[i] - 1) / s.stride[i] + 1;
  c.call.in = {Array::random({s.batch, s.height, s.width, s.channels}, 1)};
  if (s.groups == s.channels && s.out == s.channels && kind == PackedKind::kInteger) {
    c.call.in.push_back(Array::random({places, s.channels}, 2));
  } else {
    PackedFormat format;
    format.kind = kind;
    c.weights = random_matrix(format, s.out, places * (s.channels / s.groups), 3);
    Array a(DType::kPacked, {c.weights.rows, c.weights.columns}, c.weights.bytes.size());
    std::copy(c.weights.bytes.begin(), c.weights.bytes.end(), a.data<unsigned char>());
    c.call.in.push_back(a);
    c.call.in.back().set_packed(&c.weights.format);
  }
  c.call.in.push_back(bias ? Array::random({s.out}, 4) : Array());
  c.call.out = {Array(DType::kF32, {s.batch, out[0], out[1], s.out})};
}

constexpr Shape kShapes[] = {
    {1, 5, 7, 3, 16, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},      // an image as it comes
    {2, 6, 5, 4, 37, 1, {3, 2}, {2, 1}, {1, 2}, {0, 2}, {2, 0}},      // uneven everywhere
    {1, 1, 19, 8, 5, 1, {1, 4}, {1, 3}, {1, 2}, {0, 3}, {0, 1}},      // a line
    {1, 4, 4, 24, 36, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},     // groups that end within tiles
    {1, 4, 3, 6, 12, 6, {2, 2}, {1, 1}, {1, 1}, {1, 0}, {0, 1}},      // two filters a channel
    {3, 1, 1, 33, 18, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},     // a point
    {1, 2, 2, 2, 3, 1, {5, 5}, {3, 3}, {1, 1}, {3, 3}, {3, 3}},       // windows larger than the image
    {0, 4, 4, 2, 3, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},       // no image
    {1, 31, 7, 5, 70, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},     // strips, fours and ones, in two blocks
    {2, 9, 11, 3, 20, 1, {5, 3}, {2, 2}, {1, 1}, {2, 0}, {1, 1}},     // rows of windows inside and across the border
    {1, 1, 1, 20, 150, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},    // some tiles of a single pixel at once
    {1, 1, 90, 1, 18, 1, {1, 25}, {1, 3}, {1, 1}, {0, 12}, {0, 12}},  // long windows over a sound
    {1, 6, 6, 512, 300, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}},   // tiles in parts for the threads
};

TEST(Conv, MatchesReferenceAtTheEdges) {
  Conv c;
  for (const Shape& s : kShapes)
    for (const PackedKind kind : {PackedKind::kF32, PackedKind::kF16, PackedKind::kBF16})
      for (const bool bias : {false, true}) {
        make(c, s, kind, bias);
        compare_all(c.call, 1e-5);
      }
}

TEST(Conv, OneFilterAChannel) {
  Conv c;
  for (const int64_t channels : {1, 5, 16, 40})
    for (const int32_t kernel : {3, 5})
      for (const int32_t stride : {1, 2})
        for (const UnaryKind activation : {UnaryKind::kNone, UnaryKind::kRelu, UnaryKind::kSilu}) {
          const int32_t pad = kernel / 2;
          make(c,
               {2,
                7,
                9,
                channels,
                channels,
                int32_t(channels),
                {kernel, kernel},
                {stride, stride},
                {1, 1},
                {pad, pad},
                {pad, pad}},
               PackedKind::kInteger, true, activation);
          compare_all(c.call, 1e-5);
        }
}

// A few million products, which the threads share by blocks of pixels.
TEST(Conv, ManyBlocks) {
  Conv c;
  make(c, {1, 64, 48, 32, 32, 32, {5, 5}, {1, 1}, {1, 1}, {2, 2}, {2, 2}}, PackedKind::kInteger, false);
  compare_all(c.call, 1e-5);
  make(c, {1, 40, 30, 24, 48, 1, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}, PackedKind::kF32, true, UnaryKind::kGelu);
  compare_all(c.call, 1e-5);
}

TEST(Conv, ActivationThenLimits) {
  Conv c;
  make(c, kShapes[1], PackedKind::kF32, true, UnaryKind::kSilu);
  params_of<WindowParams>(&c.call.params)->least = -0.1f;
  params_of<WindowParams>(&c.call.params)->most = 0.7f;
  compare_all(c.call, 1e-5);
  const Ran r = run_reference(c.call);
  for (size_t i = 0; i < r.out[0].bytes() / 4; ++i) {
    EXPECT_GE(r.out[0].data<float>()[i], -0.1f);
    EXPECT_LE(r.out[0].data<float>()[i], 0.7f);
  }
}

// A window of 2 x 2 over 2 x 3 pixels of two channels, by hand.
TEST(Conv, ReferenceHoldsTheFormula) {
  Conv c;
  make(c, {1, 2, 3, 2, 1, 1, {2, 2}, {1, 1}, {1, 1}, {0, 0}, {0, 0}}, PackedKind::kF32, true);
  const Ran r = run_reference(c.call);
  const float *x = c.call.in[0].data<float>(), *w = c.weights.values.data();
  for (int j = 0; j < 2; ++j) {
    double sum = double(c.call.in[2].data<float>()[0]);
    for (int p = 0; p < 2; ++p)
      for (int q = 0; q < 2; ++q)
        for (int k = 0; k < 2; ++k) sum += double(w[(p * 2 + q) * 2 + k]) * double(x[(p * 3 + j + q) * 2 + k]);
    EXPECT_NEAR(r.out[0].data<float>()[j], sum, 1e-6);
  }
}

TEST(Conv, RefusesWhatDoesNotFit) {
  Conv c;
  std::vector<TensorView> views;
  make(c, kShapes[0], PackedKind::kF32, true);
  const OpDef* def = find_op_by_name("conv");
  EXPECT_TRUE(def->check(c.call.call(c.call.in, c.call.out, views)).is_ok());
  c.call.out = {Array(DType::kF32, {1, 5, 8, 16})};
  EXPECT_EQ(def->check(c.call.call(c.call.in, c.call.out, views)).code(), Code::kInvalidArgument);
  c.call.out = {Array(DType::kF32, {1, 5, 7, 16})};
  params_of<WindowParams>(&c.call.params)->groups = 2;
  EXPECT_EQ(def->check(c.call.call(c.call.in, c.call.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
