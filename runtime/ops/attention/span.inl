// One span of keys for the rows of an item: scores, their weights, and the weighted values.
#pragma once

#include "ops/attention/rows.inl"

namespace runnel::RNL_ISA {
namespace {

// Range of slots of the span that rows of the block see; false when they see none.
bool block_range(const Work& w, const Block& b, int* lo, int* hi) {
  *lo = kSpan;
  *hi = 0;
  for (int r = b.first; r < b.first + b.rows; ++r) {
    if (w.lo[r] >= w.hi[r]) continue;
    if (w.lo[r] < *lo) *lo = w.lo[r];
    if (w.hi[r] > *hi) *hi = w.hi[r];
  }
  return *lo < *hi;
}

template <class Seen>
void direct_scores(const Job<Seen>& j, Work& w, int64_t base) {
  const KeyValues& kv = j.kv;
  for (int b = 0; b < w.block_count; ++b) {
    const Block& block = w.blocks[b];
    const Products& p = *block.products;
    int lo, hi;
    if (!block_range(w, block, &lo, &hi)) continue;
    const float* q = w.q + block.first * kv.key;
    float* scores = w.scores + block.first * kScoreStride;
    const size_t tile_bytes = size_t(kv.key) * 16 * p.element;
    for (int x = lo & ~15; x < hi;) {
      if constexpr (Seen::kLists) {
        if (bits_at(w.any[b], x, 16) == 0) {
          x += 16;
          continue;
        }
      }
      // Slots run on without a jump within a tile of kSlotTile positions.
      const unsigned char* k =
          kv.k_state + size_t(w.item.head * (kv.slots / 16) + (base + x) % kv.slots / 16) * tile_bytes;
      const int wide = (64 - x % 64) / 16 >= p.wide && x + 16 * (p.wide - 1) < hi ? p.wide : 1;
      (wide > 1 ? p.keys_wide : p.keys_one)(q, k, kv.key, scores + x);
      x += 16 * wide;
    }
  }
}

template <class Seen>
void panel_scores(const Job<Seen>& j, Work& w, int64_t base) {
  int first = kSpan, last = 0, lo[kItemRows], hi[kItemRows];
  for (int b = 0; b < w.block_count; ++b) {
    if (!block_range(w, w.blocks[b], &lo[b], &hi[b])) continue;
    if (lo[b] < first) first = lo[b];
    if (hi[b] > last) last = hi[b];
  }
  for (int x = first & ~15; x < last; x += 16) {
    if constexpr (Seen::kLists)
      if (bits_at(w.all, x, 16) == 0) continue;
    const float* k = key_tile(j.kv, w.item.head, w.item.begin, base + x, w.item.end, w.panel);
    for (int b = 0; b < w.block_count; ++b) {
      if (x + 16 <= lo[b] || x >= hi[b]) continue;
      if constexpr (Seen::kLists)
        if (bits_at(w.any[b], x, 16) == 0) continue;
      const int row = w.blocks[b].first;
      kPanelProducts.keys_one(w.q + row * j.kv.key, k, j.kv.key, w.scores + row * kScoreStride + x);
    }
  }
}

// Turns a row's scores into weights e^(score - max) and finds their maximum and sum. Lanes outside of [lo, hi) become
// 0.
template <class Seen>
void softmax_row(const Job<Seen>& j, Work& w, int r, int64_t base) {
  const float inf = __builtin_inff();
  const i32x16 lanes = lane_numbers();
  const int lo = w.lo[r], hi = w.hi[r];
  float* s = w.scores + r * kScoreStride;
  const float* bias = nullptr;
  if (j.bias) {
    const int64_t row = w.item.first + r, head = w.item.head * j.group + row % j.group,
                  token = w.item.begin + row / j.group;
    bias = j.bias + head * j.bias_head + token * j.bias_token + w.item.begin + base;
  }
  f32x16 top = splat(-inf);
  for (int x = lo & ~15; x < hi; x += 16) {
    if constexpr (Seen::kLists)
      if (bits_at(w.bits[r], x, 16) == 0) continue;
    f32x16 v = load(s + x);
    if (j.softcap > 0) v = tanh(v / j.softcap) * j.softcap;
    if (bias) v = v + (x + 16 <= hi ? load(bias + x) : load_n(bias + x, hi - x));
    if constexpr (Seen::kLists) {
      const int seen = int(bits_at(w.bits[r], x, 16));
      if (seen != 0xffff) v = select((load_tile<i32x16>(kLaneBits) & seen) > 0, v, splat(-inf));
      if (j.seen.is_sigmoid()) v = splat(1) / (splat(1) + exp(splat(-j.seen.shift()) - v));
    } else {
      if (x < lo || x + 16 > hi) v = select((lanes >= lo - x) & (lanes < hi - x), v, splat(-inf));
    }
    top = max(top, v);
    store(s + x, v);
  }
  if constexpr (Seen::kLists) {
    if (j.seen.is_sigmoid()) {
      w.span_max[r] = w.span_sum[r] = 0;
      return;
    }
  }
  const float largest = reduce_max(top);
  const f32x16 shift = splat(largest == -inf ? 0.0f : largest);
  f32x16 sum = splat(0);
  for (int x = lo & ~15; x < hi; x += 16) {
    if constexpr (Seen::kLists)
      if (bits_at(w.bits[r], x, 16) == 0) continue;
    const f32x16 e = exp(load(s + x) - shift);
    sum = sum + e;
    store(s + x, e);
  }
  w.span_max[r] = largest;
  w.span_sum[r] = reduce_add(sum);
}

// As block_values where rows see only some slots: from one place where any row starts or stops to see to the next.
template <class Seen>
void listed_values(const Work& w, int number, int columns, const void* v, int64_t v_stride, int from, int to,
                   float* acc, int64_t acc_stride) {
  const Block& b = w.blocks[number];
  const Products& products = *b.products;
  const auto at = [&](int slot) {
    return static_cast<const unsigned char*>(v) + size_t((slot - from) * v_stride) * products.element;
  };
  for (int x = from, end; x < to; x = end) {
    end = x + 1;
    while (end < to && !has_bit(w.edges[number], end)) {
      const uint64_t rest = w.edges[number].word[end / 64] >> (end % 64);
      end += rest ? __builtin_ctzll(rest) : 64 - end % 64;
    }
    if (end > to) end = to;
    if (!has_bit(w.any[number], x)) continue;
    bool is_common = true;
    for (int r = b.first; r < b.first + b.rows; ++r)
      is_common = is_common && (w.lo[r] >= w.hi[r] || has_bit(w.bits[r], x));
    if (is_common) {
      (columns > 1 ? products.values_wide : products.values_one)(w.scores + b.first * kScoreStride + x, at(x), v_stride,
                                                                 end - x, acc + b.first * acc_stride, acc_stride);
      continue;
    }
    const ValueFn fn = columns > 1 ? products.single_wide : products.single_one;
    for (int r = b.first; r < b.first + b.rows; ++r)
      if (has_bit(w.bits[r], x))
        fn(w.scores + r * kScoreStride + x, at(x), v_stride, end - x, acc + r * acc_stride, acc_stride);
  }
}

// Slots [from, to) of the span, their values at v (`columns` tiles of 16, one of the widths of the products), for the
// rows of one block. Slots that only some of the rows see are added row by row, so that a row never touches a value
// that it must not see; each row takes its slots in order.
template <class Seen>
void block_values(const Work& w, int number, int columns, const void* v, int64_t v_stride, int from, int to, float* acc,
                  int64_t acc_stride) {
  if constexpr (Seen::kLists) return listed_values<Seen>(w, number, columns, v, v_stride, from, to, acc, acc_stride);
  const Block& b = w.blocks[number];
  const Products& products = *b.products;
  int common_lo = 0, common_hi = kSpan;
  for (int r = b.first; r < b.first + b.rows; ++r) {
    if (w.lo[r] >= w.hi[r]) continue;
    if (w.lo[r] > common_lo) common_lo = w.lo[r];
    if (w.hi[r] < common_hi) common_hi = w.hi[r];
  }
  if (common_lo > common_hi) common_lo = common_hi = kSpan;  // nothing in common: all of it row by row
  const auto at = [&](int slot) {
    return static_cast<const unsigned char*>(v) + size_t((slot - from) * v_stride) * products.element;
  };
  const auto single = [&](int begin, int end) {
    const ValueFn fn = columns > 1 ? products.single_wide : products.single_one;
    for (int r = b.first; r < b.first + b.rows; ++r) {
      int x = w.lo[r] > begin ? w.lo[r] : begin;
      int stop = w.hi[r] < end ? w.hi[r] : end;
      if (x < from) x = from;
      if (stop > to) stop = to;
      if (x < stop) fn(w.scores + r * kScoreStride + x, at(x), v_stride, stop - x, acc + r * acc_stride, acc_stride);
    }
  };
  if (common_lo > from) single(0, common_lo);
  const int x = common_lo > from ? common_lo : from, stop = common_hi < to ? common_hi : to;
  if (x < stop)
    (columns > 1 ? products.values_wide : products.values_one)(w.scores + b.first * kScoreStride + x, at(x), v_stride,
                                                               stop - x, acc + b.first * acc_stride, acc_stride);
  if (common_hi < to) single(common_hi, kSpan);
}

template <class Seen>
void direct_values(const Job<Seen>& j, const Work& w, int64_t base) {
  const KeyValues& kv = j.kv;
  const int64_t tiles = kv.value / 16;
  for (int b = 0; b < w.block_count; ++b) {
    const Block& block = w.blocks[b];
    int lo, hi;
    if (!block_range(w, block, &lo, &hi)) continue;
    for (int x = lo; x < hi;) {
      int end = (x | 31) + 1;  // 32 rows of values stay in the first cache while their columns are walked
      if (end > hi) end = hi;
      if constexpr (Seen::kLists) {
        if (bits_at(w.any[b], x & ~31, 32) == 0) {
          x = end;
          continue;
        }
      }
      const unsigned char* v =
          kv.v_state + size_t((w.item.head * kv.slots + (base + x) % kv.slots) * kv.value) * block.products->element;
      for (int64_t c = 0; c < tiles;) {
        const int columns = c + block.products->wide <= tiles ? block.products->wide : 1;
        block_values<Seen>(w, b, columns, v + size_t(16 * c) * block.products->element, kv.value, x, end,
                           w.span_acc + 16 * c, j.value_padded);
        c += columns;
      }
      x = end;
    }
  }
}

template <class Seen>
void panel_values(const Job<Seen>& j, const Work& w, int64_t base) {
  int first = kSpan, last = 0;
  for (int b = 0; b < w.block_count; ++b) {
    int lo, hi;
    if (!block_range(w, w.blocks[b], &lo, &hi)) continue;
    if (lo < first) first = lo;
    if (hi > last) last = hi;
  }
  for (int64_t c = 0; 16 * c < j.kv.value; ++c) {
    for (int x = first; x < last;) {
      int end = (x | 63) + 1;
      if (end > last) end = last;
      if constexpr (Seen::kLists) {
        if (w.all.word[x / 64] == 0) {
          x = end;
          continue;
        }
      }
      value_panel(j.kv, w.item.head, w.item.begin, base + x, end - x, c, w.panel + (x - first) * 16);
      x = end;
    }
    for (int b = 0; b < w.block_count; ++b)
      block_values<Seen>(w, b, 1, w.panel, 16, first, last, w.span_acc + 16 * c, j.value_padded);
  }
}

// What the rows see of the span; false: nothing. Rows that see nothing of it get an empty range.
template <class Seen>
bool list_rows(const Job<Seen>& j, Work& w, int64_t base) {
  w.all = {};
  Row before{-1, -1, -1};
  Bits listed{};
  for (int b = 0; b < w.block_count; ++b) {
    const Block& block = w.blocks[b];
    Bits any{}, edges{};
    for (int r = block.first; r < block.first + block.rows; ++r) {
      Bits& bits = w.bits[r];
      bits = {};
      if (w.lo[r] >= w.hi[r]) continue;
      const Row row = row_of(j, w.item, r);
      if (before.query < 0 || !j.seen.is_alike(before, row)) j.seen.list(row, base, &listed);
      before = row;
      uint64_t carry = 0, sees = 0;
      int lo = kSpan, hi = 0;
      for (int i = 0; i < kWords; ++i) {
        const int first = w.lo[r] - 64 * i, end = w.hi[r] - 64 * i;
        uint64_t own = listed.word[i];
        own &= first <= 0 ? ~uint64_t(0) : first >= 64 ? 0 : ~uint64_t(0) << first;
        own &= end >= 64 ? ~uint64_t(0) : end <= 0 ? 0 : ~(~uint64_t(0) << end);
        bits.word[i] = own;
        any.word[i] |= own;
        edges.word[i] |= own ^ (own << 1 | carry);
        carry = own >> 63;
        sees |= own;
        if (own == 0) continue;
        if (lo == kSpan) lo = 64 * i + __builtin_ctzll(own);
        hi = 64 * i + 64 - __builtin_clzll(own);
      }
      w.lo[r] = sees ? lo : 0;
      w.hi[r] = sees ? hi : 0;
    }
    w.any[b] = any, w.edges[b] = edges;
    for (int i = 0; i < kWords; ++i) w.all.word[i] |= any.word[i];
  }
  uint64_t sees = 0;
  for (uint64_t word : w.all.word) sees |= word;
  return sees != 0;
}

// Maximum, sum and weighted values of the rows over one span, into span_max, span_sum and span_acc.
template <class Seen>
void attend_span(const Job<Seen>& j, Work& w, int64_t span) {
  const int64_t base = span * kSpan;
  for (int r = 0; r < w.item.rows; ++r) {
    const int64_t lo = w.low[r] - base, hi = w.high[r] - base;
    w.lo[r] = int(lo < 0 ? 0 : lo < kSpan ? lo : kSpan);
    w.hi[r] = int(hi < 0 ? 0 : hi < kSpan ? hi : kSpan);
  }
  if constexpr (Seen::kLists)
    if (!list_rows(j, w, base)) return;
  (w.direct ? direct_scores<Seen> : panel_scores<Seen>)(j, w, base);
  for (int r = 0; r < w.item.rows; ++r)
    if (w.lo[r] < w.hi[r]) softmax_row(j, w, r, base);
  const Block& last = w.blocks[w.block_count - 1];
  __builtin_memset(w.span_acc, 0, size_t(last.first + last.products->rows) * size_t(j.value_padded) * sizeof(float));
  (w.direct ? direct_values<Seen> : panel_values<Seen>)(j, w, base);
}

}  // namespace
}  // namespace runnel::RNL_ISA
