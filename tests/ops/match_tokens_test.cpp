#include "runtime/ops/match_tokens/match_tokens.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(Array features, uint32_t merge, uint32_t keep = 0, Array factor = {}) {
  Case t;
  t.op = "match_tokens";
  *params_of<MatchTokensParams>(&t.params) = {merge, keep};
  const int64_t tokens = features.view().dims[0];
  t.in = {std::move(features), std::move(factor)};
  t.out = {Array(DType::kI32, {tokens})};
  return t;
}

std::vector<int32_t> groups_of(const Case& t) {
  const Ran r = run_reference(t);
  const int32_t* p = r.out[0].data<int32_t>();
  return {p, p + r.out[0].bytes() / 4};
}

// ToMe's bipartite soft matching as its paper has it, in double: rows that stay keep their order.
std::vector<int32_t> bipartite(const Array& features, uint32_t merge, uint32_t keep, const float* factor) {
  const int64_t tokens = features.view().dims[0], width = features.view().dims[1];
  const float* x = features.data<float>();
  const auto cosine = [&](int64_t i, int64_t j) {
    double ij = 0, ii = 0, jj = 0;
    for (int64_t d = 0; d < width; ++d) {
      const double a = x[i * width + d], b = x[j * width + d];
      ij += a * b, ii += a * a, jj += b * b;
    }
    return ij / std::sqrt(ii * jj);
  };
  struct Edge {
    int64_t from, to;
    double score;
  };
  std::vector<Edge> edges;
  for (int64_t a = 0; a < tokens; a += 2) {
    Edge best{a, -1, -INFINITY};
    for (int64_t b = 1; b < tokens; b += 2) {
      if (a < int64_t(keep) || b < int64_t(keep)) continue;
      const double s = (1 + cosine(a, b)) / 2 * (factor ? double(factor[a]) * double(factor[b]) : 1.0);
      if (s > best.score) best.to = b, best.score = s;
    }
    if (best.to >= 0) edges.push_back(best);
  }
  std::stable_sort(edges.begin(), edges.end(), [](const Edge& l, const Edge& r) { return l.score > r.score; });
  const int64_t most = std::max<int64_t>(tokens - int64_t(keep), 0) / 2;
  edges.resize(size_t(std::min<int64_t>({int64_t(merge), most, int64_t(edges.size())})));
  std::vector<int32_t> to(size_t(tokens), -1);
  for (const Edge& e : edges) to[size_t(e.from)] = int32_t(e.to);
  std::vector<int32_t> groups(to.size());
  int32_t at = 0;
  for (size_t a = 0; a < to.size(); a += 2)
    if (to[a] < 0) groups[a] = at++;
  for (size_t b = 1; b < to.size(); b += 2) groups[b] = at++;
  for (size_t a = 0; a < to.size(); a += 2)
    if (to[a] >= 0) groups[a] = groups[size_t(to[a])];
  return groups;
}

TEST(C6, MatchesAreThoseOfBipartiteMatching) {
  for (const int64_t tokens : {0, 1, 2, 3, 4, 5, 17, 64, 131})
    for (const int64_t width : {1, 7, 16, 33})
      for (const uint32_t merge : {0u, 1u, 2u, 9u, 1000u})
        for (const uint32_t keep : {0u, 1u, 2u, 3u, 200u})
          for (const bool has_factor : {false, true}) {
            if (width == 1 && tokens > 3) continue;  // every cosine is 1 or -1
            const Array features = Array::random({tokens, width}, uint32_t(tokens * 64 + width));
            Array factor = Array::random({tokens}, uint32_t(tokens));
            for (int64_t i = 0; i < tokens; ++i) factor.data<float>()[i] = 0.5f + std::fabs(factor.data<float>()[i]);
            const Case t = make(features, merge, keep, has_factor ? factor : Array());
            ASSERT_EQ(groups_of(t), bipartite(features, merge, keep, has_factor ? factor.data<float>() : nullptr))
                << tokens << " x " << width << ", merge " << merge << ", keep " << keep;
          }
}

TEST(MatchTokens, Ties) {
  // All alike: the earliest tokens join the earliest at an odd place.
  const Array same = Array::f32({6, 1}, {1, 1, 1, 1, 1, 1});
  EXPECT_EQ(groups_of(make(same, 2)), (std::vector<int32_t>{1, 1, 1, 2, 0, 3}));
  EXPECT_EQ(groups_of(make(same, 2, 1)), (std::vector<int32_t>{0, 1, 1, 2, 1, 3}));
  EXPECT_EQ(groups_of(make(same, 3)), (std::vector<int32_t>{0, 0, 0, 1, 0, 2}));
}

TEST(MatchTokens, WhatIsNoNumberComesLast) {
  const Array x = Array::f32({6, 2}, {NAN, 1, 0, 0, 1, 0, 1, 0.1f, 0, 1, NAN, NAN});
  EXPECT_EQ(groups_of(make(x, 1)), (std::vector<int32_t>{0, 2, 3, 3, 1, 4}));
  EXPECT_EQ(groups_of(make(x, 2)), (std::vector<int32_t>{0, 1, 2, 2, 2, 3}));
  // Nothing is like a token without direction: with the first at an odd place it goes when it must.
  EXPECT_EQ(groups_of(make(x, 3)), (std::vector<int32_t>{0, 0, 1, 1, 1, 2}));
}

TEST(MatchTokens, Backends) {
  for (const int64_t tokens : {1, 2, 3, 64, 131})
    for (const int64_t width : {3, 32})
      for (const uint32_t merge : {0u, 1u, 20u, 1000u})
        for (const uint32_t keep : {0u, 1u, 2u}) {
          Array factor = Array::random({tokens}, 7);
          for (int64_t i = 0; i < tokens; ++i) factor.data<float>()[i] = 0.5f + std::fabs(factor.data<float>()[i]);
          compare_all(make(Array::random({tokens, width}, uint32_t(tokens)), merge, keep), 0);
          compare_all(make(Array::random({tokens, width}, uint32_t(tokens)), merge, keep, factor), 0);
        }
  compare_all(make(Array::f32({6, 2}, {NAN, 1, 0, 0, 1, 0, 1, 0.1f, 0, 1, NAN, NAN}), 3), 0);
}

TEST(MatchTokens, Refused) {
  const OpDef& op = *find_op_by_name("match_tokens");
  std::vector<TensorView> views;
  const auto code = [&](Case t) { return op.check(t.call(t.in, t.out, views)).code(); };
  const Case good = make(Array::random({4, 2}, 1), 1, 0, Array::random({4}, 1));
  EXPECT_EQ(code(good), Code::kOk);
  Case t = good;
  t.in[0] = Array::random({4, 2, 1}, 1);
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good;
  t.in[1] = Array::random({3}, 1);
  EXPECT_EQ(code(t), Code::kInvalidArgument);
  t = good;
  t.out[0] = Array(DType::kI32, {3});
  EXPECT_EQ(code(t), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
