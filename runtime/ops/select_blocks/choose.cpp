// From estimates to ranges: what reference and kernels share.
#include <algorithm>
#include <cmath>

#include "ops/select_blocks/select_blocks.h"

namespace runnel {

namespace {

float rank_of(float importance) { return std::isnan(importance) ? INFINITY : importance; }

}  // namespace

ListSizes list_sizes(const SelectBlocksParams& p, const SelectBlocksSizes& s, int64_t list) {
  const int64_t m = s.first_list + list, B = p.block, begin = std::max(m * s.queries, s.position),
                end = std::min((m + 1) * s.queries, s.position + s.tokens);
  int64_t samples = (end - begin + p.stride - 1) / p.stride;
  if (p.rows > 0) samples = std::min<int64_t>(samples, p.rows);
  return {((m + 1) * s.queries + B - 1) / B, m * s.queries / B, end - 1, samples};
}

void choose_units(const SelectBlocksParams& p, const ListSizes& list, const float* importance, bool is_line,
                  int32_t* order, uint8_t* chosen) {
  const int64_t n = list.units, bound = is_line ? p.lines : p.count;
  const auto is_kept = [&](int32_t u) { return !is_line && (u >= list.kept_from || u < int64_t(p.first)); };
  for (int64_t u = 0; u < n; ++u) order[u] = int32_t(u), chosen[u] = 0;
  std::sort(order, order + n, [&](int32_t a, int32_t b) {
    if (is_kept(a) != is_kept(b)) return is_kept(a);
    const float x = rank_of(importance[a]), y = rank_of(importance[b]);
    return x != y ? x > y : a < b;
  });
  double whole = 0, held = 0;
  for (int64_t u = 0; u < n; ++u) whole += double(importance[u]);
  const auto is_wanted = [&](int64_t taken, float value) {
    if (p.choice == KeyChoice::kTop) return taken < bound;
    if (bound > 0 && taken >= bound) return false;
    return p.choice == KeyChoice::kShare ? !(held >= double(p.threshold) * whole) : !(value < -p.threshold);
  };
  for (int64_t i = 0; i < n && (is_kept(order[i]) || is_wanted(i, importance[order[i]])); ++i) {
    held += double(importance[order[i]]);
    chosen[order[i]] = 1;
  }
}

void add_lines(const SelectBlocksParams& p, const SelectBlocksSizes& s, const ListSizes& list, int64_t m,
               const uint8_t* chosen_lines, uint8_t* chosen) {
  const int64_t B = p.block, first = m * s.queries, last = first + s.queries - 1;
  for (int64_t x = 0; x < list.units; ++x) {
    const int64_t low = std::max<int64_t>(first - (x + 1) * B + 1, 0), high = last - x * B;
    if (!chosen_lines[x] || high < 0) continue;
    for (int64_t u = low / B; u <= high / B; ++u) chosen[u] = 1;
  }
}

void softmax_of(float* scores, int64_t n) {
  double largest = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, double(scores[i]));
  if (largest == -INFINITY) largest = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(double(scores[i]) - largest);
  for (int64_t i = 0; i < n; ++i) scores[i] = float(std::exp(double(scores[i]) - largest) / sum);
}

bool is_close(const SelectBlocksParams& p, const float* pooled, const float* seen, int64_t n, int64_t samples) {
  const auto part = [](double a, double mean) { return a > 0 ? a * std::log(a / mean) : a == 0 ? 0.0 : double(NAN); };
  double divergence = 0;
  for (int64_t u = 0; u < n; ++u) {
    const double a = double(pooled[u]), b = double(seen[u]) / double(samples), mean = (a + b) / 2;
    divergence += (part(a, mean) + part(b, mean)) / 2;
  }
  return std::sqrt(std::max(divergence, 0.0)) < double(p.divergence);
}

void pool_scores(const SelectBlocksParams& p, const uint8_t* begins, int64_t end, float* scores, int64_t n) {
  const int64_t B = p.block;
  const auto keys_below = [&](int64_t unit) { return std::min(unit * B, end); };
  for (int64_t u = 0, next; u < n; u = next) {
    next = u + 1;
    if (!begins) {
      const int64_t keys = keys_below(next) - keys_below(u);
      scores[u] = keys > 0 ? scores[u] / float(keys) : -INFINITY;
      continue;
    }
    while (next < n && !begins[next]) ++next;
    const int64_t keys = keys_below(next) - keys_below(u);
    double sum = 0;
    for (int64_t x = u; x < next; ++x) sum += double(scores[x]);
    const float score = keys > 0 ? float(sum / std::sqrt(double(keys))) : -INFINITY;
    std::fill(scores + u, scores + next, score);
  }
}

void cut_chunks(const SelectBlocksParams& p, const float* cosines, int64_t n, uint8_t* begins) {
  int64_t long_by = 0;
  for (int64_t u = 0; u < n; ++u) {
    begins[u] = u == 0 || cosines[u] < p.similarity || long_by == int64_t(p.chunk);
    long_by = begins[u] ? 1 : long_by + 1;
  }
}

bool split_nodes(Nodes* nodes) {
  int64_t count = 0;
  for (int64_t i = 0; i < nodes->count; ++i) count += nodes->at[2 * i + 1] > 1 ? 2 : 1;
  if (count == nodes->count) return false;
  // From the last one back, for the halves take more room.
  int64_t to = count;
  for (int64_t i = nodes->count - 1; i >= 0; --i) {
    const int32_t begin = nodes->at[2 * i], units = nodes->at[2 * i + 1], left = (units + 1) / 2;
    if (units > 1) --to, nodes->at[2 * to] = begin + left, nodes->at[2 * to + 1] = units - left;
    --to, nodes->at[2 * to] = begin, nodes->at[2 * to + 1] = left;
  }
  nodes->count = count;
  return true;
}

void keep_nodes(Nodes* nodes, const float* scores, int64_t most, int32_t* order) {
  if (nodes->count <= most) return;
  for (int64_t i = 0; i < nodes->count; ++i) order[i] = int32_t(i);
  std::sort(order, order + nodes->count, [&](int32_t a, int32_t b) {
    const float x = rank_of(scores[a]), y = rank_of(scores[b]);
    return x != y ? x > y : a < b;
  });
  std::sort(order, order + most);
  for (int64_t i = 0; i < most; ++i)
    nodes->at[2 * i] = nodes->at[2 * order[i]], nodes->at[2 * i + 1] = nodes->at[2 * order[i] + 1];
  nodes->count = most;
}

int64_t middle_of(const SelectBlocksParams& p, const Nodes& nodes, int64_t node, int64_t last) {
  const int64_t B = p.block;
  return std::min(nodes.at[2 * node] * B + nodes.at[2 * node + 1] * B / 2, last);
}

void write_ranges(const SelectBlocksParams& p, const uint8_t* chosen, int64_t units, int32_t* ranges, int64_t n) {
  for (int64_t i = 0; i < n; ++i) ranges[3 * i] = ranges[3 * i + 1] = 0, ranges[3 * i + 2] = 1;
  const int64_t B = p.block;
  int64_t used = 0;
  for (int64_t u = 0, end; u < units; u = end) {
    end = u + 1;
    if (chosen && !chosen[u]) continue;
    while (end < units && (!chosen || chosen[end])) ++end;
    if (used == n) {
      ranges[3 * n - 2] = int32_t(units * B);
      return;
    }
    ranges[3 * used] = int32_t(u * B), ranges[3 * used + 1] = int32_t(end * B);
    ++used;
  }
}

}  // namespace runnel
