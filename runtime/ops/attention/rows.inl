// What attention works on: the call, items of query rows with the memory of a worker, and what rows see.
//
// Seen says what a row sees beside causality and window, and what it starts from: Everything here, Lists in
// ops/sparse_attention/lists.inl. A row is a query (its index in the call), a head and a position.
#pragma once

#include "cpu/call.h"
#include "ops/attention/attention.h"
#include "ops/attention/tiles.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kV, kKeyState, kValueState, kSinks, kBias, kSegments, kQueryTokens };

constexpr int kSplitRows = 12;   // rows of a kv head up to which spans may be the tasks
constexpr int kDirectLimit = 8;  // rows up to which states are read in place, each element converted once per block

struct Row {
  int64_t query, head, position;
};

// Bit x of a span: position base + x is seen.
constexpr int kWords = kSpan / 64;
struct Bits {
  uint64_t word[kWords];
};
RNL_INLINE bool has_bit(const Bits& b, int x) { return b.word[x / 64] >> (x % 64) & 1; }
// n bits from x; both multiples of 16, n at most 32, within a word.
RNL_INLINE uint64_t bits_at(const Bits& b, int x, int n) {
  return b.word[x / 64] >> (x % 64) & ((uint64_t(1) << n) - 1);
}

constexpr int kLaneBits[16] = {1,      1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                               1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};

struct Everything {
  // Whether rows may see only some of the keys between their first and last one; without, nothing else is asked.
  static constexpr bool kLists = false;
};

template <class Seen>
struct Job {
  Seen seen;
  KeyValues kv;
  const float *q, *sinks, *bias;
  float *y, *lse;
  const int32_t* bounds;       // of the sequences; null: one
  const int32_t* call_tokens;  // which token of the call a query is; null: the one of its index
  const int64_t* first_item;   // [sequences + 1], items of one kv head before each sequence
  int64_t sequences, items_per_head;
  int64_t tokens, keys, heads, group, value_padded, bias_head, bias_token, position, window, stride;
  float scale, softcap;
  bool causal, states;
  float* workers;  // worker_floats each
  size_t worker_floats;
  float* partials;  // split mode: [kv_heads, spans, rows, value_padded + 16], the maximum and the sum behind the values
  int64_t first_span, spans;
};

// Rows `first` .. `first + rows - 1` (row = token of the sequence * group + query head of the group) of one kv head.
struct Item {
  int64_t head, begin;  // begin: the sequence's first token in this call
  int64_t base, end;    // positions of its first token and behind its last
  int64_t first;
  int rows;
};

// Rows that go through the inner products together. In a panel block, rows behind `rows` are padding.
struct Block {
  int first, rows;
  const Products* products;
};

struct Work {
  Item item;
  Block blocks[kItemRows];
  int block_count;
  bool direct;
  int64_t low[kItemRows], high[kItemRows];  // positions that a row sees
  int lo[kItemRows], hi[kItemRows];         // the same within the current span; lo >= hi: nothing
  float *q, *scores, *panel, *span_acc, *acc, *span_max, *span_sum, *max, *sum;
  // With Seen::kLists, of the current span: what each row sees; for each block what any of its rows sees and where one
  // of them starts or stops to see; and what any row of the item sees.
  Bits bits[kItemRows], any[kItemRows], edges[kItemRows], all;
};

size_t worker_floats(int64_t key, int64_t value_padded) {
  const int64_t panel = 16 * (key > kSpan ? key : kSpan);
  return size_t(kItemRows * (key + kScoreStride + 2 * value_padded + 4) + panel);
}

template <class Seen>
Item find_item(const Job<Seen>& j, int64_t index) {
  Item it{};
  it.head = index / j.items_per_head;
  int64_t block = index % j.items_per_head, low = 0, high = j.sequences;
  while (high - low > 1) {
    const int64_t mid = (low + high) / 2;
    (j.first_item[mid] <= block ? low : high) = mid;
  }
  it.begin = j.bounds ? j.bounds[low] : 0;
  const int64_t tokens = (j.bounds ? j.bounds[low + 1] : j.tokens) - it.begin;
  it.base = j.states ? j.position : 0;
  it.end = it.base + (j.keys ? j.keys : tokens);
  it.first = (block - j.first_item[low]) * kItemRows;
  const int64_t rows = tokens * j.group - it.first;
  it.rows = int(rows < kItemRows ? rows : kItemRows);
  return it;
}

template <class Seen>
Row row_of(const Job<Seen>& j, const Item& item, int r) {
  const int64_t row = item.first + r, token = row / j.group;
  return {item.begin + token, item.head * j.group + row % j.group,
          item.base + (j.call_tokens ? j.call_tokens[token] : token)};
}

// Points the work at a worker's memory, cuts the rows into blocks, finds what they see and packs their queries, scaled,
// as [key][rows].
template <class Seen>
void prepare(const Job<Seen>& j, const Item& item, int worker, Work* w) {
  float* at = j.workers + size_t(worker) * j.worker_floats;
  const auto take = [&at](int64_t n) {
    float* p = at;
    at += n;
    return p;
  };
  const int64_t key = j.kv.key;
  w->item = item;
  w->scores = take(kItemRows * kScoreStride);
  w->panel = take(16 * (key > kSpan ? key : kSpan));
  w->span_acc = take(kItemRows * j.value_padded);
  w->acc = take(kItemRows * j.value_padded);
  w->q = take(kItemRows * key);
  w->span_max = take(kItemRows);
  w->span_sum = take(kItemRows);
  w->max = take(kItemRows);
  w->sum = take(kItemRows);
  w->direct =
      item.rows <= kDirectLimit && j.kv.value % 16 == 0 && (j.kv.dtype == DType::kF32 || j.kv.dtype == DType::kF16);
  w->block_count = 0;
  for (int r = 0; r < item.rows;) {
    const int left = item.rows - r;
    const Products* products = &kPanelProducts;
    if (w->direct) {
      const int size = left >= kDirectRows - 1 ? kDirectRows : left;
      products = j.kv.dtype == DType::kF16 ? direct_products<uint16_t>(size) : direct_products<float>(size);
    }
    w->blocks[w->block_count++] = {r, left < products->rows ? left : products->rows, products};
    r += products->rows;
  }
  for (int r = 0; r < item.rows; ++r) {
    const int64_t token = (item.first + r) / j.group, p = item.base + (j.call_tokens ? j.call_tokens[token] : token);
    w->low[r] = j.window > 0 && p - j.window + 1 > 0 ? p - j.window + 1 : 0;
    w->high[r] = j.causal ? (j.stride > 1 ? (p + 1) / j.stride : p + 1) : item.end;
    if (j.window > 0 && w->high[r] > p + j.window) w->high[r] = p + j.window;
    if constexpr (Seen::kLists) j.seen.narrow(row_of(j, item, r), &w->low[r], &w->high[r]);
  }
  for (int b = 0; b < w->block_count; ++b) {
    const Block& block = w->blocks[b];
    const int size = block.products->rows;
    float* to = w->q + block.first * key;
    for (int i = 0; i < size; ++i) {
      if (i >= block.rows) {
        for (int64_t d = 0; d < key; ++d) to[d * size + i] = 0;
        continue;
      }
      const int64_t row = item.first + block.first + i;
      const float* from = j.q + ((item.begin + row / j.group) * j.heads + item.head * j.group + row % j.group) * key;
      for (int64_t d = 0; d < key; ++d) to[d * size + i] = from[d] * j.scale;
    }
  }
}

}  // namespace
}  // namespace runnel::RNL_ISA
