#include "runtime/ops/select_greedy/select_greedy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(Array rows, Array scores, int64_t groups, int64_t capacity) {
  Case t;
  t.op = "select_greedy";
  const int64_t batch = rows.view().dims[0], n = rows.view().dims[1];
  t.in = {std::move(rows), std::move(scores)};
  t.out = {Array(DType::kI32, {batch, groups, capacity}), Array(DType::kF32, {batch, groups, n})};
  return t;
}
Array one(float x) { return Array::f32({1}, {x}); }

Case suppression(Array boxes, Array scores, int64_t groups, int64_t capacity, float limit, float threshold) {
  Case t = make(std::move(boxes), std::move(scores), groups, capacity);
  t.in.push_back(one(limit)), t.in.push_back(one(threshold));
  return t;
}

std::vector<int32_t> ids_of(const Case& t) {
  Ran r = run_reference(t);
  const int32_t* p = r.out[0].data<int32_t>();
  return {p, p + r.out[0].bytes() / 4};
}

// Whole numbers, so that every order of sums gives the same.
Array whole(std::vector<int64_t> shape, uint32_t seed, float most) {
  Array x = Array::random(shape, seed);
  for (size_t i = 0; i < x.bytes() / 4; ++i) x.data<float>()[i] = std::round(x.data<float>()[i] * most);
  return x;
}

// As one writes non-maximum suppression: sorted boxes, each held against those that were kept.
std::vector<int32_t> sorted_suppression(const float* boxes, const float* scores, int64_t n, size_t capacity,
                                        double limit, double threshold) {
  std::vector<int32_t> order(static_cast<size_t>(n)), kept;
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int32_t i) { return !(scores[i] > threshold); });
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  const auto side = [](double a, double b) { return std::pair(std::min(a, b), std::max(a, b)); };
  for (const int32_t i : order) {
    const bool meets = std::any_of(kept.begin(), kept.end(), [&](int32_t k) {
      double both = 1, area_a = 1, area_b = 1;
      for (int axis = 0; axis < 2; ++axis) {
        const auto a = side(boxes[i * 4 + axis], boxes[i * 4 + 2 + axis]),
                   b = side(boxes[k * 4 + axis], boxes[k * 4 + 2 + axis]);
        both *= std::max(0.0, std::min(a.second, b.second) - std::max(a.first, b.first));
        area_a *= a.second - a.first, area_b *= b.second - b.first;
      }
      return area_a > 0 && area_b > 0 && both / (area_a + area_b - both) > limit;
    });
    if (!meets && kept.size() < capacity) kept.push_back(i);
  }
  kept.resize(capacity, -1);
  return kept;
}

TEST(SelectGreedy, SuppressionIsWhatSortingGives) {
  for (const int64_t n : {0, 1, 2, 9, 70})
    for (const int64_t capacity : {0, 1, 5, 71})
      for (const float limit : {0.0f, 0.3f, 0.7f, 1.0f})
        for (const float threshold : {-INFINITY, 0.0f, 0.5f}) {
          const Array boxes = whole({2, n, 4}, uint32_t(n), 8), scores = whole({2, 3, n}, uint32_t(n + 1), 20);
          const auto got = ids_of(suppression(boxes, scores, 3, capacity, limit, threshold));
          for (int64_t g = 0; g < 6; ++g) {
            const auto want = sorted_suppression(boxes.data<float>() + g / 3 * n * 4, scores.data<float>() + g * n, n,
                                                 size_t(capacity), double(limit), double(threshold));
            ASSERT_TRUE(std::equal(want.begin(), want.end(), got.begin() + g * capacity)) << n << " " << limit;
          }
        }
}

TEST(SelectGreedy, CentresAreTheFarthestOfWhatIsLeft) {
  for (const int64_t n : {1, 2, 9, 70})
    for (const bool has_scores : {false, true}) {
      const Array rows = whole({1, n, 5}, uint32_t(n), 6), scores = whole({1, 1, n}, uint32_t(n), 9);
      const int64_t capacity = n + 1;
      const auto got = ids_of(make(rows, has_scores ? scores : Array(), 1, capacity));
      const auto distance = [&](int64_t a, int64_t b) {
        double sum = 0;
        for (int64_t k = 0; k < 5; ++k)
          sum += std::pow(double(rows.data<float>()[a * 5 + k]) - rows.data<float>()[b * 5 + k], 2);
        return sum;
      };
      std::vector<int32_t> taken;
      for (int64_t round = 0; round < n; ++round) {
        const auto key = [&](int64_t i) {
          if (round == 0) return has_scores ? double(scores.data<float>()[i]) : 0.0;
          double least = INFINITY;
          for (const int32_t t : taken) least = std::min(least, distance(i, t));
          return least;
        };
        int64_t best = -1;
        for (int64_t i = 0; i < n; ++i)
          if (std::find(taken.begin(), taken.end(), i) == taken.end() && (best < 0 || key(i) > key(best))) best = i;
        taken.push_back(int32_t(best));
      }
      taken.push_back(-1);
      ASSERT_EQ(got, taken) << n;
    }
}

TEST(SelectGreedy, NumbersAtTheEdge) {
  const Array boxes = Array::f32({1, 4, 4}, {0, 0, 1, 1, 0, 0, 1, 1, 5, 5, 5, 9, 5, 5, 5, 9});
  const auto kept = [&](std::vector<float> scores, float threshold, float limit = 0.5f) {
    return ids_of(suppression(boxes, Array::f32({1, 1, 4}, std::move(scores)), 1, 4, limit, threshold));
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(kept({1, 1, 1, 1}, 0), (Ids{0, 2, 3, -1})) << "of equal ones the first; no area, no meeting";
  EXPECT_EQ(kept({NAN, 1, INFINITY, -INFINITY}, -INFINITY), (Ids{2, 1, -1, -1}));
  EXPECT_EQ(kept({1, 2, 3, 4}, 2), (Ids{3, 2, -1, -1})) << "a score at the threshold is not above it";
  EXPECT_EQ(kept({1, 2, 3, 4}, NAN), (Ids{-1, -1, -1, -1}));
  EXPECT_EQ(kept({1, 2, 3, 4}, 0, NAN), (Ids{3, 2, 1, 0})) << "nothing is more than NaN";
  // A row that is NaN is as far from others as nothing is.
  const auto centres = [](std::vector<float> rows) {
    const int64_t n = int64_t(rows.size());
    return ids_of(make(Array::f32({1, n, 1}, std::move(rows)), Array(), 1, n));
  };
  EXPECT_EQ(centres({0, NAN, 3, 1}), (Ids{0, 2, 3, -1}));
  EXPECT_EQ(centres({NAN, 1, 2}), (Ids{0, -1, -1}));
  EXPECT_EQ(centres({4, 4, 4}), (Ids{0, 1, 2}));
}

TEST(SelectGreedy, Backends) {
  for (const int64_t n : {1, 63, 64, 65, 200})
    for (const int64_t capacity : {0, 1, 30, 201}) {
      const Array boxes = whole({2, n, 4}, uint32_t(n), 8), scores = whole({2, 3, n}, uint32_t(n + 1), 20);
      compare_all(suppression(boxes, scores, 3, capacity, 0.4f, -2), 0);
      compare_all(make(whole({2, n, 5}, uint32_t(n), 6), scores, 3, capacity), 0);
      compare_all(make(whole({1, n, 7}, uint32_t(n), 6), Array(), 1, capacity), 0);
    }
  const Array boxes = whole({1, 6, 4}, 1, 8);
  const Array scores = Array::f32({1, 1, 6}, {NAN, -INFINITY, INFINITY, 0, -0.0f, 3});
  for (const float threshold : {-INFINITY, 0.0f, NAN})
    compare_all(suppression(boxes, scores, 1, 7, 0.5f, threshold), 0);
}

TEST(SelectGreedy, Refused) {
  const OpDef& op = *find_op_by_name("select_greedy");
  std::vector<TensorView> views;
  const auto code = [&](Case t) { return op.check(t.call(t.in, t.out, views)).code(); };
  const auto good = [] { return suppression(whole({2, 5, 4}, 1, 3), whole({2, 3, 5}, 2, 3), 3, 2, 0.5f, 0); };
  EXPECT_EQ(code(good()), Code::kOk);
  const auto changed = [&](int input, Array with) {
    Case t = good();
    t.in[size_t(input)] = std::move(with);
    return code(t);
  };
  EXPECT_EQ(changed(0, whole({2, 5, 3}, 1, 3)), Code::kInvalidArgument);
  EXPECT_EQ(changed(0, whole({5, 4}, 1, 3)), Code::kInvalidArgument);
  EXPECT_EQ(changed(1, whole({2, 3, 4}, 1, 3)), Code::kInvalidArgument);
  EXPECT_EQ(changed(1, Array()), Code::kInvalidArgument);
  EXPECT_EQ(changed(2, whole({2}, 1, 3)), Code::kInvalidArgument);
  EXPECT_EQ(changed(3, Array(DType::kI32, {1})), Code::kInvalidArgument);
  Case t = good();
  t.out[0] = Array(DType::kI32, {2, 2, 2});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good();
  t.out[1] = Array(DType::kF32, {2, 3, 6});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
