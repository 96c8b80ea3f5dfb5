#include "runtime/ops/select_blocks/select_blocks.h"

#include "ops/attention_states.h"
#include "runtime/ops/attention/attention.h"

namespace runnel::test {
namespace {

Case make(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t key, SelectBlocksParams p, uint32_t seed = 1) {
  Case t;
  t.op = "select_blocks";
  *params_of<SelectBlocksParams>(&t.params) = p;
  const int64_t Q = p.queries ? p.queries : p.block, lists = (tokens + Q - 1) / Q + 1;
  t.in = {Array::random({tokens, heads, key}, seed, 3.0f), Array::random({tokens, kv_heads, key}, seed + 1, 2.0f),
          Array()};
  t.out = {Array(DType::kI32, {heads, lists, (tokens / p.block + Q / p.block + 2) / 2 + 1, 3})};
  return t;
}

// The blocks that a list holds.
std::vector<bool> blocks_of(const Array& ranges, int64_t list, int64_t block) {
  const TensorView v = ranges.view();
  std::vector<bool> blocks(64);
  for (int64_t i = 0; i < v.dims[2]; ++i) {
    const int32_t* r = ranges.data<int32_t>() + (list * v.dims[2] + i) * 3;
    EXPECT_EQ(r[0] % block, 0);
    EXPECT_EQ(r[1] % block, 0);
    for (int64_t b = r[0] / block; b < r[1] / block; ++b) blocks[size_t(b)] = true;
  }
  return blocks;
}

TEST(SelectBlocks, KernelsChooseAsTheReference) {
  for (const SelectBlocksParams p : {SelectBlocksParams{0.3f, 0.9f, 16, 4, 1, 0},
                                     {0.1f, 0.5f, 32, 8, 0, 0},
                                     {0.5f, 0.7f, 8, 8, 2, 0},
                                     {0.3f, 2.0f, 16, 1, 1, 0},
                                     {0.3f, -1.0f, 16, 2, 0, 0}})
    for (const int64_t tokens : {0, 1, 15, 64, 150})
      for (const int64_t key : {5, 32}) {
        compare_all(make(tokens, 4, 2, key, p), 0);
        compare_all(make(tokens, 3, 3, key, p, 9), 0);
      }
}

// By hand, in doubles: importance from whole antidiagonals.
TEST(SelectBlocks, ReferenceHoldsTheFormula) {
  const SelectBlocksParams p = {0.4f, 0.6f, 8, 4, 1, 0};
  const int64_t tokens = 64, key = 6, S = 4, rows = 2;
  const Case t = make(tokens, 1, 1, key, p, 5);
  const Ran r = run_reference(t);
  for (int64_t own = 0; own < tokens / 8; ++own) {
    std::vector<double> importance(size_t(own + 1), 0.0);
    for (int64_t row = own * rows; row < (own + 1) * rows; ++row) {
      std::vector<double> e;
      double sum = 0;
      for (int64_t c = 0; c <= row; ++c) {
        double dot = 0;
        for (int64_t s = 0; s < S; ++s)
          for (int64_t d = 0; d < key; ++d)
            dot += double(t.in[0].data<float>()[(row * S + S - 1 - s) * key + d]) *
                   double(t.in[1].data<float>()[(c * S + s) * key + d]);
        e.push_back(std::exp(dot * double(p.scale) / double(S)));
        sum += e.back();
      }
      for (int64_t c = 0; c <= row; ++c) importance[size_t(c / rows)] += e[size_t(c)] / sum;
    }
    // Own and first block, then the most important ones until 60% are held.
    std::vector<bool> want(64);
    double held = importance[0] + (own ? importance[size_t(own)] : 0);
    want[0] = want[size_t(own)] = true;
    while (held < 0.6 * double(rows)) {
      size_t best = 64;
      for (size_t b = 0; b < importance.size(); ++b)
        if (!want[b] && (best == 64 || importance[b] > importance[best])) best = b;
      want[best] = true, held += importance[best];
    }
    EXPECT_EQ(blocks_of(r.out[0], own, 8), want) << "block " << own;
  }
}

// A stream's older keys come from the state: the choice is that of one call.
TEST(SelectBlocks, KeysOfTheStream) {
  const SelectBlocksParams p = {0.3f, 0.6f, 16, 4, 1, 0};
  const Case whole = make(128, 4, 2, 20, p);
  const Ran all = run_reference(whole);
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8}) {
    // attention writes the state.
    Case a;
    a.op = "attention";
    a.in = {rows_of(whole.in[0], 0, 80), rows_of(whole.in[1], 0, 80), rows_of(whole.in[1], 0, 80),
            key_state(type, 2, 128, 20), value_state(type, 2, 128, 20)};
    a.out = {Array(DType::kF32, {80, 4, 20})};
    *params_of<AttentionParams>(&a.params) = {1, 0, 0, 1, true};
    Case t = whole;
    t.in = {rows_of(whole.in[0], 80, 48), rows_of(whole.in[1], 80, 48), run_reference(a).in[3]};
    t.out = {Array(DType::kI32, {4, 3, 5, 3})};
    t.position = 80;
    compare_all(t, 0);
    if (type != DType::kF32) continue;
    const Ran part = run_reference(t);
    for (int64_t h = 0; h < 4; ++h)
      for (int64_t l = 0; l < 3; ++l)
        EXPECT_EQ(blocks_of(part.out[0], h * 3 + l, 16), blocks_of(all.out[0], h * 9 + 5 + l, 16)) << h << " " << l;
  }
}

TEST(SelectBlocks, ShortCallsSeeEverything) {
  const Case t = make(40, 2, 1, 8, {0.3f, 0.1f, 16, 4, 0, 41});
  compare_all(t, 0);
  const Ran r = run_reference(t);
  for (int64_t l = 0; l < 3; ++l) {
    const int32_t* range = r.out[0].data<int32_t>() + l * 3 * 3;
    EXPECT_EQ(range[0], 0);
    EXPECT_EQ(range[1], (l + 1) * 16);
  }
}

// Scores that are not numbers, and lists too short for what was chosen: more is seen, never less.
TEST(SelectBlocks, NotANumberIsChosenAndTooManyRangesGrow) {
  Case t = make(64, 1, 1, 8, {0.3f, 0.5f, 8, 4, 0, 0});
  for (int d = 0; d < 8; ++d) t.in[1].data<float>()[17 * 8 + d] = NAN;  // block 2
  compare_all(t, 0);
  const Ran r = run_reference(t);
  for (int64_t own = 2; own < 8; ++own) EXPECT_TRUE(blocks_of(r.out[0], own, 8)[2]) << own;
  Case few = make(128, 2, 1, 8, {0.3f, 0.4f, 8, 4, 1, 0});
  few.out = {Array(DType::kI32, {2, 17, 2, 3})};
  compare_all(few, 0);
  const Ran short_lists = run_reference(few), long_lists = run_reference(make(128, 2, 1, 8, {0.3f, 0.4f, 8, 4, 1, 0}));
  for (int64_t l = 0; l < 16; ++l) {
    const std::vector<bool> some = blocks_of(long_lists.out[0], l, 8), more = blocks_of(short_lists.out[0], l, 8);
    for (size_t b = 0; b < 64; ++b) EXPECT_TRUE(more[b] || !some[b]);
  }
}

SelectBlocksParams params_for(KeyEstimate estimate, KeyChoice choice, uint32_t block, uint32_t queries) {
  SelectBlocksParams p{0.3f, 0.6f, block, 1, 1, 0};
  p.estimate = estimate, p.choice = choice, p.queries = queries;
  p.count = 4, p.lines = 2, p.chunk = 3, p.similarity = 0.1f, p.divergence = 0.4f;
  if (choice == KeyChoice::kDifference) p.threshold = 1.5f, p.count = 0;
  if (choice == KeyChoice::kShare) p.count = 0, p.lines = 0;
  return p;
}

// Estimates and the choices that they take.
const std::pair<KeyEstimate, KeyChoice> kMethods[] = {{KeyEstimate::kLines, KeyChoice::kTop},
                                                      {KeyEstimate::kLines, KeyChoice::kShare},
                                                      {KeyEstimate::kPooled, KeyChoice::kTop},
                                                      {KeyEstimate::kPooled, KeyChoice::kShare},
                                                      {KeyEstimate::kFlexible, KeyChoice::kShare},
                                                      {KeyEstimate::kAnchor, KeyChoice::kDifference},
                                                      {KeyEstimate::kQuantised, KeyChoice::kDifference},
                                                      {KeyEstimate::kChunks, KeyChoice::kTop},
                                                      {KeyEstimate::kTree, KeyChoice::kTop},
                                                      {KeyEstimate::kAntidiagonal, KeyChoice::kTop}};

std::string name_of(KeyEstimate e, KeyChoice c) {
  return "estimate " + std::to_string(int(e)) + ", choice " + std::to_string(int(c));
}

TEST(C3, EveryEstimateChoosesAsTheReference) {
  for (const auto& [estimate, choice] : kMethods)
    for (const std::pair<uint32_t, uint32_t>& sizes :
         {std::pair<uint32_t, uint32_t>{16, 16}, {16, 48}, {32, 8}, {5, 7}, {8, 1}}) {
      SelectBlocksParams p = params_for(estimate, choice, sizes.first, sizes.second);
      if (estimate == KeyEstimate::kAntidiagonal) p.queries = 0;
      for (const int64_t tokens : {0, 1, 15, 100}) {
        SCOPED_TRACE(name_of(estimate, choice) + ", block " + std::to_string(sizes.first));
        compare_all(make(tokens, 6, 2, 20, p, 3), 0);
        if (estimate == KeyEstimate::kAntidiagonal) continue;
        p.stride = 3, p.rows = 4;
        compare_all(make(tokens, 2, 2, 5, p, 11), 0);
        p.stride = 1, p.rows = 0;
      }
    }
}

// Older keys come from the state, of every type, when the call begins anywhere.
TEST(C3, EveryEstimateReadsKeysOfTheStream) {
  for (const auto& [estimate, choice] : kMethods)
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8})
      for (const int64_t before : {64, 75}) {
        SelectBlocksParams p = params_for(estimate, choice, 16, estimate == KeyEstimate::kAntidiagonal ? 16 : 32);
        const Case whole = make(128, 4, 2, 20, p, 21);
        Case a;
        a.op = "attention";
        a.in = {rows_of(whole.in[0], 0, before), rows_of(whole.in[1], 0, before), rows_of(whole.in[1], 0, before),
                key_state(type, 2, 128, 20), value_state(type, 2, 128, 20)};
        a.out = {Array(DType::kF32, {before, 4, 20})};
        *params_of<AttentionParams>(&a.params) = {1, 0, 0, 1, true};
        Case t = whole;
        t.in = {rows_of(whole.in[0], before, 128 - before), rows_of(whole.in[1], before, 128 - before),
                run_reference(a).in[3]};
        t.out = {Array(DType::kI32, {4, 6, 6, 3})};
        t.position = before;
        SCOPED_TRACE(name_of(estimate, choice) + ", " + std::to_string(before) + " before");
        compare_all(t, 0);
      }
}

// One head, in doubles, straight from the papers: what each list of Q queries holds of units of B keys.
struct ByHand {
  const Case& t;
  const SelectBlocksParams& p;
  int64_t tokens, key, first, last, units;  // queries first .. last of a list
  double dot(const std::vector<double>& a, const std::vector<double>& b) const {
    double sum = 0;
    for (int64_t d = 0; d < key; ++d) sum += a[size_t(d)] * b[size_t(d)];
    return sum;
  }
  std::vector<double> row(int input, int64_t i) const {
    const float* at = t.in[size_t(input)].data<float>() + i * key;
    return {at, at + key};
  }
  std::vector<double> mean(int input, int64_t begin, int64_t end) const {
    std::vector<double> m(size_t(key), 0.0);
    for (int64_t i = begin; i < end; ++i)
      for (int64_t d = 0; d < key; ++d) m[size_t(d)] += row(input, i)[size_t(d)] / double(end - begin);
    return m;
  }
  double score(int64_t i, int64_t j) const { return double(p.scale) * dot(row(0, i), row(1, j)); }
  bool is_kept(int64_t u) const { return u >= first / int64_t(p.block) || u < int64_t(p.first); }
  std::vector<double> softmax(int64_t i) const {
    std::vector<double> e;
    double sum = 0;
    for (int64_t j = 0; j <= i; ++j) e.push_back(std::exp(score(i, j))), sum += e.back();
    for (double& v : e) v /= sum;
    return e;
  }
  // Indices of the `count` largest, those of `kept` first.
  static std::vector<bool> top(const std::vector<double>& v, int64_t count, const std::function<bool(int64_t)>& kept) {
    std::vector<bool> out(64);
    int64_t taken = 0;
    for (size_t u = 0; u < v.size(); ++u)
      if (kept(int64_t(u))) out[u] = true, ++taken;
    for (; taken < count && taken < int64_t(v.size()); ++taken) {
      size_t best = 64;
      for (size_t u = 0; u < v.size(); ++u)
        if (!out[u] && (best == 64 || v[u] > v[best])) best = u;
      out[best] = true;
    }
    return out;
  }
  std::vector<bool> minference() const {
    std::vector<double> column(size_t(units), 0.0), line(size_t(units), 0.0);
    for (int64_t i = first; i <= last; ++i) {
      const std::vector<double> e = softmax(i);
      for (int64_t j = 0; j <= i; ++j)
        column[size_t(j / p.block)] += e[size_t(j)], line[size_t((i - j) / p.block)] += e[size_t(j)];
    }
    std::vector<bool> out = top(column, p.count, [&](int64_t u) { return is_kept(u); });
    const std::vector<bool> lines = top(line, p.lines, [](int64_t) { return false; });
    for (int64_t i = first; i < first + int64_t(p.queries); ++i)
      for (int64_t j = 0; j <= i; ++j)
        if (lines[size_t((i - j) / p.block)]) out[size_t(j / p.block)] = true;
    return out;
  }
  std::vector<bool> moba() const {
    std::vector<double> gate;
    for (int64_t u = 0; u < units; ++u)
      gate.push_back(dot(mean(0, first, last + 1), mean(1, u * p.block, std::min<int64_t>((u + 1) * p.block, tokens))));
    return top(gate, p.count, [&](int64_t u) { return is_kept(u); });
  }
  std::vector<bool> anchor() const {
    double level = 0;
    for (int64_t i = first; i <= last; ++i) {
      double best = -1e300;
      for (int64_t j = 0; j <= i; ++j)
        if (is_kept(j / p.block)) best = std::max(best, score(i, j));
      level += best / double(last - first + 1);
    }
    std::vector<bool> out(64);
    for (int64_t u = 0; u < units; ++u) out[size_t(u)] = is_kept(u);
    for (int64_t j = 0; j < std::min<int64_t>(units * p.block, tokens); ++j)
      if (double(p.scale) * dot(mean(0, first, last + 1), row(1, j)) >= level - double(p.threshold))
        out[size_t(j / p.block)] = true;
    return out;
  }
  std::vector<double> in_4_bits(std::vector<double> v) const {
    double largest = 0;
    for (const double x : v) largest = std::max(largest, std::fabs(x));
    for (double& x : v) x = std::nearbyint(x / largest * 7) * largest / 7;
    return v;
  }
  std::vector<bool> sale() const {
    std::vector<bool> out(64);
    for (int64_t u = 0; u < units; ++u) out[size_t(u)] = is_kept(u);
    for (int64_t i = first; i <= last; ++i) {
      std::vector<double> s;
      double best = -1e300;
      for (int64_t j = 0; j <= i; ++j) {
        s.push_back(double(p.scale) * dot(in_4_bits(row(0, i)), in_4_bits(row(1, j))));
        if (is_kept(j / p.block)) best = std::max(best, s.back());
      }
      for (int64_t j = 0; j <= i; ++j)
        if (s[size_t(j)] - best >= -double(p.threshold)) out[size_t(j / p.block)] = true;
    }
    return out;
  }
  std::vector<bool> dhsa() const {
    std::vector<double> score(size_t(units), 0.0);
    const auto unit_end = [&](int64_t u) { return std::min<int64_t>((u + 1) * p.block, tokens); };
    for (int64_t u = 0, end; u < units; u = end) {
      for (end = u + 1; end < units && end - u < int64_t(p.chunk); ++end) {
        const auto a = mean(1, end * p.block, unit_end(end)), b = mean(1, (end - 1) * p.block, unit_end(end - 1));
        if (dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)) < double(p.similarity)) break;
      }
      const double keys = double(unit_end(end - 1) - u * p.block);
      const double of = dot(mean(0, first, last + 1), mean(1, u * p.block, unit_end(end - 1))) * std::sqrt(keys);
      for (int64_t x = u; x < end; ++x) score[size_t(x)] = of;
    }
    return top(score, p.count, [&](int64_t u) { return is_kept(u); });
  }
  std::vector<bool> hip() const {
    std::vector<std::pair<int64_t, int64_t>> nodes = {{0, units}};
    for (bool is_done = false; !is_done;) {
      std::vector<std::pair<int64_t, int64_t>> next;
      is_done = true;
      for (const auto& [begin, n] : nodes) {
        next.push_back({begin, (n + 1) / 2});
        if (n > 1) next.push_back({begin + (n + 1) / 2, n / 2}), is_done = false;
      }
      std::vector<double> best;
      for (const auto& [begin, n] : next) {
        double most = -1e300;
        for (int64_t i = first; i <= last; ++i)
          most = std::max(most, score(i, std::min(begin * p.block + n * p.block / 2, last)));
        best.push_back(most);
      }
      const std::vector<bool> kept = top(best, p.count, [](int64_t) { return false; });
      nodes.clear();
      for (size_t i = 0; i < next.size(); ++i)
        if (kept[i]) nodes.push_back(next[i]);
    }
    std::vector<double> found(size_t(units), 0.0);
    for (const auto& node : nodes) found[size_t(node.first)] = 1;
    return top(found, p.count, [&](int64_t u) { return is_kept(u); });
  }
};

TEST(C3, ReferenceHoldsThePapersFormulas) {
  using Formula = std::vector<bool> (ByHand::*)() const;
  const std::tuple<KeyEstimate, KeyChoice, Formula> formulas[] = {
      {KeyEstimate::kLines, KeyChoice::kTop, &ByHand::minference},
      {KeyEstimate::kPooled, KeyChoice::kTop, &ByHand::moba},
      {KeyEstimate::kAnchor, KeyChoice::kDifference, &ByHand::anchor},
      {KeyEstimate::kQuantised, KeyChoice::kDifference, &ByHand::sale},
      {KeyEstimate::kChunks, KeyChoice::kTop, &ByHand::dhsa},
      {KeyEstimate::kTree, KeyChoice::kTop, &ByHand::hip}};
  const int64_t tokens = 120;
  for (const auto& [estimate, choice, formula] : formulas)
    for (const uint32_t queries : {1u, 8u, 20u}) {
      const SelectBlocksParams p = params_for(estimate, choice, 8, queries);
      const Case t = make(tokens, 1, 1, 6, p, 5);
      const Ran r = run_reference(t);
      for (int64_t m = 0; m * queries < tokens; ++m) {
        const int64_t units = ((m + 1) * queries + 7) / 8;
        const ByHand hand{t, p, tokens, 6, m * queries, std::min<int64_t>((m + 1) * queries, tokens) - 1, units};
        std::vector<bool> want = (hand.*formula)();
        EXPECT_EQ(blocks_of(r.out[0], m, 8), want) << name_of(estimate, choice) << ", list " << m;
      }
    }
}

// A divergence that nothing is below leaves columns and lines, one that everything is below pooled blocks.
TEST(C3, FlexibleSwitchesByDivergence) {
  SelectBlocksParams p = params_for(KeyEstimate::kFlexible, KeyChoice::kShare, 8, 16);
  for (const bool is_pooled : {false, true}) {
    p.divergence = is_pooled ? 10.0f : 0.0f;
    SelectBlocksParams other = p;
    other.estimate = is_pooled ? KeyEstimate::kPooled : KeyEstimate::kLines;
    const Ran a = run_reference(make(100, 2, 1, 6, p, 8)), b = run_reference(make(100, 2, 1, 6, other, 8));
    expect_close(a.out[0], b.out[0], 0, "flexible");
  }
}

// Ties take the first unit; nothing to spend leaves what is kept; more than there is takes all.
TEST(C3, TiesAndBudgets) {
  for (const auto& [estimate, choice] : kMethods) {
    if (choice != KeyChoice::kTop) continue;
    SelectBlocksParams p = params_for(estimate, choice, 8, 8);
    p.lines = 0;
    Case t = make(64, 1, 1, 6, p);
    for (int i = 0; i < 2; ++i) std::fill(t.in[size_t(i)].data<float>(), t.in[size_t(i)].data<float>() + 64 * 6, 1.0f);
    for (const uint32_t count : {0u, 4u, 1000u}) {
      params_of<SelectBlocksParams>(&t.params)->count = count;
      compare_all(t, 0);
      const Ran r = run_reference(t);
      for (int64_t m = 0; m < 8; ++m) {
        const std::vector<bool> got = blocks_of(r.out[0], m, 8);
        EXPECT_TRUE(got[0] && got[size_t(m)]) << name_of(estimate, choice);
        EXPECT_EQ(std::count(got.begin(), got.end(), true),
                  std::min<int64_t>(m + 1, std::max<int64_t>(count, m ? 2 : 1)))
            << name_of(estimate, choice) << ", count " << count << ", list " << m;
        // Chunks and columns are equal here; antidiagonals and lines have a whole softmax, trees halves.
        if (estimate == KeyEstimate::kPooled && count == 4 && m > 3) EXPECT_TRUE(got[1] && got[2] && !got[3]);
      }
    }
  }
}

TEST(C3, NotANumberIsChosenByEveryEstimate) {
  for (const auto& [estimate, choice] : kMethods) {
    if (estimate == KeyEstimate::kTree) continue;  // it may never look at the key
    SelectBlocksParams p = params_for(estimate, choice, 8, 8);
    Case t = make(64, 1, 1, 8, p, 13);
    for (int d = 0; d < 8; ++d) t.in[1].data<float>()[17 * 8 + d] = NAN;  // unit 2
    const Ran r = run_reference(t);
    for (int64_t m = 3; m < 8; ++m) EXPECT_TRUE(blocks_of(r.out[0], m, 8)[2]) << name_of(estimate, choice) << " " << m;
    if (estimate != KeyEstimate::kLines && estimate != KeyEstimate::kFlexible) compare_all(t, 0);
  }
}

}  // namespace
}  // namespace runnel::test
