#include "runtime/ops/budget_attention/budget_attention.h"

#include "ops/attention_states.h"

namespace runnel::test {
namespace {

struct Sizes {
  int64_t tokens = 150, heads = 4, kv_heads = 2, key = 20, value = 32;
};

Case make(const Sizes& s, const BudgetAttentionParams& p, DType type = DType::kF32, uint32_t seed = 1) {
  Case t;
  t.op = "budget_attention";
  *params_of<BudgetAttentionParams>(&t.params) = p;
  const int64_t tiles = (p.budget + p.block + 15) / 16;
  t.in = {Array::random({s.tokens, s.heads, s.key}, seed, 2.0f),
          Array::random({s.tokens, s.kv_heads, s.key}, seed + 1, 2.0f),
          Array::random({s.tokens, s.kv_heads, s.value}, seed + 2),
          Array(type, {s.kv_heads, tiles, s.key, 16}),
          Array(type, {s.kv_heads, tiles * 16, s.value}),
          Array(DType::kF32, {s.kv_heads, tiles * 16})};
  t.out = {Array(DType::kF32, {s.tokens, s.heads, s.value}), t.in[3], t.in[4], t.in[5]};
  return t;
}

// Budget, recent, block, window, pool.
const BudgetAttentionParams kPolicies[] = {{0.2f, 32, 16, 16, 0, 1}, {0.2f, 32, 8, 16, 4, 5},  {0.2f, 0, 0, 8, 0, 1},
                                           {0.2f, 7, 7, 5, 0, 1},    {0.2f, 40, 1, 64, 64, 3}, {0.2f, 33, 0, 1, 1, 1},
                                           {0.2f, 500, 4, 32, 0, 1}, {0.2f, 24, 8, 24, 1, 7}};

// By hand in doubles: whole lists of positions in the place of slots.
std::vector<float> by_hand(const Case& t, const Sizes& s, const BudgetAttentionParams& p) {
  const float *q = t.in[0].data<float>(), *k = t.in[1].data<float>(), *v = t.in[2].data<float>();
  std::vector<float> y(size_t(s.tokens * s.heads * s.value));
  const int64_t group = s.heads / s.kv_heads;
  for (int64_t g = 0; g < s.kv_heads; ++g) {
    std::vector<int64_t> seen;
    std::vector<double> weight(size_t(s.tokens), 0.0);
    for (int64_t at = 0; at < s.tokens; ++at) {
      seen.push_back(at);
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        std::vector<double> e;
        double sum = 0;
        for (const int64_t j : seen) {
          double dot = 0;
          for (int64_t d = 0; d < s.key; ++d)
            dot += double(q[(at * s.heads + h) * s.key + d]) * double(k[(j * s.kv_heads + g) * s.key + d]);
          e.push_back(std::exp(dot * double(p.scale)));
          sum += e.back();
        }
        for (size_t i = 0; i < seen.size(); ++i) {
          if (p.window == 0 || at % p.block >= int64_t(p.block - p.window)) weight[size_t(seen[i])] += e[i] / sum;
          for (int64_t d = 0; d < s.value; ++d)
            y[size_t((at * s.heads + h) * s.value + d)] +=
                float(e[i] / sum * double(v[(seen[i] * s.kv_heads + g) * s.value + d]));
        }
      }
      if ((at + 1) % p.block != 0) continue;
      if (seen.size() > p.budget) {
        std::vector<double> score(seen.size());
        const int64_t half = p.window > 0 ? p.pool / 2 : 0, n = int64_t(seen.size());
        for (int64_t i = 0; i < n; ++i)
          for (int64_t x = std::max<int64_t>(0, i - half); x <= std::min(n - 1, i + half); ++x)
            score[size_t(i)] += weight[size_t(seen[size_t(x)])];
        for (size_t i = seen.size() - p.recent; i < seen.size(); ++i) score[i] = 1e300;
        while (seen.size() > p.budget) {  // the least important goes, of equal ones the latest
          size_t worst = 0;
          for (size_t i = 1; i < seen.size(); ++i)
            if (score[i] <= score[worst]) worst = i;
          seen.erase(seen.begin() + std::ptrdiff_t(worst)), score.erase(score.begin() + std::ptrdiff_t(worst));
        }
      }
      if (p.window > 0) std::fill(weight.begin(), weight.end(), 0.0);
    }
  }
  return y;
}

TEST(BudgetAttention, ReferenceHoldsTheFormula) {
  const Sizes s;
  for (const BudgetAttentionParams& p : kPolicies) {
    const Case t = make(s, p);
    expect_close(run_reference(t).out[0], Array::f32({s.tokens, s.heads, s.value}, by_hand(t, s, p)), 1e-5,
                 "budget " + std::to_string(p.budget));
  }
}

TEST(BudgetAttention, KernelsAgreeWithTheReference) {
  for (const BudgetAttentionParams& p : kPolicies)
    for (const DType type : {DType::kF32, DType::kF16}) {
      compare_all(make({}, p, type), 1e-5);
      compare_all(make({70, 5, 1, 16, 16}, p, type, 7), 1e-5);
      compare_all(make({33, 3, 3, 8, 48}, p, type, 9), 1e-5);
      compare_all(make({0, 2, 1, 8, 16}, p, type), 1e-5);
    }
}

// The cut into calls changes no bit, and neither does memory that is the same before and after.
TEST(BudgetAttention, CallsOfAnyLengthAgree) {
  for (const BudgetAttentionParams& p : kPolicies) {
    const Case whole = make({}, p);
    const Ran all = run_reference(whole);
    for (const int64_t chunk : {1, 7, 64}) {
      Case t = whole;
      for (int64_t at = 0; at < 150; at += chunk) {
        const int64_t n = std::min<int64_t>(chunk, 150 - at);
        for (int i = 0; i < 3; ++i) t.in[size_t(i)] = rows_of(whole.in[size_t(i)], at, n);
        t.out[0] = Array(DType::kF32, {n, 4, 32});
        t.position = at;
        if (at % 5 == 0) compare_all(t, 1e-5);
        const Ran part = run_reference(t);
        expect_close(part.out[0], rows_of(all.out[0], at, n), 0, "chunk " + std::to_string(chunk));
        for (size_t i = 1; i < 4; ++i) t.in[i + 2] = part.out[i];
      }
      for (size_t i = 3; i < 6; ++i) expect_close(t.in[i], all.out[i - 2], 0, "state");
    }
  }
}

// What is not a number is kept; of equal positions the earlier one.
TEST(BudgetAttention, NotANumberAndTies) {
  const BudgetAttentionParams p = {1, 2, 0, 4, 0, 1};
  const float tied[5] = {1, 1, 1, 1, 1}, strange[5] = {3, 1, NAN, 2, NAN};
  int32_t order[5], kept[5];
  EXPECT_EQ(keep_slots(p, tied, 5, order, kept), 2);
  EXPECT_EQ(kept[0], 0);
  EXPECT_EQ(kept[1], 1);
  EXPECT_EQ(keep_slots(p, strange, 5, order, kept), 2);
  EXPECT_EQ(kept[0], 2);
  EXPECT_EQ(kept[1], 4);
  EXPECT_EQ(keep_slots(p, strange, 1, order, kept), 1);
  EXPECT_EQ(kept[0], 0);
  EXPECT_EQ(keep_slots({1, 0, 0, 4, 0, 1}, strange, 5, order, kept), 0);
}

TEST(BudgetAttention, Refuses) {
  Case t = make({}, kPolicies[0]);
  t.in[3] = Array(DType::kF32, {2, 2, 20, 16});
  std::vector<TensorView> views;
  EXPECT_FALSE(find_op_by_name("budget_attention")->check(t.call(t.in, t.out, views)).is_ok());
}

}  // namespace
}  // namespace runnel::test
