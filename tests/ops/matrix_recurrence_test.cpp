#include "ops/recurrence_test.h"
#include "runtime/ops/matrix_recurrence/matrix_recurrence.h"

namespace runnel::test {
namespace {

enum Input { kQ, kK, kV, kDecay, kBeta, kA, kB, kBonus, kGate, kState, kNorm, kMax, kSegments };

struct Options {
  RecurrenceRule rule = RecurrenceRule::kAdd;
  int decay = 0;  // rank
  bool before = false, gate = false, state = true, reverse = false;
  RecurrenceNorm normalise = RecurrenceNorm::kNone;
  int steps = 1;
  int64_t q_heads = 0, k_heads = 0, v_heads = 0;  // 0: as many as there are
  float strength = 1;                             // of decays
};

Case make(int64_t tokens, int64_t heads, int64_t key, int64_t value, Options o = {}) {
  Case t;
  t.op = "matrix_recurrence";
  *params_of<MatrixRecurrenceParams>(&t.params) = {
      o.rule, o.before ? RecurrenceRead::kBefore : RecurrenceRead::kAfter, o.normalise, o.reverse, o.steps,
      0.5f,   o.normalise == RecurrenceNorm::kSum ? 0.01f : 1e-6f};
  const int64_t rows = tokens * o.steps;
  const float size = 1.0f / std::sqrt(float(key));
  const auto positive = [](Array a) {
    for (size_t i = 0; i < a.bytes() / 4; ++i) a.data<float>()[i] = std::fabs(a.data<float>()[i]);
    return a;
  };
  const auto negative = [&](Array a) {
    for (size_t i = 0; i < a.bytes() / 4; ++i) a.data<float>()[i] = -std::fabs(a.data<float>()[i]);
    return a;
  };
  t.in.resize(13);
  t.in[kQ] = Array::random({tokens, o.q_heads ? o.q_heads : heads, key}, 1);
  t.in[kK] = Array::random({rows, o.k_heads ? o.k_heads : heads, key}, 2, size);
  if (o.normalise == RecurrenceNorm::kSum) t.in[kQ] = positive(t.in[kQ]), t.in[kK] = positive(t.in[kK]);
  t.in[kV] = Array::random({rows, o.v_heads ? o.v_heads : heads, value}, 3);
  if (o.decay == 1) t.in[kDecay] = negative(Array::random({heads}, 4, o.strength));
  if (o.decay == 2) t.in[kDecay] = negative(Array::random({tokens, heads}, 4, o.strength));
  if (o.decay == 3) t.in[kDecay] = negative(Array::random({tokens, heads, key}, 4, o.strength));
  if (o.rule == RecurrenceRule::kDelta) t.in[kBeta] = positive(Array::random({rows, heads}, 5, 0.5f));
  if (o.rule == RecurrenceRule::kDplr)
    t.in[kA] = Array::random({rows, heads, key}, 6, size), t.in[kB] = Array::random({rows, heads, key}, 7, 0.5f * size);
  if (o.before) t.in[kBonus] = Array::random({heads, key}, 8);
  if (o.gate) t.in[kGate] = Array::random({tokens, heads}, 9, 3.0f);
  t.out = {Array(DType::kF32, {tokens, heads, value})};
  if (o.state) {
    t.in[kState] = Array::random({heads, key, value}, 10);
    t.out.resize(4);
    t.out[1] = Array(DType::kF32, {heads, key, value});
    if (o.normalise != RecurrenceNorm::kNone) {
      t.in[kNorm] = positive(Array::random({heads, key}, 11));
      t.out[2] = Array(DType::kF32, {heads, key});
    }
    if (o.gate) {
      t.in[kMax] = Array::random({heads}, 12);
      t.out[3] = Array(DType::kF32, {heads});
    }
    while (t.out.back().dtype() == DType::kNone) t.out.pop_back();
  }
  return t;
}

std::vector<Options> all_options() {
  std::vector<Options> all;
  for (int decay = 0; decay <= 3; ++decay)
    for (RecurrenceRule rule : {RecurrenceRule::kAdd, RecurrenceRule::kDelta, RecurrenceRule::kDplr}) {
      Options o;
      o.rule = rule, o.decay = decay;
      all.push_back(o);
      o.steps = 3;
      all.push_back(o);
    }
  Options before;
  before.before = true, before.decay = 3;
  all.push_back(before);
  for (int decay : {0, 2, 3}) {
    Options o;
    o.normalise = RecurrenceNorm::kSum, o.decay = decay;
    all.push_back(o);
  }
  for (int decay : {0, 1, 2}) {
    Options o;
    o.normalise = RecurrenceNorm::kBounded, o.gate = true, o.decay = decay;
    all.push_back(o);
  }
  return all;
}

// As many steps as a pass of a real model has: more rounds of loops than some drivers make.
TEST(MatrixRecurrence, LongPasses) {
  Options o;
  o.rule = RecurrenceRule::kDelta, o.decay = 2;
  compare_all(make(256, 1, 128, 3, o), 2e-5);
}

TEST(MatrixRecurrence, AtTheLimitsOfADevice) {
  Options o;
  o.rule = RecurrenceRule::kDplr, o.decay = 3, o.normalise = RecurrenceNorm::kNone;
  compare_all(make(3, 2, 256, 5, o), 1e-5);
}

// Keys that no power of two divides, some too long for one lane or one subgroup.
TEST(MatrixRecurrence, UnevenKeys) {
  Options delta, bounded, sum;
  delta.rule = RecurrenceRule::kDelta, delta.decay = 3;
  bounded.normalise = RecurrenceNorm::kBounded, bounded.gate = true, bounded.decay = 2;
  sum.normalise = RecurrenceNorm::kSum, sum.decay = 3;
  for (const Options& o : {delta, bounded, sum})
    for (int64_t key : {7, 50, 130}) compare_all(make(3, 2, key, 5, o), 2e-5);
}

TEST(MatrixRecurrence, EveryRuleMatchesTheReference) {
  for (const Options& o : all_options())
    for (int64_t tokens : {0, 1, 5, 19}) compare_all(make(tokens, 3, 20, 37, o), 2e-5);
}

TEST(MatrixRecurrence, Edges) {
  for (const Options& o : all_options())
    for (int64_t key : {1, 3, 16, 33})
      for (int64_t value : {1, 16, 17, 32, 70}) compare_all(make(4, 1, key, value, o), 3e-5);
}

TEST(MatrixRecurrence, HeadsShareInputs) {
  Options o;
  o.decay = 2, o.q_heads = 2, o.k_heads = 1, o.v_heads = 3;
  compare_all(make(7, 6, 12, 20, o), 2e-5);
  o.rule = RecurrenceRule::kDelta, o.k_heads = 3, o.v_heads = 6;
  compare_all(make(7, 6, 12, 20, o), 2e-5);
}

TEST(MatrixRecurrence, StrongDecaysForget) {
  for (int decay : {1, 2, 3}) {
    Options o;
    o.decay = decay, o.strength = 200;
    compare_all(make(9, 2, 16, 16, o), 2e-5);
    o.rule = RecurrenceRule::kDelta;
    compare_all(make(9, 2, 16, 16, o), 2e-5);
  }
}

TEST(MatrixRecurrence, DecaysByChannelThatAllTokensShare) {
  for (const RecurrenceRule rule : {RecurrenceRule::kAdd, RecurrenceRule::kDelta, RecurrenceRule::kDplr}) {
    for (const int64_t tokens : {0, 1, 6}) {
      Options o;
      o.rule = rule, o.decay = 3;
      Case shared = make(tokens, 3, 18, 33, o), repeated = shared;
      shared.in[kDecay] = make(1, 3, 18, 33, o).in[kDecay];
      for (int64_t t = 0; t < tokens; ++t)
        std::copy_n(shared.in[kDecay].data<float>(), 3 * 18, repeated.in[kDecay].data<float>() + t * 3 * 18);
      compare_all(shared, 2e-5);
      expect_close(run_reference(shared).out[0], run_reference(repeated).out[0], 0, "shared against repeated");
    }
  }
}

TEST(MatrixRecurrence, DirectionAndSegments) {
  for (const Options& base : all_options()) {
    Options o = base;
    o.state = false;
    for (bool reverse : {false, true}) {
      o.reverse = reverse;
      Case t = make(14, 2, 9, 18, o);
      t.in[kSegments] = Array::i32({4}, {0, 4, 4, 14});
      compare_all(t, 2e-5);
    }
  }
}

TEST(MatrixRecurrence, CutsKeepTheBits) {
  for (const Options& o : all_options()) {
    if (o.steps > 1) continue;  // rows of k and v are not rows of tokens
    const Case t = make(17, 2, 18, 35, o);
    std::vector<int> streams = {kQ, kK, kV};
    if (o.decay >= 2) streams.push_back(kDecay);
    for (int i : {int(kBeta), int(kA), int(kB), int(kGate)})
      if (t.in[size_t(i)].dtype() != DType::kNone) streams.push_back(i);
    std::vector<std::pair<int, int>> states = {{kState, 1}};
    if (o.normalise != RecurrenceNorm::kNone) states.push_back({kNorm, 2});
    if (o.gate) states.push_back({kMax, 3});
    expect_cuts_keep_bits(t, 17, streams, states, {{1}, {8, 9}, {4, 8, 12, 16}});
    expect_in_place_is_the_same(t, kState, 1);
  }
}

TEST(MatrixRecurrence, HalfStates) {
  Options o;
  o.decay = 2;
  Case t = make(5, 2, 16, 20, o);
  t.in[kState] = Array(DType::kF16, {2, 16, 20});
  for (size_t i = 0; i < t.in[kState].bytes() / 2; ++i) t.in[kState].data<uint16_t>()[i] = uint16_t(0x3000 + i % 2000);
  t.out[1] = Array(DType::kF16, {2, 16, 20});
  const Ran want = run_reference(t);
  for_each_kernel(t, [&](const Kernel& k, const std::string&) {
    const Ran got = run_kernel(t, k, nullptr);
    expect_close(got.out[0], want.out[0], 2e-5, k.name);
    int far = 0;
    for (size_t i = 0; i < got.out[1].bytes() / 2; ++i)
      far += std::abs(int(got.out[1].data<uint16_t>()[i]) - int(want.out[1].data<uint16_t>()[i])) > 1;
    EXPECT_EQ(far, 0) << k.name;
  });
}

TEST(MatrixRecurrence, RefusesWrongShapesByName) {
  Case t = make(4, 2, 8, 8);
  t.in[kState] = Array::random({2, 8, 7}, 1);
  EXPECT_NE(refusal(t).find("state is f32[2, 8, 7], want f32[2, 8, 8]"), std::string::npos) << refusal(t);
  t = make(4, 3, 8, 8);
  t.in[kK] = Array::random({4, 2, 8}, 1);
  EXPECT_NE(refusal(t).find("2 heads of k do not divide 3"), std::string::npos) << refusal(t);
  t = make(4, 3, 8, 8);
  t.in[kBeta] = Array::random({4, 3}, 1);
  EXPECT_NE(refusal(t).find("beta"), std::string::npos) << refusal(t);
}

}  // namespace
}  // namespace runnel::test
