// Keys and queries of select_blocks as the products of attention take them, and what its kernels share.
#pragma once

#include "cpu/call.h"
#include "ops/attention/tiles.inl"
#include "ops/select_blocks/select_blocks.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const OpCall* call;
  const SelectBlocksParams* params;
  SelectBlocksSizes sizes;
  KeyValues kv;
  const float* q;
  int32_t* ranges;
  int64_t heads, group, lists, n;
  int64_t row_blocks, columns;  // blocks of kBlockRows rows of a task; columns that scores have room for
  int64_t units;                // that a list has at most, in whole tiles
  float* sums;                  // [kv_heads][units / 16][key][16] sums of the keys of each unit; null: not asked for
  uint8_t* begins;              // [kv_heads][units] of chunks
  float* workers;
  size_t worker_floats;
  int64_t end() const { return sizes.position + sizes.tokens; }
};

// Memory of a worker.
struct Work {
  float *queries, *means, *panel, *tile, *part, *scores, *anchors, *important, *lines, *pooled;
  int32_t *order, *nodes;
  uint8_t *chosen, *chosen_lines;
};

// Keys at .. at + 15 (at a multiple of 16) as [key][16] floats; 0 behind the call's end.
RNL_INLINE const float* load_keys(const Job& j, int64_t kv_head, int64_t at, float* tile) {
  const int64_t key = j.kv.key, before = j.sizes.position, end = j.end();
  const float* from = tile;
  if (at < before) from = key_tile(j.kv, kv_head, 0, at, end, tile);
  if (at + 16 <= before) return from;
  if (at < before && from != tile) __builtin_memcpy(tile, from, size_t(key) * 16 * sizeof(float));
  for (int64_t i = at < before ? before - at : 0; i < 16; ++i) {
    const float* k = j.kv.k + ((at + i - before) * j.kv.kv_heads + kv_head) * key;
    const bool is_real = at + i < end;
    for (int64_t d = 0; d < key; ++d) tile[d * 16 + i] = is_real ? k[d] : 0.0f;
  }
  return tile;
}

// Rows r of the task into [row block][deep][kBlockRows]; query(r) is where its element 0 lies, null for a row of zeros.
template <class F>
RNL_INLINE void pack_rows(int64_t rows, int64_t row_blocks, int64_t key, float scale, float* to, F query) {
  for (int64_t r = 0; r < row_blocks * kBlockRows; ++r) {
    const float* from = r < rows ? query(r) : nullptr;
    float* out = to + r / kBlockRows * (key * kBlockRows) + r % kBlockRows;
    for (int64_t d = 0; d < key; ++d) out[d * kBlockRows] = from ? from[d] * scale : 0.0f;
  }
}

RNL_INLINE const float* query_of(const Job& j, int64_t head, int64_t position) {
  return j.q + ((position - j.sizes.position) * j.heads + head) * j.kv.key;
}

RNL_INLINE float most(float a, float b) { return a != a || a >= b ? a : b; }

// The largest of n <= 16 lanes; what is not a number wins.
RNL_INLINE float largest_of(const f32x16& v, int64_t n) {
  if (n <= 0) return -__builtin_inff();
  const f32x16 seen = n < 16 ? select(lane_numbers() < int(n), v, splat(-__builtin_inff())) : v;
  const float sum = reduce_add(select(seen == seen, splat(0), seen));
  return sum != sum ? sum : reduce_max(seen);
}

// Sum of the floats [from, to).
RNL_INLINE float sum_of(const float* x, int64_t from, int64_t to) {
  if (from >= to) return 0;
  f32x16 sum = splat(0);
  for (; from + 16 <= to; from += 16) sum = sum + load(x + from);
  if (from < to) sum = sum + load_n(x + from, int(to - from));
  return reduce_add(sum);
}

// A row's first n scores become their softmax.
RNL_INLINE void softmax_row(float* scores, int64_t n) {
  const float inf = __builtin_inff();
  const i32x16 lanes = lane_numbers();
  f32x16 top = splat(-inf);
  for (int64_t x = 0; x < n; x += 16) {
    f32x16 v = load(scores + x);
    if (x + 16 > n) v = select(lanes < int(n - x), v, splat(-inf)), store(scores + x, v);
    top = max(top, v);
  }
  const float largest = reduce_max(top);
  f32x16 sum = splat(0);
  for (int64_t x = 0; x < n; x += 16) {
    const f32x16 e = exp(load(scores + x) - splat(largest));
    sum = sum + e;
    store(scores + x, e);
  }
  const f32x16 scale = splat(1 / reduce_add(sum));
  for (int64_t x = 0; x < n; x += 16) store(scores + x, load(scores + x) * scale);
}

}  // namespace
}  // namespace runnel::RNL_ISA
