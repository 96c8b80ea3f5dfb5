// The estimates, for the query heads of one kv head and one list at a time: their rows meet 16 keys at a time.
#pragma once

#include "ops/select_blocks/keys.inl"

namespace runnel::RNL_ISA {
namespace {

struct Task {
  const Job& j;
  const SelectBlocksParams& p;
  const Work& w;
  int64_t list, m, kv_head;
  ListSizes sizes;

  int64_t rows() const { return sizes.samples * j.group; }
  int64_t row_blocks() const { return (rows() + kBlockRows - 1) / kBlockRows; }
  int64_t query(int64_t row) const { return sizes.last - row % sizes.samples * p.stride; }
  bool is_kept(int64_t unit) const { return unit >= sizes.kept_from || unit < int64_t(p.first); }
};

// A row of scores for 16 columns from x on, of every row block.
template <class F>
RNL_INLINE void multiply(const Task& t, const float* queries, int64_t blocks, int64_t deep, const float* keys,
                         F take_row) {
  for (int64_t b = 0; b < blocks; ++b) {
    kPanelProducts.keys_one(queries + b * deep * kBlockRows, keys, deep, t.w.part);
    for (int64_t r = 0; r < kBlockRows; ++r) take_row(b * kBlockRows + r, load(t.w.part + r * kScoreStride));
  }
}

// Antidiagonals. Queries as [row block][stride * key][kBlockRows], scaled; those that are not of the call are 0.
RNL_INLINE void pack_antidiagonals(const Task& t) {
  const Job& j = t.j;
  const int64_t S = t.p.stride, key = j.kv.key, rows = t.p.block / S;
  const float scale = t.p.scale / float(S);
  for (int64_t row = 0; row < j.row_blocks * kBlockRows; ++row) {
    const int64_t g = row / rows, r = t.m * rows + row % rows;
    float* out = t.w.queries + row / kBlockRows * (S * key * kBlockRows) + row % kBlockRows;
    for (int64_t s = 0; s < S; ++s) {
      const int64_t at = r * S + S - 1 - s;
      const bool is_real = g < j.group && at >= j.sizes.position && at < j.end();
      const float* from = is_real ? query_of(j, t.kv_head * j.group + g, at) : nullptr;
      for (int64_t d = 0; d < key; ++d) out[(s * key + d) * kBlockRows] = is_real ? from[d] * scale : 0.0f;
    }
  }
}

// 16 columns of S keys from column `first` on as [S * key][16].
RNL_INLINE const float* gather_columns(const Task& t, int64_t first) {
  const int64_t S = t.p.stride, key = t.j.kv.key;
  for (int64_t x = 0; x < 16 * S; x += 16) {
    const float* keys = load_keys(t.j, t.kv_head, first * S + x, t.w.tile);
    for (int64_t i = 0; i < 16; ++i) {
      float* to = t.w.panel + (x + i) % S * key * 16 + (x + i) / S;
      for (int64_t d = 0; d < key; ++d) to[d * 16] = keys[d * 16 + i];
    }
  }
  return t.w.panel;
}

void score_antidiagonals(const Task& t) {
  const Job& j = t.j;
  const int64_t deep = t.p.stride * j.kv.key, columns = t.sizes.units * (t.p.block / t.p.stride);
  pack_antidiagonals(t);
  for (int64_t x = 0; x < columns; x += 16)
    multiply(t, t.w.queries, j.row_blocks, deep, gather_columns(t, x),
             [&](int64_t row, const f32x16& v) RNL_LAMBDA { store(t.w.scores + row * j.columns + x, v); });
}

void add_antidiagonals(const Task& t, int64_t g) {
  const Job& j = t.j;
  const int64_t S = t.p.stride, rows = t.p.block / S;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t r = t.m * rows + i;
    if (r * S >= j.end() || (r + 1) * S <= j.sizes.position) continue;  // no query of the call
    float* scores = t.w.scores + (g * rows + i) * j.columns;
    softmax_row(scores, r + 1);
    for (int64_t u = 0; u * rows <= r; ++u)
      t.w.important[u] += sum_of(scores, u * rows, (u + 1) * rows < r + 1 ? (u + 1) * rows : r + 1);
  }
}

void pack_samples(const Task& t) {
  pack_rows(t.rows(), t.row_blocks(), t.j.kv.key, t.p.scale, t.w.queries, [&](int64_t row) RNL_LAMBDA {
    return query_of(t.j, t.kv_head * t.j.group + row / t.sizes.samples, t.query(row));
  });
}

void score_lines(const Task& t) {
  pack_samples(t);
  for (int64_t x = 0; x <= t.sizes.last; x += 16)
    multiply(t, t.w.queries, t.row_blocks(), t.j.kv.key, load_keys(t.j, t.kv_head, x, t.w.tile),
             [&](int64_t row, const f32x16& v) RNL_LAMBDA { store(t.w.scores + row * t.j.columns + x, v); });
}

void add_lines_of(const Task& t, int64_t g) {
  const int64_t B = t.p.block;
  for (int64_t n = 0; n < t.sizes.samples; ++n) {
    const int64_t row = g * t.sizes.samples + n, i = t.query(row);
    float* scores = t.w.scores + row * t.j.columns;
    softmax_row(scores, i + 1);
    for (int64_t u = 0; u * B <= i; ++u) {
      t.w.important[u] += sum_of(scores, u * B, (u + 1) * B < i + 1 ? (u + 1) * B : i + 1);
      t.w.lines[u] += sum_of(scores, i - (u + 1) * B + 1 > 0 ? i - (u + 1) * B + 1 : 0, i - u * B + 1);
    }
  }
}

// The mean of the sampled queries times `factor`, one row a head of the group.
void pack_means(const Task& t, float factor) {
  const int64_t key = t.j.kv.key, blocks = (t.j.group + kBlockRows - 1) / kBlockRows;
  for (int64_t g = 0; g < blocks * kBlockRows; ++g) {
    float* to = t.w.means + g / kBlockRows * (key * kBlockRows) + g % kBlockRows;
    for (int64_t d = 0; d < key; ++d) to[d * kBlockRows] = 0;
    if (g >= t.j.group) continue;
    for (int64_t n = 0; n < t.sizes.samples; ++n) {
      const float* q = query_of(t.j, t.kv_head * t.j.group + g, t.query(n));
      for (int64_t d = 0; d < key; ++d) to[d * kBlockRows] += q[d];
    }
    for (int64_t d = 0; d < key; ++d) to[d * kBlockRows] *= t.p.scale * factor / float(t.sizes.samples);
  }
}

// Products of the mean queries and the sums of units, a row of `pooled` a head.
void score_units(const Task& t) {
  const Job& j = t.j;
  pack_means(t, t.p.estimate == KeyEstimate::kChunks ? __builtin_sqrtf(float(t.sizes.samples)) : 1.0f);
  for (int64_t u = 0; u < t.sizes.units; u += 16)
    multiply(t, t.w.means, (j.group + kBlockRows - 1) / kBlockRows, j.kv.key,
             j.sums + (t.kv_head * j.units + u) * j.kv.key, [&](int64_t g, const f32x16& v) RNL_LAMBDA {
               if (g < j.group) store(t.w.pooled + g * j.units + u, v);
             });
}

// Queries of the samples rounded to 4 bits; the factor that makes scores of their products with rounded keys, a row.
void pack_quantised(const Task& t, float* factors) {
  pack_samples(t);
  const int64_t key = t.j.kv.key;
  for (int64_t row = 0; row < t.rows(); ++row) {
    const float* q = query_of(t.j, t.kv_head * t.j.group + row / t.sizes.samples, t.query(row));
    float* to = t.w.queries + row / kBlockRows * (key * kBlockRows) + row % kBlockRows;
    float largest = 0;
    for (int64_t d = 0; d < key; ++d) largest = __builtin_fabsf(q[d]) > largest ? __builtin_fabsf(q[d]) : largest;
    const float by = largest > 0 ? 7 / largest : 0;
    for (int64_t d = 0; d < key; ++d) to[d * kBlockRows] = (q[d] * by + 12582912.0f) - 12582912.0f;
    factors[row] = largest / 7 * t.p.scale;
  }
}

// In place; the keys' factors.
RNL_INLINE f32x16 quantise_keys(const float* from, int64_t key, float* to) {
  f32x16 largest = splat(0);
  for (int64_t d = 0; d < key; ++d) largest = max(largest, abs(load(from + d * 16)));
  const f32x16 by = select(largest > splat(0), splat(7) / largest, splat(0));
  for (int64_t d = 0; d < key; ++d) store(to + d * 16, (load(from + d * 16) * by + 12582912.0f) - 12582912.0f);
  return largest / splat(7);
}

// Calls take(row, x, scores) for 16 keys from x on, of units that are wanted.
template <class W, class F>
void for_keys(const Task& t, const float* queries, int64_t blocks, W is_wanted, F take) {
  const int64_t B = t.p.block, key = t.j.kv.key, stop = t.sizes.units * B < t.j.end() ? t.sizes.units * B : t.j.end();
  const bool is_quantised = t.p.estimate == KeyEstimate::kQuantised;
  for (int64_t x = 0; x < stop; x += 16) {
    bool is_any = false;
    for (int64_t u = x / B; u <= (x + 15) / B; ++u) is_any = is_any || is_wanted(u);
    if (!is_any) continue;
    const float* keys = load_keys(t.j, t.kv_head, x, t.w.tile);
    f32x16 factor = splat(1);
    if (is_quantised) factor = quantise_keys(keys, key, t.w.panel), keys = t.w.panel;
    multiply(t, queries, blocks, key, keys,
             [&](int64_t row, const f32x16& v) RNL_LAMBDA { take(row, x, is_quantised ? v * factor : v); });
  }
}

// The largest score of each unit among the keys x .. x + 15 below `stop`.
template <class F>
RNL_INLINE void for_units(const Task& t, int64_t x, int64_t stop, const f32x16& scores, F take) {
  const int64_t B = t.p.block;
  if (stop > x + 16) stop = x + 16;
  for (int64_t u = x / B; u * B < stop; ++u) {
    const int64_t from = u * B > x ? u * B - x : 0, to = (u + 1) * B < stop ? (u + 1) * B - x : stop - x;
    if (from == 0) {
      take(u, largest_of(scores, to));
      continue;
    }
    float best = -__builtin_inff(), lanes[16];
    store(lanes, scores);
    for (int64_t i = from; i < to; ++i) best = most(lanes[i], best);
    take(u, best);
  }
}

// Importance of all heads of the group, a row of `pooled` each.
void score_anchored(const Task& t) {
  const Job& j = t.j;
  const bool is_quantised = t.p.estimate == KeyEstimate::kQuantised;
  const int64_t rows = t.rows(), samples = t.sizes.samples;
  float *anchors = t.w.anchors, *factors = anchors + j.row_blocks * kBlockRows;
  if (is_quantised) pack_quantised(t, factors);
  else pack_samples(t);
  for (int64_t r = 0; r < rows; ++r) anchors[r] = -__builtin_inff();
  for (int64_t x = 0; x < j.group * j.units; ++x) t.w.pooled[x] = -__builtin_inff();
  const auto scaled = [&](int64_t row, const f32x16& v) RNL_LAMBDA { return is_quantised ? v * factors[row] : v; };
  const auto is_kept = [&](int64_t u) RNL_LAMBDA { return t.is_kept(u); };
  for_keys(t, t.w.queries, t.row_blocks(), is_kept, [&](int64_t row, int64_t x, const f32x16& v) RNL_LAMBDA {
    if (row >= rows) return;
    for_units(t, x, t.query(row) + 1, scaled(row, v), [&](int64_t u, float best) RNL_LAMBDA {
      if (t.is_kept(u)) anchors[row] = most(best, anchors[row]);
    });
  });
  const auto all = [](int64_t) RNL_LAMBDA { return true; };
  if (is_quantised) {
    for_keys(t, t.w.queries, t.row_blocks(), all, [&](int64_t row, int64_t x, const f32x16& v) RNL_LAMBDA {
      if (row >= rows) return;
      float* important = t.w.pooled + row / samples * j.units;
      for_units(t, x, t.query(row) + 1, scaled(row, v),
                [&](int64_t u, float best) RNL_LAMBDA { important[u] = most(best - anchors[row], important[u]); });
    });
    return;
  }
  for (int64_t g = 0; g < j.group; ++g) anchors[g] = sum_of(anchors, g * samples, (g + 1) * samples) / float(samples);
  pack_means(t, 1);
  for_keys(t, t.w.means, (j.group + kBlockRows - 1) / kBlockRows, all,
           [&](int64_t g, int64_t x, const f32x16& v) RNL_LAMBDA {
             if (g >= j.group) return;
             float* important = t.w.pooled + g * j.units;
             for_units(t, x, j.end(), v,
                       [&](int64_t u, float best) RNL_LAMBDA { important[u] = most(best - anchors[g], important[u]); });
           });
}

// Of one head: its rows stand together in the packed samples of that head alone.
void descend(const Task& t, int64_t g) {
  const int64_t key = t.j.kv.key, samples = t.sizes.samples, blocks = (samples + kBlockRows - 1) / kBlockRows;
  pack_rows(samples, blocks, key, t.p.scale, t.w.queries,
            [&](int64_t row) RNL_LAMBDA { return query_of(t.j, t.kv_head * t.j.group + g, t.query(row)); });
  Nodes tree{t.w.nodes, 1};
  tree.at[0] = 0, tree.at[1] = int32_t(t.sizes.units);
  float* best = t.w.pooled;
  while (split_nodes(&tree)) {
    for (int64_t n = 0; n < tree.count; n += 16) {
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t at = n + i < tree.count ? middle_of(t.p, tree, n + i, t.sizes.last) : 0;
        const float* tile = load_keys(t.j, t.kv_head, at / 16 * 16, t.w.tile);
        for (int64_t d = 0; d < key; ++d) t.w.panel[d * 16 + i] = tile[d * 16 + at % 16];
      }
      f32x16 top = splat(-__builtin_inff()), strange = splat(0);
      multiply(t, t.w.queries, blocks, key, t.w.panel, [&](int64_t row, const f32x16& v) RNL_LAMBDA {
        if (row >= samples) return;
        top = max(top, v);
        strange = strange + select(v == v, splat(0), v);
      });
      store(best + n, top + strange);
    }
    keep_nodes(&tree, best, t.p.count, t.w.order);
  }
  for (int64_t n = 0; n < tree.count; ++n) t.w.important[tree.at[2 * n]] = 1;
}

}  // namespace
}  // namespace runnel::RNL_ISA
