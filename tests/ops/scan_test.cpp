#include "ops/golden.h"
#include "ops/recurrence_test.h"
#include "runtime/ops/scan/scan.h"

namespace runnel::test {
namespace {

Case linear(ScanKind kind, int64_t tokens, int64_t channels, bool log_decay, int64_t a_rows, bool reverse = false,
            bool state = true) {
  Case t;
  t.op = "scan";
  *params_of<ScanParams>(&t.params) = {kind, log_decay, reverse};
  const auto shape = [&](int64_t rows) {
    return kind == ScanKind::kComplex ? std::vector<int64_t>{rows, channels, 2} : std::vector<int64_t>{rows, channels};
  };
  Array a = Array::random(shape(a_rows), 1, 0.3f);
  if (log_decay)
    for (size_t i = 0; i < a.bytes() / 4; ++i)
      if (kind == ScanKind::kReal || i % 2 == 0) a.data<float>()[i] = -std::fabs(a.data<float>()[i]);
  t.in = {a_rows ? a : Array(), Array::random(shape(tokens), 2), Array(), Array()};
  t.out = {Array(DType::kF32, shape(tokens))};
  if (state) {
    const std::vector<int64_t> s =
        kind == ScanKind::kComplex ? std::vector<int64_t>{channels, 2} : std::vector<int64_t>{channels};
    t.in[2] = Array::random(s, 3);
    t.out.push_back(Array(DType::kF32, s));
  }
  return t;
}

Case log_sum(int64_t tokens, int64_t heads, int64_t value, bool wide, bool bonus, bool state = true, float scale = 1) {
  Case t;
  t.op = "scan";
  *params_of<ScanParams>(&t.params) = {ScanKind::kLogSum, false, false};
  const int64_t width = wide ? value : 1;
  Array w = Array::random({heads, width}, 1);
  for (size_t i = 0; i < w.bytes() / 4; ++i) w.data<float>()[i] = -std::fabs(w.data<float>()[i]);
  t.in = {w,
          Array::random({tokens, heads, width}, 2, scale),
          Array::random({tokens, heads, value}, 3),
          bonus ? Array::random({heads, width}, 4) : Array(),
          Array(),
          Array()};
  t.out = {Array(DType::kF32, {tokens, heads, value})};
  if (state) {
    t.in[4] = Array(DType::kF32, {3, heads, value});  // zeros: nothing was seen
    t.out.push_back(Array(DType::kF32, {3, heads, value}));
  }
  return t;
}

TEST(Scan, MatchesReferenceAtTheEdges) {
  for (int64_t tokens : {0, 1, 2, 33})
    for (int64_t channels : {1, 8, 9, 16, 17, 50})
      for (ScanKind kind : {ScanKind::kReal, ScanKind::kComplex})
        for (bool log_decay : {false, true})
          for (int64_t rows : {int64_t(0), int64_t(1), tokens})
            compare_all(linear(kind, tokens, channels, log_decay, rows), 1e-5);
}

TEST(Scan, LogSumMatchesReference) {
  for (int64_t tokens : {0, 1, 2, 33})
    for (int64_t heads : {1, 3})
      for (int64_t value : {1, 16, 21})
        for (bool wide : {false, true})
          for (bool bonus : {false, true}) compare_all(log_sum(tokens, heads, value, wide, bonus), 1e-5);
}

TEST(Scan, LogSumDoesNotOverflow) {
  for (bool bonus : {false, true}) compare_all(log_sum(40, 2, 16, true, bonus, false, 300.0f), 1e-5);
}

TEST(Scan, CutsKeepTheBits) {
  const std::vector<std::vector<int64_t>> cuts = {{1}, {7, 8}, {5, 9, 18}};
  for (ScanKind kind : {ScanKind::kReal, ScanKind::kComplex}) {
    const Case t = linear(kind, 19, 21, true, 19);
    expect_cuts_keep_bits(t, 19, {0, 1}, {{2, 1}}, cuts);
    expect_in_place_is_the_same(t, 2, 1);
  }
  for (bool bonus : {false, true}) {
    const Case t = log_sum(19, 2, 21, true, bonus);
    expect_cuts_keep_bits(t, 19, {1, 2}, {{4, 1}}, cuts);
    expect_in_place_is_the_same(t, 4, 1);
  }
}

TEST(Scan, SegmentsAndDirection) {
  for (bool reverse : {false, true}) {
    Case t = linear(ScanKind::kReal, 20, 18, false, 20, reverse, false);
    t.in[3] = Array::i32({4}, {0, 0, 13, 20});
    compare_all(t, 1e-5);
  }
}

TEST(Scan, RefusesWrongShapesByName) {
  Case t = linear(ScanKind::kReal, 4, 8, false, 4);
  t.in[0] = Array::random({3, 8}, 1);
  EXPECT_NE(refusal(t).find("a is f32[3, 8], want f32[4, 8]"), std::string::npos) << refusal(t);
}

TEST(Scan, GoldensOfTransformersAndOfTheLru) {
  const Golden golden("scan");
  Case t;
  t.op = "scan";
  *params_of<ScanParams>(&t.params) = {ScanKind::kReal, false, false};
  t.in = {golden["rglru.a"], golden["rglru.b"], golden["rglru.h"]};
  t.out = {golden["rglru.y"]};
  expect_golden(t, 0, golden["rglru.y"], 1e-5, "RecurrentGemmaRglru");

  *params_of<ScanParams>(&t.params) = {ScanKind::kComplex, true, false};
  const TensorView b = golden["lru.b"].view();
  t.in = {golden.get("lru.a", {1, b.dims[1], 2}), golden["lru.b"]};
  t.out = {golden["lru.y"]};
  expect_golden(t, 0, golden["lru.y"], 1e-5, "LRU");

  *params_of<ScanParams>(&t.params) = {ScanKind::kLogSum, false, false};
  const TensorView k = golden["wkv.k"].view();
  const std::vector<int64_t> stream = {k.dims[0], 1, k.dims[1]}, weights = {1, k.dims[1]}, state = {3, 1, k.dims[1]};
  t.in = {golden.get("wkv.w", weights), golden.get("wkv.k", stream), golden.get("wkv.v", stream),
          golden.get("wkv.u", weights)};
  t.out = {golden.get("wkv.y", stream), golden.get("wkv.state", state)};
  const std::vector<Array> want = t.out;
  expect_golden(t, 0, want[0], 1e-5, "rwkv_linear_attention_cpu");
  expect_golden(t, 1, want[1], 1e-5, "rwkv_linear_attention_cpu's state");
}

}  // namespace
}  // namespace runnel::test
