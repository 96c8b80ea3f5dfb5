#include "runtime/ops/binary/binary.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(BinaryKind kind, std::vector<int64_t> a, std::vector<int64_t> b, std::vector<int64_t> y) {
  Case t;
  t.op = "binary";
  params_of<BinaryParams>(&t.params)->kind = kind;
  t.in = {Array::random(a, 1), Array::random(b, 2)};
  t.out = {Array(DType::kF32, y)};
  return t;
}

constexpr BinaryKind kKinds[] = {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul,
                                 BinaryKind::kDiv, BinaryKind::kMax, BinaryKind::kMin};

TEST(Binary, BroadcastsLikeNumpy) {
  using Dims = std::vector<int64_t>;
  const struct {
    Dims a, b, y;
  } shapes[] = {{{}, {}, {}},
                {{17}, {17}, {17}},
                {{17}, {}, {17}},
                {{}, {33}, {33}},
                {{3, 17}, {17}, {3, 17}},
                {{3, 1}, {17}, {3, 17}},
                {{3, 1}, {3, 17}, {3, 17}},
                {{1, 17}, {3, 1}, {3, 17}},
                {{2, 3, 4, 5}, {3, 1, 5}, {2, 3, 4, 5}},
                {{2, 1, 4, 1}, {1, 3, 1, 5}, {2, 3, 4, 5}},
                {{2, 3, 1, 5}, {2, 1, 4, 5}, {2, 3, 4, 5}},
                {{5, 1, 1}, {5, 6, 7}, {5, 6, 7}},
                {{0, 4}, {1, 4}, {0, 4}},
                {{2, 0}, {2, 1}, {2, 0}},
                {{1, 1, 1}, {1, 1}, {1, 1, 1}},
                {{2, 1, 2, 1, 2, 1}, {1, 2, 1, 2, 1, 20}, {2, 2, 2, 2, 2, 20}}};
  for (const auto& s : shapes)
    for (const BinaryKind kind : kKinds) compare_all(make(kind, s.a, s.b, s.y), 0);
}

TEST(Binary, ManyTasks) {
  compare_all(make(BinaryKind::kAdd, {50000}, {50000}, {50000}), 0);
  compare_all(make(BinaryKind::kMul, {70, 640}, {640}, {70, 640}), 0);
  compare_all(make(BinaryKind::kSub, {3, 40000}, {3, 1}, {3, 40000}), 0);
}

TEST(Binary, NanWinsOverMaxAndMin) {
  for (const BinaryKind kind : kKinds) {
    Case t = make(kind, {4}, {4}, {4});
    t.in = {Array::f32({4}, {NAN, 1, INFINITY, -0.0f}), Array::f32({4}, {1, NAN, -INFINITY, 0.0f})};
    compare_all(t, 0);
    const Ran r = run_reference(t);
    EXPECT_TRUE(std::isnan(r.out[0].data<float>()[0]) && std::isnan(r.out[0].data<float>()[1]));
  }
}

TEST(Binary, ReferenceHoldsTheFormulas) {
  const float want[] = {8, 4, 12, 3, 6, 2};
  for (int k = 0; k < 6; ++k) {
    Case t = make(BinaryKind(k), {1}, {1}, {1});
    t.in = {Array::f32({1}, {6}), Array::f32({1}, {2})};
    EXPECT_EQ(run_reference(t).out[0].data<float>()[0], want[k]);
  }
}

TEST(Binary, RefusesShapesThatDoNotBroadcast) {
  using Dims = std::vector<int64_t>;
  const struct {
    Dims a, b, y;
  } shapes[] = {{{3}, {2}, {3}}, {{3, 2}, {3}, {3, 2}}, {{3}, {3}, {1, 3}},
                {{1}, {3}, {1}}, {{3}, {1}, {4}},       {{0}, {2}, {2}}};
  for (const auto& s : shapes) {
    const Case t = make(BinaryKind::kAdd, s.a, s.b, s.y);
    std::vector<Array> in = t.in, out = t.out;
    std::vector<TensorView> views;
    EXPECT_EQ(find_op_by_name("binary")->check(t.call(in, out, views)).code(), Code::kInvalidArgument);
  }
  Case t = make(BinaryKind::kAdd, {2}, {2}, {2});
  t.in[1] = Array::i32({2}, {1, 2});
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("binary")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
