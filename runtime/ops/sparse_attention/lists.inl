// What a row of sparse_attention sees, as bits of a span of keys.
#pragma once

#include "ops/attention/attention.inl"
#include "ops/sparse_attention/sparse_attention.h"

namespace runnel::RNL_ISA {
namespace {

// Bits begin, begin + step, ... below end of a span from base on.
RNL_INLINE void add_range(int64_t begin, int64_t end, int64_t step, int64_t base, Bits* bits) {
  if (begin < base) begin += (base - begin + step - 1) / step * step;
  if (end > base + kSpan) end = base + kSpan;
  if (step > 1) {
    for (; begin < end; begin += step) bits->word[(begin - base) / 64] |= uint64_t(1) << ((begin - base) % 64);
    return;
  }
  for (int64_t x = begin - base, stop = end - base; x < stop; x = (x | 63) + 1) {
    const int64_t left = stop - x, first = x % 64;
    bits->word[x / 64] |= (left >= 64 - first ? ~uint64_t(0) : (uint64_t(1) << left) - 1) << first;
  }
}

struct Lists {
  static constexpr bool kLists = true;

  const SparseAttentionParams* params;
  const float *before, *lse_before;
  const int32_t* ranges;                          // [range_heads, lists, range_count, 3]
  int64_t range_heads, lists, range_count, base;  // base: position of the call's first token
  const int32_t* parents;
  int64_t sizes[kMaxAxes];

  bool is_sigmoid() const { return params->sigmoid; }
  float shift() const { return params->shift; }
  bool is_stored(int64_t position) const { return params->first == 0 || position < int64_t(params->first); }

  const int32_t* ranges_of(const Row& r) const {
    const int64_t list = r.position / params->range_block - base / params->range_block;
    return ranges + ((range_heads == 1 ? 0 : r.head) * lists + list) * range_count * 3;
  }

  void narrow(const Row& r, int64_t* low, int64_t* high) const {
    const auto cut = [&](int64_t begin, int64_t end) {
      if (begin > *low) *low = begin;
      if (end < *high) *high = end;
    };
    const int64_t chunk = params->chunk, first = params->first, window = params->window;
    if (chunk > 0) cut(r.position / chunk * chunk, r.position / chunk * chunk + chunk);
    if (first > 0) cut(0, window > 0 && r.position - window + 1 < first ? r.position - window + 1 : first);
    if (ranges) {
      const int32_t* at = ranges_of(r);
      int64_t begin = *high, end = *low;
      for (int64_t i = 0; i < range_count; ++i, at += 3) {
        if (at[0] >= at[1]) continue;
        if (at[0] < begin) begin = at[0];
        if (at[1] > end) end = at[1];
      }
      cut(begin, end);
    }
    if (params->axes > 0) {
      int64_t begin = 0, end = 0, rest = r.query, unit = 1;
      for (int a = params->axes - 1; a >= 0; --a) {
        const Places seen = places_of(*params, a, sizes[a], rest % sizes[a]);
        begin += seen.begin * unit;
        end += (seen.end - 1) * unit;
        rest /= sizes[a], unit *= sizes[a];
      }
      cut(begin, end + 1);
    }
  }
  void narrow_call(int64_t* low, int64_t* end) const {
    if (params->first == 0) return;
    *low = 0;
    if (*end > int64_t(params->first)) *end = params->first;
  }

  // Whether list() says the same of both.
  bool is_alike(const Row& a, const Row& b) const {
    const bool by_query = parents || params->axes > 0;
    return (!by_query || a.query == b.query) && (!ranges || ranges_of(a) == ranges_of(b));
  }

  void list(const Row& r, int64_t from, Bits* bits) const {
    *bits = {};
    if (ranges) {
      const int32_t* at = ranges_of(r);
      for (int64_t i = 0; i < range_count; ++i, at += 3)
        if (at[0] < at[1] && at[0] < from + kSpan && at[1] > from)
          add_range(at[0], at[1], at[2] < 1 ? 1 : at[2], from, bits);
    } else {
      add_range(from, from + kSpan, 1, from, bits);
    }
    if (parents) keep_ancestors(r, from, bits);
    if (params->axes > 0) keep_neighbours(r, from, bits);
  }

 private:
  void keep_ancestors(const Row& r, int64_t from, Bits* bits) const {
    const int64_t call = r.position - r.query;  // position of the call's first token
    if (from + kSpan <= call) return;
    Bits seen{};
    if (call > from) add_range(from, call, 1, from, &seen);
    for (int64_t t = r.query; t >= 0; t = parents[t])
      if (call + t >= from && call + t < from + kSpan) add_range(call + t, call + t + 1, 1, from, &seen);
    for (int i = 0; i < kWords; ++i) bits->word[i] &= seen.word[i];
  }

  void keep_neighbours(const Row& r, int64_t from, Bits* bits) const {
    Places seen[kMaxAxes] = {{0, 1, 1}, {0, 1, 1}, {0, 1, 1}};  // of missing axes: one place
    int64_t size[kMaxAxes] = {1, 1, 1}, rest = r.query;
    for (int a = params->axes - 1, to = kMaxAxes - 1; a >= 0; --a, --to) {
      size[to] = sizes[a];
      seen[to] = places_of(*params, a, sizes[a], rest % sizes[a]);
      rest /= sizes[a];
    }
    Bits near{};
    for (int64_t x = seen[0].begin; x < seen[0].end; x += seen[0].step)
      for (int64_t y = seen[1].begin; y < seen[1].end; y += seen[1].step) {
        const int64_t line = (x * size[1] + y) * size[2], begin = line + seen[2].begin, end = line + seen[2].end;
        if (begin < from + kSpan && end > from) add_range(begin, end, seen[2].step, from, &near);
      }
    for (int i = 0; i < kWords; ++i) bits->word[i] &= near.word[i];
  }
};

}  // namespace
}  // namespace runnel::RNL_ISA
