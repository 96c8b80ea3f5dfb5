#include "runtime/ops/rope/rope.h"

#include <algorithm>
#include <cstring>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(int64_t tokens, int64_t heads, int64_t dim, int64_t pairs, bool interleaved, int32_t first, int32_t step,
          float scale = 1) {
  Case t;
  t.op = "rope";
  *params_of<RopeParams>(&t.params) = {scale, interleaved};
  std::vector<int32_t> positions;
  std::vector<float> freq;
  for (int64_t i = 0; i < tokens; ++i) positions.push_back(first + int32_t(i) * step);
  for (int64_t i = 0; i < pairs; ++i) freq.push_back(float(std::pow(10000.0, -double(i) / double(pairs))));
  t.in = {Array::random({tokens, heads, dim}, 1), Array::i32({tokens}, positions), Array::f32({pairs}, freq)};
  t.out = {Array(DType::kF32, {tokens, heads, dim})};
  return t;
}

TEST(Rope, MatchesReferenceAtTheEdges) {
  for (const bool interleaved : {false, true})
    for (const int64_t dim : {2, 3, 7, 32, 34, 64, 256})
      for (const int64_t pairs : {dim / 2, dim / 4, int64_t(0)})
        for (const int64_t tokens : {0, 1, 5})
          compare_all(make(tokens, 3, dim, pairs, interleaved, 17, 3, 1.25f), 4e-7);
}

TEST(Rope, LargeAndNegativePositions) {
  for (const int32_t first : {1000, 131072, 999000, 16000000, -5000})
    compare_all(make(300, 1, 64, 32, false, first, 7), 1e-6);
}

// Angles that are not rounded, and positions that stand still above a limit.
TEST(Rope, ExactAnglesAndALimit) {
  for (const bool interleaved : {false, true})
    for (const int32_t first : {0, 1000, 131072, 999000, 16777217, 2000000000, -5000}) {
      Case t = make(300, 1, 64, 32, interleaved, first, 7);
      params_of<RopeParams>(&t.params)->exact = true;
      compare_all(t, 1e-6);
      params_of<RopeParams>(&t.params)->limit = uint32_t(std::max(first, 0) + 100);
      compare_all(t, 1e-6);
      Case still = t;
      params_of<RopeParams>(&still.params)->limit = 0;
      for (int i = 0; i < 300; ++i)
        still.in[1].data<int32_t>()[i] = std::min(still.in[1].data<int32_t>()[i], std::max(first, 0) + 100);
      const Ran a = run_reference(t), b = run_reference(still);
      EXPECT_EQ(0, std::memcmp(a.out[0].data<float>(), b.out[0].data<float>(), a.out[0].bytes()));
    }
  // By hand: at a position of a billion the fastest pair still turns by its frequency from one token to the next.
  Case far = make(2, 1, 2, 1, false, 1000000000, 1);
  params_of<RopeParams>(&far.params)->exact = true;
  far.in[0] = Array::f32({2, 1, 2}, {1, 0, 1, 0});
  far.in[2] = Array::f32({1}, {0.7f});
  const Ran r = run_reference(far);
  const float* y = r.out[0].data<float>();
  EXPECT_NEAR(double(y[0]) * double(y[2]) + double(y[1]) * double(y[3]), std::cos(double(0.7f)), 1e-6);
}

TEST(Rope, ManyTasks) { compare_all(make(100, 4, 256, 128, false, 0, 1), 1e-6); }

TEST(Rope, OutputMayBeTheInput) {
  for (const bool interleaved : {false, true}) {
    const Case t = make(3, 2, 40, 18, interleaved, 5, 1);
    const Ran want = run_reference(t);
    for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
      std::vector<Array> in = t.in, out = t.out;
      std::vector<TensorView> views;
      OpCall c = t.call(in, out, views);
      views[3].data = views[0].data;
      kernel.run(c);
      expect_close(in[0], want.out[0], 1e-6, kernel.name);
    });
  }
}

TEST(Rope, ReferenceHoldsTheFormula) {
  Case t = make(1, 1, 5, 2, false, 3, 1, 2.0f);
  t.in[0] = Array::f32({1, 1, 5}, {1, 2, 3, 4, 5});
  t.in[2] = Array::f32({2}, {1.0f, 0.5f});
  const Ran half = run_reference(t);
  const float* y = half.out[0].data<float>();
  EXPECT_FLOAT_EQ(y[0], float(2 * (1 * std::cos(3.0) - 3 * std::sin(3.0))));
  EXPECT_FLOAT_EQ(y[1], float(2 * (2 * std::cos(1.5) - 4 * std::sin(1.5))));
  EXPECT_FLOAT_EQ(y[2], float(2 * (3 * std::cos(3.0) + 1 * std::sin(3.0))));
  EXPECT_EQ(y[4], 5.0f);
  params_of<RopeParams>(&t.params)->interleaved = true;
  const Ran pairs = run_reference(t);
  EXPECT_FLOAT_EQ(pairs.out[0].data<float>()[0], float(2 * (1 * std::cos(3.0) - 2 * std::sin(3.0))));
  EXPECT_FLOAT_EQ(pairs.out[0].data<float>()[3], float(2 * (4 * std::cos(1.5) + 3 * std::sin(1.5))));
}

// The same with positions on `axes` axes, and a section for each pair.
Case on_axes(Case t, int64_t axes, const std::vector<int>& sections, const std::vector<int32_t>& positions) {
  RopeParams& p = *params_of<RopeParams>(&t.params);
  p.axes = uint8_t(1 + *std::max_element(sections.begin(), sections.end()));
  p.pairs = uint16_t(sections.size());
  for (size_t i = 0; i < sections.size(); ++i) p.sections.words[i / 16] |= uint32_t(sections[i]) << i % 16 * 2;
  t.in[1] = Array::i32({t.in[0].view().dims[0], axes}, positions);
  return t;
}

std::vector<int32_t> grid(int64_t tokens, int64_t axes) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < tokens * axes; ++i) out.push_back(int32_t(7 + i % axes * 1000 + i / axes % 5));
  return out;
}

TEST(Rope, PositionsOnSeveralAxes) {
  for (const bool interleaved : {false, true})
    for (const int64_t pairs : {1, 5, 16, 33, 64, 192})
      for (const int64_t axes : {1, 3, 4, 5})
        for (const int64_t tokens : {0, 1, 70}) {
          std::vector<int> in_turn, in_order;
          for (int64_t i = 0; i < pairs; ++i) {
            in_turn.push_back(int(i % std::min<int64_t>(axes, 4)));
            in_order.push_back(int(i * std::min<int64_t>(axes, 4) / pairs));
          }
          for (const auto& sections : {in_turn, in_order})
            compare_all(on_axes(make(tokens, 3, 2 * pairs + 3, pairs, interleaved, 0, 1, 1.25f), axes, sections,
                                grid(tokens, axes)),
                        1e-6);
        }
}

TEST(Rope, SectionsTurnByTheirAxis) {
  // Each pair as a rope of its own axis alone has it.
  const int64_t tokens = 6, pairs = 40, axes = 3;
  const std::vector<int32_t> positions = grid(tokens, axes);
  std::vector<int> sections;
  for (int64_t i = 0; i < pairs; ++i) sections.push_back(i < 10 ? 0 : i < 26 ? 2 : 1);
  const Case t = make(tokens, 2, 2 * pairs, pairs, false, 0, 1);
  const Ran got = run_reference(on_axes(t, axes, sections, positions));
  for (int axis = 0; axis < int(axes); ++axis) {
    Case one = t;
    std::vector<int32_t> own;
    for (int64_t i = 0; i < tokens; ++i) own.push_back(positions[size_t(i * axes + axis)]);
    one.in[1] = Array::i32({tokens}, own);
    const Ran want = run_reference(one);
    for (int64_t h = 0; h < tokens * 2; ++h)
      for (int64_t i = 0; i < 2 * pairs; ++i)
        if (sections[size_t(i % pairs)] == axis)
          ASSERT_EQ(got.out[0].data<float>()[h * 2 * pairs + i], want.out[0].data<float>()[h * 2 * pairs + i]);
  }
}

TEST(Rope, EqualPositionsHaveTheBitsOfOne) {
  const Case t = make(9, 2, 128, 64, false, 100000, 1);
  std::vector<int32_t> three;
  std::vector<int> sections;
  for (int i = 0; i < 27; ++i) three.push_back(100000 + i / 3);
  for (int i = 0; i < 64; ++i) sections.push_back(i % 3);
  const Case same = on_axes(t, 3, sections, three);
  for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
    std::vector<Array> in = t.in, out = t.out, in3 = same.in, out3 = same.out;
    std::vector<TensorView> views, views3;
    kernel.run(t.call(in, out, views));
    kernel.run(same.call(in3, out3, views3));
    EXPECT_EQ(std::memcmp(out[0].data<float>(), out3[0].data<float>(), size_t(9 * 2 * 128) * 4), 0) << kernel.name;
  });
}

TEST(Rope, RefusesWrongShapesByName) {
  Case t = make(4, 2, 8, 4, false, 0, 1);
  t.in[2] = Array::random({5}, 1);
  std::vector<TensorView> views;
  const Status s = find_op_by_name("rope")->check(t.call(t.in, t.out, views));
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(s.message()).find("inv_freq is f32[5]"), std::string::npos) << s.message();
  t = make(4, 2, 8, 4, false, 0, 1);
  t.in[1] = Array::i32({3}, {0, 1, 2});
  EXPECT_EQ(find_op_by_name("rope")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
  // Sections ask for as many axes as they name, and are as many as there are pairs.
  const Case good = on_axes(make(4, 2, 8, 4, false, 0, 1), 3, {0, 1, 2, 0}, grid(4, 3));
  const auto refuses = [&](Case c, const char* why) {
    const Status status = find_op_by_name("rope")->check(c.call(c.in, c.out, views));
    EXPECT_NE(std::string(status.message()).find(why), std::string::npos) << status.message();
  };
  EXPECT_TRUE(find_op_by_name("rope")->check(good.call(t.in = good.in, t.out, views)).is_ok());
  Case bad = good;
  bad.in[1] = Array::i32({4, 2}, grid(4, 2));
  refuses(bad, "sections name 3 axes");
  bad.in[1] = Array::i32({4}, {0, 1, 2, 3});
  refuses(bad, "sections name 3 axes");
  bad = good;
  bad.in[2] = Array::random({3}, 1);
  refuses(bad, "inv_freq is f32[3]");
}

}  // namespace
}  // namespace runnel::test
