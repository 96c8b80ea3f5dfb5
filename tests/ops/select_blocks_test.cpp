#include "runtime/ops/select_blocks/select_blocks.h"

#include "ops/attention_states.h"
#include "runtime/ops/attention/attention.h"

namespace runnel::test {
namespace {

Case make(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t key, SelectBlocksParams p, uint32_t seed = 1) {
  Case t;
  t.op = "select_blocks";
  *params_of<SelectBlocksParams>(&t.params) = p;
  const int64_t lists = (tokens + p.block - 1) / p.block + 1;
  t.in = {Array::random({tokens, heads, key}, seed, 3.0f), Array::random({tokens, kv_heads, key}, seed + 1, 2.0f),
          Array()};
  t.out = {Array(DType::kI32, {heads, lists, lists / 2 + 1, 3})};
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

}  // namespace
}  // namespace runnel::test
