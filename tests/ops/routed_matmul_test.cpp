#include "runtime/ops/routed_matmul/routed_matmul.h"

#include "ops/recurrence_test.h"
#include "packed_formats.h"

namespace runnel::test {
namespace {

struct Routed {
  std::vector<PackedMatrix> weights;
  Case call;
};

// experts matrices of `rows` rows, each filled up to whole tiles.
void make(Routed& r, PackedFormat format, int64_t tokens, int64_t slots, int64_t experts, std::vector<int64_t> rows,
          int64_t columns, bool shared, bool routed = true, bool bias = false) {
  r.call.op = "routed_matmul";
  r.weights.clear();
  r.call.in = {
      Array::random(shared ? std::vector<int64_t>{tokens, columns} : std::vector<int64_t>{tokens, slots, columns}, 1)};
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens * slots; ++i) ids.push_back(int32_t((i * 7 + i / 3) % experts));
  r.call.in.push_back(routed ? Array::i32({tokens, slots}, ids) : Array());
  r.call.out.clear();
  for (size_t i = 0; i < rows.size(); ++i)
    r.weights.push_back(random_matrix(format, (rows[i] + 15) / 16 * 16 * experts, columns, 10 + uint32_t(i)));
  for (size_t i = 0; i < rows.size(); ++i) {
    const PackedMatrix& m = r.weights[i];
    Array a(DType::kPacked, {m.rows, m.columns}, m.bytes.size());
    std::memcpy(a.data<unsigned char>(), m.bytes.data(), m.bytes.size());
    r.call.in.push_back(a);
    r.call.in.back().set_packed(&m.format);
    r.call.out.push_back(Array(DType::kF32, {tokens, slots, rows[i]}));
  }
  if (bias)
    for (size_t i = 0; i < rows.size(); ++i) r.call.in.push_back(Array::random({experts, rows[i]}, 30 + uint32_t(i)));
}

const PackedFormat kFloat = {PackedKind::kF32, 0, 32, 0, false, ScaleKind::kF16};
const PackedFormat kEight = {PackedKind::kInteger, 8, 32, 128, false, ScaleKind::kF16};

TEST(RoutedMatmul, MatchesTheReference) {
  Routed r;
  for (int64_t tokens : {0, 1, 2, 9})
    for (int64_t rows : {16, 20})
      for (bool shared : {false, true}) {
        make(r, kFloat, tokens, 3, 5, {rows, 33}, 40, shared, true, rows == 20);
        compare_all(r.call, 1e-5);
        make(r, kEight, tokens, 2, 4, {rows}, 64, shared);
        compare_all(r.call, 2e-2);
      }
}

TEST(RoutedMatmul, WithoutIdsEachSlotHasItsMatrix) {
  Routed r;
  for (int64_t tokens : {1, 6}) {
    make(r, kFloat, tokens, 4, 4, {10}, 12, false, false);
    compare_all(r.call, 1e-5);
  }
}

TEST(RoutedMatmul, BitsOfATokenAreItsOwn) {
  Routed all, one;
  for (const PackedFormat& f : {kFloat, kEight}) {
    make(all, f, 7, 2, 3, {24}, 64, true);
    for_each_kernel(all.call, [&](const Kernel& k, const std::string&) {
      const Ran whole = run_kernel(all.call, k, nullptr);
      for (int64_t t = 0; t < 7; ++t) {
        make(one, f, 1, 2, 3, {24}, 64, true);
        one.call.in[0] = rows_of(all.call.in[0], t, t + 1);
        const int32_t* ids = all.call.in[1].data<int32_t>() + t * 2;
        one.call.in[1] = Array::i32({1, 2}, {ids[0], ids[1]});
        const Ran own = run_kernel(one.call, k, nullptr);
        EXPECT_EQ(0, std::memcmp(own.out[0].data<char>(), whole.out[0].data<float>() + t * 48, own.out[0].bytes()))
            << k.name << " token " << t;
      }
    });
  }
}

// One token goes through another form than several, in several pieces when there are many experts: the bits are the
// same.
TEST(RoutedMatmul, ManySlotsWithRowsOfTheirOwn) {
  Routed all, one;
  ThreadPool* pool = thread_pool_create(2);
  for (const PackedFormat& f : {kFloat, kEight}) {
    make(all, f, 3, 20, 24, {20, 33}, 96, false, true, true);
    compare_all(all.call, f.is_float() ? 1e-5 : 2e-2);
    make(one, f, 1, 20, 24, {20, 33}, 96, false, true, true);
    one.call.in[0] = rows_of(all.call.in[0], 1, 2);
    one.call.in[1] = Array::i32({1, 20}, std::vector<int32_t>(all.call.in[1].data<int32_t>() + 20,
                                                              all.call.in[1].data<int32_t>() + 40));
    for_each_kernel(all.call, [&](const Kernel& k, const std::string&) {
      const Ran whole = run_kernel(all.call, k, nullptr), own = run_kernel(one.call, k, pool);
      for (size_t o = 0; o < 2; ++o)
        EXPECT_EQ(0, std::memcmp(own.out[o].data<char>(), whole.out[o].data<char>() + own.out[o].bytes(),
                                 own.out[o].bytes()))
            << k.name << " output " << o;
    });
  }
  thread_pool_destroy(pool);
}

// An expert's matrix would begin in the middle of a group.
TEST(RoutedMatmul, RefusesSplitWeights) {
  PackedFormat split;
  split.bits = 8;
  split.zero_point = 128;
  split.split = true;
  Routed r;
  make(r, split, 2, 2, 3, {16}, 32, true);
  EXPECT_NE(refusal(r.call).find("is split"), std::string::npos) << refusal(r.call);
}

TEST(RoutedMatmul, RefusesUnknownExpertsByName) {
  Routed r;
  make(r, kFloat, 2, 2, 3, {16}, 8, true);
  r.call.in[1] = Array::i32({2, 2}, {0, 1, 3, 0});
  EXPECT_NE(refusal(r.call).find("expert 3 (index 2) is not in 0 .. 2"), std::string::npos) << refusal(r.call);
  make(r, kFloat, 2, 2, 3, {16}, 8, true, false);
  EXPECT_NE(refusal(r.call).find("without ids"), std::string::npos) << refusal(r.call);
}

}  // namespace
}  // namespace runnel::test
