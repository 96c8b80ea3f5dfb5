#include "runtime/ops/sparse_attention/sparse_attention.h"

#include "ops/attention_states.h"

namespace runnel::test {
namespace {

struct Shape {
  int64_t heads, kv_heads, key, value;
};

// Whether query t of head h sees key j; t and j are positions where there are states.
using Sees = std::function<bool(int64_t h, int64_t t, int64_t j)>;

SparseAttentionParams plain(bool causal) {
  SparseAttentionParams p{};
  p.scale = 0.3f, p.stride = p.range_block = 1, p.causal = causal;
  for (int a = 0; a < kMaxAxes; ++a) p.dilation[a] = p.step[a] = 1;
  return p;
}

Case stateless(Shape s, std::vector<int64_t> places, int64_t keys, const SparseAttentionParams& p) {
  int64_t tokens = 1;
  for (int64_t n : places) tokens *= n;
  Case t;
  t.op = "sparse_attention";
  *params_of<SparseAttentionParams>(&t.params) = p;
  std::vector<int64_t> q = places, k = keys == tokens ? places : std::vector<int64_t>{keys}, v = k, y = places;
  q.push_back(s.heads), q.push_back(s.key);
  k.push_back(s.kv_heads), k.push_back(s.key);
  v.push_back(s.kv_heads), v.push_back(s.value);
  y.push_back(s.heads), y.push_back(s.value);
  t.in = {Array::random(q, 1, 2.0f), Array::random(k, 2), Array::random(v, 3)};
  t.in.resize(13);
  t.out = {Array(DType::kF32, y)};
  return t;
}

// The formula with a mask, in doubles, for a call without states.
Array masked(const Case& t, const Sees& sees, bool sigmoid = false) {
  const SparseAttentionParams& p = *reinterpret_cast<const SparseAttentionParams*>(t.params.bytes);
  const TensorView q = t.in[0].view(), k = t.in[1].view(), v = t.in[2].view();
  const int64_t heads = q.dims[q.rank - 2], key = q.dims[q.rank - 1], kv_heads = k.dims[k.rank - 2],
                value = v.dims[v.rank - 1];
  const int64_t tokens = int64_t(t.in[0].bytes()) / 4 / heads / key,
                keys = int64_t(t.in[1].bytes()) / 4 / kv_heads / key;
  Array y = t.out[0];
  for (int64_t i = 0; i < tokens; ++i)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t g = h / (heads / kv_heads);
      std::vector<double> acc(static_cast<size_t>(value), 0.0);
      double sum = 0;
      for (int64_t j = 0; j < keys; ++j) {
        if (!sees(h, i, j)) continue;
        double dot = 0;
        for (int64_t d = 0; d < key; ++d)
          dot += double(t.in[0].data<float>()[(i * heads + h) * key + d]) *
                 double(t.in[1].data<float>()[(j * kv_heads + g) * key + d]);
        const double score = dot * double(p.scale);
        const double weight = sigmoid ? 1 / (1 + std::exp(-score - double(p.shift))) : std::exp(score);
        sum += weight;
        for (int64_t d = 0; d < value; ++d)
          acc[size_t(d)] += weight * double(t.in[2].data<float>()[(j * kv_heads + g) * value + d]);
      }
      for (int64_t d = 0; d < value; ++d)
        y.data<float>()[(i * heads + h) * value + d] = float(sigmoid   ? acc[size_t(d)]
                                                             : sum > 0 ? acc[size_t(d)] / sum
                                                                       : 0);
    }
  return y;
}

void expect_masked(const Case& t, const Sees& sees, const std::string& what, bool sigmoid = false) {
  expect_close(run_reference(t).out[0], masked(t, sees, sigmoid), 1e-5, what);
  compare_all(t, 1e-5);
}

struct Range {
  int32_t begin, end, step;
};
using ListOf = std::function<std::vector<Range>(int64_t head, int64_t list)>;

Array ranges_of(int64_t heads, int64_t lists, const ListOf& of) {
  size_t n = 1;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t l = 0; l < lists; ++l) n = std::max(n, of(h, l).size());
  std::vector<int32_t> all;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t l = 0; l < lists; ++l) {
      std::vector<Range> ranges = of(h, l);
      ranges.resize(n, Range{7, 7, 1});
      for (const Range& r : ranges) all.insert(all.end(), {r.begin, r.end, r.step});
    }
  return Array::i32({heads, lists, int64_t(n), 3}, all);
}
bool is_in(const std::vector<Range>& ranges, int64_t j) {
  for (const Range& r : ranges)
    if (j >= r.begin && j < r.end && (j - r.begin) % std::max(1, r.step) == 0) return true;
  return false;
}

// Ranges of every kind: unordered, overlapping, empty, backwards, reaching out of the keys, with steps.
std::vector<Range> random_ranges(int64_t head, int64_t list, int64_t keys) {
  std::mt19937 rng(uint32_t(head * 1000 + list));
  std::vector<Range> ranges;
  for (uint32_t n = rng() % 6; n > 0; --n) {
    const int32_t begin = int32_t(rng() % uint32_t(keys + 20)) - 10;
    ranges.push_back({begin, begin + int32_t(rng() % 90) - 5, int32_t(rng() % 4)});
  }
  return ranges;
}

TEST(SparseAttention, RangesMatchTheFormula) {
  for (const Shape s : {Shape{4, 2, 16, 16}, Shape{3, 3, 17, 5}, Shape{2, 1, 64, 64}})
    for (const int64_t tokens : {1, 17, 70})
      for (const int64_t keys : {tokens, int64_t(300)})
        for (const int block : {1, 16})
          for (const bool causal : {true, false}) {
            if (causal && keys != tokens) continue;
            SparseAttentionParams p = plain(causal);
            p.range_block = uint32_t(block);
            Case t = stateless(s, {tokens}, keys, p);
            const int64_t heads = block == 1 ? 1 : s.heads;
            const ListOf of = [&](int64_t h, int64_t l) { return random_ranges(h, l, keys); };
            t.in[9] = ranges_of(heads, (tokens + block - 1) / block, of);
            std::vector<std::vector<std::vector<Range>>> lists(heads);
            for (int64_t h = 0; h < heads; ++h)
              for (int64_t l = 0; l < (tokens + block - 1) / block; ++l) lists[h].push_back(of(h, l));
            expect_masked(
                t,
                [&](int64_t h, int64_t i, int64_t j) {
                  return (!causal || j <= i) && is_in(lists[heads == 1 ? 0 : h][i / block], j);
                },
                "tokens " + std::to_string(tokens) + " keys " + std::to_string(keys));
          }
}

TEST(SparseAttention, RangesWithWindowSoftcapBiasAndSinks) {
  SparseAttentionParams p = plain(true);
  p.window = 30, p.softcap = 1.5f, p.range_block = 8;
  Case t = stateless({4, 2, 32, 32}, {90}, 90, p);
  t.in[5] = Array::random({4}, 9, 3.0f);
  t.in[6] = Array::random({4, 90, 90}, 10, 2.0f);
  t.in[9] = ranges_of(4, 12, [](int64_t h, int64_t l) { return random_ranges(h, l, 90); });
  compare_all(t, 1e-5);
}

// Blocks of 64 in a long sequence, where whole spans are skipped; also threads and lse.
TEST(SparseAttention, BlocksOfALongSequence) {
  SparseAttentionParams p = plain(true);
  p.range_block = 64;
  Case t = stateless({4, 2, 16, 16}, {1100}, 1100, p);
  const ListOf of = [](int64_t h, int64_t l) {
    std::vector<Range> ranges = {{0, 4, 1}, {int32_t(l) * 64, int32_t(l) * 64 + 64, 1}};
    if ((h + l) % 3 == 0) ranges.push_back({int32_t(l / 2) * 64, int32_t(l / 2) * 64 + 64, 1});
    return ranges;
  };
  t.in[9] = ranges_of(4, 18, of);
  expect_masked(
      t, [&](int64_t h, int64_t i, int64_t j) { return j <= i && is_in(of(h, i / 64), j); }, "blocks");
  t.out.push_back(Array(DType::kF32, {1100, 4}));
  compare_all(t, 1e-5);
}

// Places of an axis that i sees, by the text of NATTEN's documentation: within the places of the same remainder, the
// window of K around the leader of the stride group, moved inwards at the ends.
bool is_near(int64_t n, int64_t kernel, int64_t dilation, int64_t step, bool causal, int64_t i, int64_t j) {
  std::vector<int64_t> kind;
  for (int64_t x = i % dilation; x < n; x += dilation) kind.push_back(x);
  const int64_t count = int64_t(kind.size()), at = i / dilation;
  const int64_t leader = std::min(at / step * step + (causal ? step - 1 : step / 2), count - 1);
  int64_t first = leader - (causal ? kernel - 1 : kernel / 2);
  if (!causal) first = std::min(first, count - kernel);
  first = std::max<int64_t>(first, 0);
  for (int64_t x = first; x < std::min(first + kernel, count); ++x)
    if (kind[size_t(x)] == j && (!causal || x <= at)) return true;
  return false;
}

struct Near {
  std::vector<int64_t> sizes;
  std::vector<uint16_t> kernel, dilation, step;
  uint8_t causal;
};

TEST(SparseAttention, NeighbourhoodsMatchTheFormula) {
  const std::vector<Near> all = {
      {{40}, {7}, {1}, {1}, 0},
      {{41}, {5}, {3}, {1}, 0},
      {{37}, {6}, {2}, {3}, 1},
      {{300}, {9}, {4}, {2}, 0},
      {{9, 11}, {3, 5}, {1, 1}, {1, 1}, 0},
      {{12, 13}, {3, 5}, {2, 2}, {1, 1}, 0},
      {{8, 20}, {3, 4}, {1, 3}, {2, 2}, 2},
      {{5, 6, 7}, {3, 3, 5}, {1, 1, 1}, {1, 1, 1}, 0},
      {{6, 9, 8}, {2, 3, 3}, {2, 1, 2}, {1, 2, 1}, 1},
      {{4, 5, 6}, {4, 5, 6}, {1, 1, 1}, {1, 1, 1}, 4},
      {{3, 4}, {7, 3}, {1, 2}, {1, 1}, 0},  // a kernel larger than its axis
      {{1, 1}, {3, 3}, {1, 1}, {1, 1}, 0},
  };
  for (const Near& m : all)
    for (const Shape s : {Shape{2, 1, 16, 16}, Shape{3, 3, 9, 20}}) {
      SparseAttentionParams p = plain(false);
      p.axes = uint8_t(m.sizes.size()), p.causal_axes = m.causal;
      int64_t tokens = 1;
      for (size_t a = 0; a < m.sizes.size(); ++a) {
        p.kernel[a] = m.kernel[a], p.dilation[a] = m.dilation[a], p.step[a] = m.step[a];
        tokens *= m.sizes[a];
      }
      expect_masked(
          stateless(s, m.sizes, tokens, p),
          [&](int64_t, int64_t i, int64_t j) {
            for (size_t a = m.sizes.size(); a-- > 0; i /= m.sizes[a], j /= m.sizes[a])
              if (!is_near(m.sizes[a], m.kernel[a], m.dilation[a], m.step[a], m.causal >> a & 1, i % m.sizes[a],
                           j % m.sizes[a]))
                return false;
            return true;
          },
          "axes " + std::to_string(m.sizes.size()) + " tokens " + std::to_string(tokens));
    }
}

TEST(SparseAttention, NeighbourhoodWithRanges) {
  SparseAttentionParams p = plain(false);
  p.axes = 2, p.kernel[0] = 5, p.kernel[1] = 3, p.range_block = 4;
  Case t = stateless({2, 2, 16, 16}, {9, 8}, 72, p);
  const ListOf of = [](int64_t h, int64_t l) { return random_ranges(h, l, 72); };
  t.in[9] = ranges_of(2, 18, of);
  expect_masked(
      t,
      [&](int64_t h, int64_t i, int64_t j) {
        return is_near(9, 5, 1, 1, false, i / 8, j / 8) && is_near(8, 3, 1, 1, false, i % 8, j % 8) &&
               is_in(of(h, i / 4), j);
      },
      "neighbourhood and ranges");
}

TEST(SparseAttention, ChunksAndFirstTokens) {
  for (const bool causal : {true, false}) {
    SparseAttentionParams p = plain(causal);
    p.chunk = 24;
    expect_masked(
        stateless({4, 2, 16, 16}, {110}, 110, p),
        [&](int64_t, int64_t i, int64_t j) { return j / 24 == i / 24 && (!causal || j <= i); }, "chunk");
  }
  for (const uint32_t window : {0u, 20u}) {
    SparseAttentionParams p = plain(true);
    p.first = 5, p.window = window;
    expect_masked(
        stateless({4, 2, 16, 16}, {60}, 60, p),
        [&](int64_t, int64_t i, int64_t j) { return j <= i && j < 5 && (window == 0 || j <= i - int64_t(window)); },
        "first");
  }
}

TEST(SparseAttention, TreesSeeTheirAncestors) {
  SparseAttentionParams p = plain(true);
  Case t = stateless({4, 2, 16, 16}, {12}, 12, p);
  const std::vector<int32_t> parents = {-1, 0, 0, 1, 1, 2, -1, 5, 3, 7, 9, 6};
  t.in[10] = Array::i32({12}, parents);
  expect_masked(
      t,
      [&](int64_t, int64_t i, int64_t j) {
        while (i > j) i = parents[size_t(i)];
        return i == j;
      },
      "tree");
}

TEST(SparseAttention, Sigmoid) {
  SparseAttentionParams p = plain(true);
  p.sigmoid = true, p.shift = -2.5f, p.window = 40;
  const auto sees = [](int64_t, int64_t i, int64_t j) { return j <= i && i - j < 40; };
  for (const int64_t tokens : {1, 70, 300})
    expect_masked(stateless({4, 2, 16, 20}, {tokens}, tokens, p), sees, "sigmoid", true);
}

// Two halves of the keys, the second joined to the result over the first, are the whole.
TEST(SparseAttention, JoinsTheResultOverOtherKeys) {
  const SparseAttentionParams p = plain(false);
  const Case all = stateless({4, 2, 20, 24}, {70}, 300, p);
  Case first = all, second = all;
  for (int i : {1, 2}) {
    first.in[size_t(i)] = rows_of(all.in[size_t(i)], 0, 140);
    second.in[size_t(i)] = rows_of(all.in[size_t(i)], 140, 160);
  }
  first.out.push_back(Array(DType::kF32, {70, 4}));
  const Ran half = run_reference(first);
  second.in[11] = half.out[0], second.in[12] = half.out[1];
  for (int i = 0; i < 8; ++i) second.in[12].data<float>()[i] = -INFINITY;  // nothing before, whatever `before` holds
  compare_all(second, 1e-5);
  second.in[12] = half.out[1];
  compare_all(second, 1e-5);
  expect_close(run_reference(second).out[0], run_reference(all).out[0], 1e-5, "joined");
}

// A stream: what is seen depends on positions, not on the cut.
struct Stream {
  Shape shape;
  SparseAttentionParams params;
  int64_t tokens, slots;
  ListOf ranges;  // by position / range_block; null: none
};

Case call_of(const Stream& m, const Array& q, const Array& k, const Array& v, int64_t begin, int64_t n, Array keys,
             Array values) {
  Case t;
  t.op = "sparse_attention";
  *params_of<SparseAttentionParams>(&t.params) = m.params;
  t.in = {rows_of(q, begin, n), rows_of(k, begin, n), rows_of(v, begin, n), std::move(keys), std::move(values)};
  t.in.resize(13);
  t.out = {Array(DType::kF32, {n, m.shape.heads, m.shape.value})};
  t.position = begin;
  if (m.ranges) {
    const int64_t block = m.params.range_block, first = begin / block, last = (begin + n - 1) / block;
    t.in[9] = ranges_of(m.shape.heads, last - first + 1, [&](int64_t h, int64_t l) { return m.ranges(h, first + l); });
  }
  return t;
}

std::vector<float> feed(const Stream& m, DType type, int64_t chunk, const Kernel* kernel, ThreadPool* pool) {
  const Array q = Array::random({m.tokens, m.shape.heads, m.shape.key}, 1, 2.0f),
              k = Array::random({m.tokens, m.shape.kv_heads, m.shape.key}, 2),
              v = Array::random({m.tokens, m.shape.kv_heads, m.shape.value}, 3);
  Array keys = key_state(type, m.shape.kv_heads, m.slots, m.shape.key),
        values = value_state(type, m.shape.kv_heads, m.slots, m.shape.value);
  std::vector<float> y;
  for (int64_t begin = 0; begin < m.tokens; begin += chunk) {
    Case t = call_of(m, q, k, v, begin, std::min(chunk, m.tokens - begin), keys, values);
    std::vector<Array> in = t.in, out = t.out;
    std::vector<TensorView> views;
    const Status s = find_op_by_name("sparse_attention")->check_data(t.call(in, out, views));
    EXPECT_TRUE(s.is_ok()) << s.message();
    Ran r = kernel ? run_kernel(t, *kernel, pool) : run_reference(t);
    keys = r.in[3], values = r.in[4];
    y.insert(y.end(), r.out[0].data<float>(), r.out[0].data<float>() + r.out[0].bytes() / 4);
  }
  return y;
}

void expect_stream(const Stream& m, DType type, const Sees& sees, double tolerance = 1e-5) {
  Case whole = stateless(m.shape, {m.tokens}, m.tokens, m.params);
  const std::vector<float> want = feed(m, type, 7, nullptr, nullptr);
  const Array reference = Array::f32({int64_t(want.size())}, want);
  if (type == DType::kF32) {
    Array flat = masked(whole, sees);
    expect_close(reference,
                 Array::f32({int64_t(want.size())},
                            std::vector<float>(flat.data<float>(), flat.data<float>() + want.size())),
                 1e-5, "formula");
  }
  ThreadPool* pool = thread_pool_create(2);
  const Case any =
      call_of(m, whole.in[0], whole.in[1], whole.in[2], 0, 1, key_state(type, m.shape.kv_heads, m.slots, m.shape.key),
              value_state(type, m.shape.kv_heads, m.slots, m.shape.value));
  for_each_kernel(any, [&](const Kernel& kernel, const std::string&) {
    const std::vector<float> first = feed(m, type, m.tokens, &kernel, nullptr);
    expect_close(Array::f32({int64_t(first.size())}, first), reference, tolerance, kernel.name);
    for (const int64_t chunk : {1, 7, 64})
      for (ThreadPool* p : {static_cast<ThreadPool*>(nullptr), pool}) {
        const std::vector<float> y = feed(m, type, chunk, &kernel, p);
        size_t at = 0;
        while (at < y.size() && std::memcmp(&y[at], &first[at], 4) == 0) ++at;
        EXPECT_EQ(at, y.size()) << kernel.name << ": bits depend on the cut, chunk " << chunk << ", element " << at
                                << " of token " << at / size_t(m.shape.heads * m.shape.value) << ": " << y[at]
                                << " instead of " << first[at];
      }
  });
  thread_pool_destroy(pool);
}

TEST(SparseAttention, StreamsDoNotDependOnTheCut) {
  SparseAttentionParams p = plain(true);
  p.range_block = 16;
  const ListOf of = [](int64_t h, int64_t l) { return random_ranges(h, l, 200); };
  const auto sees = [&](int64_t h, int64_t i, int64_t j) { return j <= i && is_in(of(h, i / 16), j); };
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8})
    expect_stream({{4, 2, 32, 32}, p, 200, 256, of}, type, sees);
  expect_stream({{3, 3, 7, 33}, p, 90, 128, of}, DType::kF16, sees);
  p.window = 40;  // a ring
  expect_stream({{4, 2, 16, 16}, p, 200, 256, of}, DType::kF32,
                [&](int64_t h, int64_t i, int64_t j) { return sees(h, i, j) && i - j < 40; });
}

TEST(SparseAttention, ChunksOverARing) {
  SparseAttentionParams p = plain(true);
  p.chunk = 50;
  for (const DType type : {DType::kF32, DType::kF16})
    expect_stream({{4, 2, 16, 16}, p, 330, 384, nullptr}, type,
                  [](int64_t, int64_t i, int64_t j) { return j <= i && j / 50 == i / 50; });
}

// Only the first tokens have slots, however long the stream is.
TEST(SparseAttention, FirstTokensOfALongStream) {
  for (const uint32_t first : {4u, 64u}) {
    SparseAttentionParams p = plain(true);
    p.first = first, p.window = 30;
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8})
      expect_stream({{4, 2, 16, 16}, p, 300, 64, nullptr}, type,
                    [&](int64_t, int64_t i, int64_t j) { return j <= i - 30 && j < int64_t(first); });
  }
}

TEST(SparseAttention, ATreeBehindAStream) {
  SparseAttentionParams p = plain(true);
  const Shape s = {4, 2, 16, 16};
  const Stream m = {s, p, 40, 64, nullptr};
  const Array q = Array::random({50, 4, 16}, 1, 2.0f), k = Array::random({50, 2, 16}, 2),
              v = Array::random({50, 2, 16}, 3);
  const Ran before =
      run_reference(call_of(m, q, k, v, 0, 40, key_state(DType::kF32, 2, 64, 16), value_state(DType::kF32, 2, 64, 16)));
  Case t = call_of(m, q, k, v, 40, 10, before.in[3], before.in[4]);
  const std::vector<int32_t> parents = {-1, 0, 0, 1, 1, 2, -1, 5, 3, 7};
  t.in[10] = Array::i32({10}, parents);
  compare_all(t, 1e-5, {3, 4});
  const Ran tree = run_reference(t);
  // Each path alone, as a stream of its own.
  for (const std::vector<int64_t>& path : {std::vector<int64_t>{0, 1, 3, 8}, {0, 2, 5, 7, 9}, {6}}) {
    Array keys = before.in[3], values = before.in[4];
    for (size_t n = 0; n < path.size(); ++n) {
      Case one = call_of(m, q, k, v, 40 + path[n], 1, keys, values);
      one.position = 40 + int64_t(n);
      const Ran r = run_reference(one);
      keys = r.in[3], values = r.in[4];
      for (int i = 0; i < 64; ++i)
        EXPECT_NEAR(r.out[0].data<float>()[i], tree.out[0].data<float>()[path[n] * 64 + i], 1e-5) << path[n];
    }
  }
}

// What nobody may see may hold anything.
TEST(SparseAttention, WhatIsNotSeenContributesNothing) {
  SparseAttentionParams p = plain(true);
  Case t = stateless({4, 2, 16, 16}, {100}, 100, p);
  t.in[9] = ranges_of(1, 100, [](int64_t, int64_t l) {
    return std::vector<Range>{{0, 30, 1}, {40, int32_t(l) + 1, 2}};
  });
  Case broken = t;
  for (int j = 30; j < 100; ++j)
    if (j < 40 || j % 2)
      for (int i = 0; i < 32; ++i)
        broken.in[1].data<float>()[j * 32 + i] = broken.in[2].data<float>()[j * 32 + i] = NAN;
  for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
    const Ran a = run_kernel(t, kernel, nullptr), b = run_kernel(broken, kernel, nullptr);
    EXPECT_EQ(0, std::memcmp(a.out[0].data<float>(), b.out[0].data<float>(), a.out[0].bytes())) << kernel.name;
  });
}

TEST(SparseAttention, ListsThatAreEmptySeeNothing) {
  SparseAttentionParams p = plain(true);
  Case t = stateless({2, 1, 16, 16}, {20}, 20, p);
  t.in[9] = Array(DType::kI32, {1, 20, 0, 3});
  expect_masked(
      t, [](int64_t, int64_t, int64_t) { return false; }, "no ranges");
  t = stateless({2, 1, 16, 16}, {0}, 0, p);
  t.in[9] = Array(DType::kI32, {1, 0, 0, 3});
  compare_all(t, 1e-5);
}

Status checked(const Case& t, bool data = false) {
  std::vector<Array> in = t.in, out = t.out;
  std::vector<TensorView> views;
  const OpCall c = t.call(in, out, views);
  const OpDef* def = find_op_by_name("sparse_attention");
  return data ? def->check_data(c) : def->check(c);
}

TEST(SparseAttention, RefusesWrongShapesByName) {
  const Case good = stateless({4, 2, 16, 16}, {6, 5}, 30, [] {
    SparseAttentionParams p = plain(false);
    p.axes = 2, p.kernel[0] = p.kernel[1] = 3;
    return p;
  }());
  EXPECT_TRUE(checked(good).is_ok());
  const auto refused = [&](const Case& from, auto change, const char* word, bool data = false) {
    Case t = from;
    change(t);
    const Status s = checked(t, data);
    EXPECT_EQ(s.code(), Code::kInvalidArgument) << word;
    EXPECT_NE(std::string(s.message()).find(word), std::string::npos) << s.message();
  };
  refused(
      good,
      [](Case& t) {
        t.in[1] = Array::random({5, 6, 2, 16}, 1);
      },
      "axes of q");
  refused(
      good,
      [](Case& t) {
        t.in[0] = Array::random({30, 4, 16}, 1);
      },
      "axes of q");
  refused(
      good,
      [](Case& t) {
        t.out[0] = Array(DType::kF32, {5, 6, 4, 16});
      },
      "y is");
  const Case line = stateless({4, 2, 16, 16}, {30}, 30, plain(true));
  EXPECT_TRUE(checked(line).is_ok());
  refused(
      line,
      [](Case& t) {
        t.in[9] = Array(DType::kI32, {3, 30, 1, 3});
      },
      "ranges is");
  refused(
      line,
      [](Case& t) {
        t.in[9] = Array(DType::kI32, {1, 29, 1, 3});
      },
      "29 lists");
  refused(
      line, [](Case& t) { t.in[10] = Array(DType::kI32, {29}); }, "parents is");
  refused(
      line, [](Case& t) { t.in[10] = Array::i32({30}, std::vector<int32_t>(30, 3)); }, "parent 3 of token 0", true);
  refused(
      line,
      [](Case& t) {
        t.in[11] = Array::random({30, 4, 16}, 1);
      },
      "lse_before");
  refused(
      line,
      [](Case& t) {
        t.in[0] = Array::random({30, 3, 16}, 1);
      },
      "kv heads");
  refused(
      line,
      [](Case& t) { params_of<SparseAttentionParams>(&t.params)->sigmoid = true, t.in[5] = Array::random({4}, 1); },
      "sigmoid");
}

}  // namespace
}  // namespace runnel::test
