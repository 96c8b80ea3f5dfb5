// The best few products of a split matrix: the same bits as the full product has, for exactly the rows that are not
// below the k-th.
#include "ops/matmul/screen.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <random>

#include "ops/op_test.h"
#include "packed_formats.h"

namespace runnel::test {
namespace {

struct PoolDeleter {
  void operator()(ThreadPool* p) const { thread_pool_destroy(p); }
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

PackedFormat split_format(int zero_point = 128) {
  return {PackedKind::kInteger, 8, 32, uint8_t(zero_point), false, ScaleKind::kF16, true};
}

Case product(const PackedMatrix& m, const Array& x, int32_t best) {
  Case c;
  c.op = "matmul";
  Array w(DType::kPacked, {m.rows, m.columns}, m.bytes.size());
  std::copy(m.bytes.begin(), m.bytes.end(), w.data<unsigned char>());
  c.in = {x, w};
  c.in[1].set_packed(&m.format);
  c.out = {Array(DType::kF32, {1, m.rows})};
  c.best = best;
  return c;
}

// Every target with one and three workers. Returns how many calls left rows out.
int check(const PackedMatrix& m, const Array& x, int32_t best, const std::string& what) {
  std::unique_ptr<ThreadPool, PoolDeleter> pool(thread_pool_create(3));
  const Case full = product(m, x, 0), few = product(m, x, best);
  int screened = 0;
  for_each_kernel(full, [&](const Kernel& k, const std::string&) {
    const Ran want = run_kernel(full, k, nullptr), got = run_kernel(few, k, nullptr),
              more = run_kernel(few, k, pool.get());
    const float *w = want.out[0].data<float>(), *g = got.out[0].data<float>();
    ASSERT_EQ(0, std::memcmp(g, more.out[0].data<float>(), size_t(m.rows) * 4))
        << what << ": bits depend on threads: " << k.name;
    std::vector<float> sorted(w, w + m.rows);
    std::sort(sorted.begin(), sorted.end(), std::greater<float>());
    const float kth = sorted[size_t(std::min<int64_t>(best, m.rows) - 1)];
    const bool is_full = std::memcmp(w, g, size_t(m.rows) * 4) == 0;
    for (int64_t r = 0; r < m.rows && !is_full; ++r)
      ASSERT_EQ(0, std::memcmp(w[r] >= kth ? &w[r] : &(const float&)(-kInfinity), &g[r], 4))
          << what << " best " << best << " row " << r << ": " << k.name;
    screened += !is_full;
  });
  return screened;
}

TEST(Screen, KeepsTheBestToTheBit) {
  int screened = 0;
  for (int64_t columns : {32, 65, 640})
    for (int64_t rows : {1, 17, 1024, 5003}) {
      const PackedMatrix m = random_matrix(split_format(), rows, columns, uint32_t(rows));
      for (int32_t best : {1, 5, 64})
        screened += check(m, Array::random({1, columns}, uint32_t(columns), 3), best, name_of(m.format));
    }
  EXPECT_GT(screened, 0);
}

TEST(Screen, KeepsTheWantedToTheBit) {
  std::mt19937 random(5);
  int left_out = 0;
  for (const int64_t columns : {32, 65, 640})
    for (const int64_t rows : {1, 17, 1024, 5003})
      for (const uint32_t every : {1u, 3u, 200u}) {
        const PackedMatrix m = random_matrix(split_format(), rows, columns, uint32_t(rows));
        const Array x = Array::random({1, columns}, uint32_t(columns), 3);
        const Case full = product(m, x, 0);
        Case few = product(m, x, every == 3 ? 5 : 0);
        for (int32_t r = int32_t(random() % every); r < rows; r += 1 + int32_t(random() % (2 * every - 1)))
          few.wanted.push_back(r);
        if (few.wanted.empty()) few.wanted.push_back(int32_t(rows - 1));
        for_each_kernel(full, [&](const Kernel& k, const std::string&) {
          const Ran want = run_kernel(full, k, nullptr), got = run_kernel(few, k, nullptr);
          const float *w = want.out[0].data<float>(), *g = got.out[0].data<float>();
          if (std::memcmp(w, g, size_t(rows) * 4) == 0) return;
          ++left_out;
          for (int32_t r = 0; r < rows; ++r) {
            const bool is_wanted = std::binary_search(few.wanted.begin(), few.wanted.end(), r);
            ASSERT_EQ(0, std::memcmp(is_wanted ? &w[r] : &(const float&)(-kInfinity), &g[r], 4))
                << rows << " x " << columns << " row " << r << ": " << k.name;
          }
        });
      }
  EXPECT_GT(left_out, 0);
}

// Most of a real state's size is in few columns, and most rows are far below the best one.
TEST(Screen, SkewedActivations) {
  const PackedMatrix m = random_matrix(split_format(), 3000, 640, 3);
  for (uint32_t seed = 0; seed < 8; ++seed) {
    Array x = Array::random({1, 640}, seed + 100);
    for (int i = 0; i < 8; ++i) x.data<float>()[(seed * 131 + uint32_t(i) * 77) % 640] *= 40;
    for (int32_t best : {1, 40}) check(m, x, best, "skewed");
  }
}

PackedMatrix matrix_of(const PackedFormat& f, int64_t rows, int64_t columns,
                       const std::function<uint8_t(int64_t, int64_t)>& q, const std::function<float(int64_t)>& d) {
  PackedMatrix m{f, rows, columns, {}, std::vector<unsigned char>(f.matrix_bytes(rows, columns), 0)};
  std::vector<uint8_t> row(static_cast<size_t>(columns));
  std::vector<uint16_t> scales(static_cast<size_t>((columns + 31) / 32));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) row[size_t(c)] = q(r, c);
    std::fill(scales.begin(), scales.end(), float_to_half(d(r)));
    pack_row(f, m.bytes.data(), columns, r, {row.data(), scales.data(), nullptr, nullptr, nullptr});
  }
  return m;
}

TEST(Screen, TiesAllStay) {
  const Array x = Array::random({1, 64}, 5);
  // 3 rows in a hundred are the same, and the best of all where the signs agree.
  const float* v = x.data<float>();
  const PackedMatrix some = matrix_of(
      split_format(), 2000, 64,
      [&](int64_t r, int64_t c) { return uint8_t(r % 33 == 7 ? (v[c] > 0 ? 255 : 0) : (r * 37 + c * 101) & 255); },
      [](int64_t) { return 0.01f; });
  EXPECT_GT(check(some, x, 1, "ties"), 0);
  EXPECT_GT(check(some, x, 50, "ties"), 0);
  // More equal rows than are looked at one by one: everything is computed.
  const PackedMatrix all = matrix_of(
      split_format(), 2000, 64, [](int64_t, int64_t c) { return uint8_t(c * 3); }, [](int64_t) { return 0.5f; });
  EXPECT_EQ(check(all, x, 1, "all equal"), 0);
}

// The low nibbles alone decide, against what the high ones promise; negative scales and odd zero points.
TEST(Screen, LowBitsDecide) {
  const Array x = Array::random({1, 96}, 9);
  for (int zero_point : {0, 128, 255})
    for (float scale : {0.02f, -0.02f, 6e-8f, 60000.0f}) {
      const PackedMatrix m = matrix_of(
          split_format(zero_point), 1500, 96,
          [](int64_t r, int64_t c) { return uint8_t(0x70 | ((r * r + c * 7 + r * c) & 15)); },
          [&](int64_t) { return scale; });
      for (int32_t best : {1, 10}) check(m, x, best, "low bits");
    }
}

TEST(Screen, ZeroHugeAndNonFiniteActivations) {
  const PackedMatrix m = random_matrix(split_format(), 1100, 64, 8);
  for (float size : {0.0f, 1e-38f, 1e-30f, 1e20f, 1e30f, 3e38f}) {
    Array x = Array::random({1, 64}, 4);
    for (int i = 0; i < 64; ++i) x.data<float>()[i] = i % 9 == 0 ? size : 0;
    check(m, x, 3, "size " + std::to_string(size));
  }
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    Array x = Array::random({1, 64}, 4);
    x.data<float>()[33] = bad;
    const Case few = product(m, x, 1);
    for_each_kernel(few, [&](const Kernel& k, const std::string&) {
      const Ran r = run_kernel(few, k, nullptr);
      for (int i = 0; i < 1100; ++i) ASSERT_TRUE(std::isnan(r.out[0].data<float>()[i])) << k.name << " row " << i;
    });
  }
}

// A scale that is no number makes the row's product one: it must not be taken for a row that was left out.
TEST(Screen, NonFiniteScalesAreSeen) {
  const Array x = Array::random({1, 64}, 4);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    const PackedMatrix m = matrix_of(
        split_format(), 1100, 64, [](int64_t r, int64_t c) { return uint8_t(r * 7 + c); },
        [&](int64_t r) { return r == 700 ? bad : 0.1f; });
    const Case few = product(m, x, 1), full = product(m, x, 0);
    for_each_kernel(few, [&](const Kernel& k, const std::string&) {
      const Ran r = run_kernel(few, k, nullptr), w = run_kernel(full, k, nullptr);
      EXPECT_FALSE(std::isfinite(r.out[0].data<float>()[700]));
      EXPECT_TRUE(std::isfinite(r.out[0].data<float>()[0])) << "the full product was expected: " << k.name;
      EXPECT_FALSE(std::isfinite(w.out[0].data<float>()[700]));
    });
  }
}

TEST(Screen, SeveralTokensAndBiasesGiveAll) {
  const PackedMatrix m = random_matrix(split_format(), 700, 128, 8);
  Case c = product(m, Array::random({2, 128}, 4), 1);
  c.out = {Array(DType::kF32, {2, m.rows})};
  Case biased = product(m, Array::random({1, 128}, 4), 1);
  biased.in.push_back(Array::random({700}, 6));
  for (const Case* t : {&c, &biased})
    for_each_kernel(*t, [&](const Kernel& k, const std::string&) {
      const Ran r = run_kernel(*t, k, nullptr);
      for (size_t i = 0; i < r.out[0].bytes() / 4; ++i) ASSERT_TRUE(std::isfinite(r.out[0].data<float>()[i])) << k.name;
    });
}

// A split matrix holds the same numbers as an ordinary one: same bits.
TEST(Screen, SplitProductsEqualOrdinaryOnes) {
  PackedFormat whole = split_format();
  whole.split = false;
  for (int64_t tokens : {1, 2, 9}) {
    const PackedMatrix a = random_matrix(whole, 1040, 800, 21), b = random_matrix(split_format(), 1040, 800, 21);
    ASSERT_EQ(a.values, b.values);
    const Array x = Array::random({tokens, 800}, 4);
    Case ca = product(a, x, 0), cb = product(b, x, 0);
    ca.out = cb.out = {Array(DType::kF32, {tokens, 1040})};
    std::vector<Array> results;
    for_each_kernel(ca,
                    [&](const Kernel& k, const std::string&) { results.push_back(run_kernel(ca, k, nullptr).out[0]); });
    size_t i = 0;
    for_each_kernel(cb, [&](const Kernel& k, const std::string&) {
      const Array y = run_kernel(cb, k, nullptr).out[0];
      ASSERT_LT(i, results.size());
      EXPECT_EQ(0, std::memcmp(y.data<float>(), results[i].data<float>(), y.bytes())) << k.name << " tokens " << tokens;
      ++i;
    });
  }
}

}  // namespace
}  // namespace runnel::test
