// The estimates straight from the contract, in doubles.
#include <algorithm>
#include <cmath>
#include <new>

#include "base/half.h"
#include "format/states.h"
#include "ops/define.h"
#include "ops/select_blocks/select_blocks.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kKeyState };

float state_element(const TensorView& s, int64_t h, int64_t slot, int64_t d) {
  const int64_t key = s.dims[2], tile = h * s.dims[1] + slot / 16, lane = slot % 16;
  if (s.dtype == DType::kF32) return static_cast<const float*>(s.data)[(tile * key + d) * 16 + lane];
  if (s.dtype == DType::kF16) return half_to_float(static_cast<const uint16_t*>(s.data)[(tile * key + d) * 16 + lane]);
  const auto* block = static_cast<const unsigned char*>(s.data) + (tile * ((key + 31) / 32) + d / 32) * (34 * 16);
  const uint16_t scale = uint16_t(block[512 + lane * 2] | block[513 + lane * 2] << 8);
  return float(int8_t(block[d % 32 * 16 + lane])) * half_to_float(scale);
}

// The larger one; what is not a number wins.
double most(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

// Of one head and list.
struct Estimator {
  const OpCall& c;
  const SelectBlocksParams& p;
  const SelectBlocksSizes s;
  const int64_t h, kv, key, m;
  const ListSizes list;
  float *important, *lines;  // a float a unit
  uint8_t* begins;           // of chunks
  int32_t *nodes, *order;

  int64_t end() const { return s.position + s.tokens; }
  int64_t query(int64_t sample) const { return list.last - sample * p.stride; }
  bool is_kept(int64_t u) const { return u >= list.kept_from || u < int64_t(p.first); }
  // 0 behind the call's end, and of queries in front of it.
  float key_at(int64_t j, int64_t d) const {
    const TensorView& k = c.in[kK];
    if (j >= end()) return 0;
    if (j >= s.position) return static_cast<const float*>(k.data)[((j - s.position) * k.dims[1] + kv) * key + d];
    return state_element(c.in[kKeyState], kv, j, d);
  }
  float query_at(int64_t i, int64_t d) const {
    const TensorView& q = c.in[kQ];
    if (i < s.position || i >= end()) return 0;
    return static_cast<const float*>(q.data)[((i - s.position) * q.dims[1] + h) * key + d];
  }
  double score(int64_t i, int64_t j) const {
    double dot = 0;
    for (int64_t d = 0; d < key; ++d) dot += double(query_at(i, d)) * double(key_at(j, d));
    return dot * double(p.scale);
  }
  double mean_query(int64_t d) const {
    double sum = 0;
    for (int64_t i = 0; i < list.samples; ++i) sum += double(query_at(query(i), d));
    return sum / double(list.samples);
  }
  double mean_score(int64_t j) const {
    double dot = 0;
    for (int64_t d = 0; d < key; ++d) dot += mean_query(d) * double(key_at(j, d));
    return dot * double(p.scale);
  }

  void antidiagonals();
  void sum_lines();
  void pool(float* scores, bool is_chunked);
  void cut();
  double quantised_score(int64_t i, int64_t j) const;
  void compare_with_anchors();
  void descend();
  void choose(uint8_t* chosen);
};

void Estimator::antidiagonals() {
  const int64_t S = p.stride, rows = p.block / S;
  for (int64_t r = m * rows; r < (m + 1) * rows; ++r) {
    if (r * S >= end() || (r + 1) * S <= s.position) continue;  // no query of the call
    const auto score = [&](int64_t column) {
      double dot = 0;
      for (int64_t i = 0; i < S; ++i)
        for (int64_t d = 0; d < key; ++d)
          dot += double(query_at(r * S + S - 1 - i, d)) * double(key_at(column * S + i, d));
      return dot * double(p.scale) / double(S);
    };
    double largest = -INFINITY, sum = 0;
    for (int64_t column = 0; column <= r; ++column) largest = std::max(largest, score(column));
    for (int64_t column = 0; column <= r; ++column) sum += std::exp(score(column) - largest);
    for (int64_t column = 0; column <= r; ++column)
      important[column / rows] += float(std::exp(score(column) - largest) / sum);
  }
}

void Estimator::sum_lines() {
  for (int64_t n = 0; n < list.samples; ++n) {
    const int64_t i = query(n);
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= i; ++j) largest = std::max(largest, score(i, j));
    for (int64_t j = 0; j <= i; ++j) sum += std::exp(score(i, j) - largest);
    for (int64_t j = 0; j <= i; ++j) {
      const double share = std::exp(score(i, j) - largest) / sum;
      important[j / p.block] += float(share);
      lines[(i - j) / p.block] += float(share);
    }
  }
}

void Estimator::pool(float* scores, bool is_chunked) {
  for (int64_t u = 0; u < list.units; ++u) {
    double dot = 0;
    for (int64_t d = 0; d < key; ++d) {
      double sum = 0;
      for (int64_t j = u * p.block; j < (u + 1) * int64_t(p.block); ++j) sum += double(key_at(j, d));
      dot += mean_query(d) * (is_chunked ? std::sqrt(double(list.samples)) : 1.0) * sum;
    }
    scores[u] = float(dot * double(p.scale));
  }
  pool_scores(p, is_chunked ? begins : nullptr, end(), scores, list.units);
  if (p.choice == KeyChoice::kShare || p.estimate == KeyEstimate::kFlexible) softmax_of(scores, list.units);
}

// Chunks; `lines` is free for the cosines.
void Estimator::cut() {
  for (int64_t u = 1; u < list.units; ++u) {
    double both = 0, here = 0, before = 0;
    for (int64_t d = 0; d < key; ++d) {
      double a = 0, b = 0;
      for (int64_t j = u * p.block; j < (u + 1) * int64_t(p.block); ++j) a += double(key_at(j, d));
      for (int64_t j = (u - 1) * p.block; j < u * int64_t(p.block); ++j) b += double(key_at(j, d));
      both += a * b, here += a * a, before += b * b;
    }
    lines[u] = float(both / std::sqrt(here * before));
  }
  cut_chunks(p, lines, list.units, begins);
}

double Estimator::quantised_score(int64_t i, int64_t j) const {
  float a = 0, b = 0;
  for (int64_t d = 0; d < key; ++d) {
    a = std::max(a, std::fabs(query_at(i, d)));
    b = std::max(b, std::fabs(key_at(j, d)));
  }
  // The rounding is part of the formula: in f32, as kernels do it.
  const float to_a = a > 0 ? 7 / a : 0, to_b = b > 0 ? 7 / b : 0;
  double dot = 0;
  for (int64_t d = 0; d < key; ++d)
    dot += double(std::nearbyintf(query_at(i, d) * to_a)) * double(std::nearbyintf(key_at(j, d) * to_b));
  return dot * double(a / 7) * double(b / 7) * double(p.scale);
}

void Estimator::compare_with_anchors() {
  const bool is_quantised = p.estimate == KeyEstimate::kQuantised;
  const auto pair = [&](int64_t i, int64_t j) { return is_quantised ? quantised_score(i, j) : score(i, j); };
  for (int64_t u = 0; u < list.units; ++u) important[u] = -INFINITY;
  double anchors = 0;
  for (int64_t n = 0; n < list.samples; ++n) {
    const int64_t i = query(n);
    double anchor = -INFINITY;
    for (int64_t j = 0; j <= i; ++j)
      if (is_kept(j / p.block)) anchor = most(pair(i, j), anchor);
    anchors += anchor;
    for (int64_t j = 0; is_quantised && j <= i; ++j)
      important[j / p.block] = float(most(pair(i, j) - anchor, double(important[j / p.block])));
  }
  for (int64_t j = 0; !is_quantised && j < std::min(list.units * int64_t(p.block), end()); ++j)
    important[j / p.block] =
        float(most(mean_score(j) - anchors / double(list.samples), double(important[j / p.block])));
}

void Estimator::descend() {
  Nodes tree{nodes, 1};
  nodes[0] = 0, nodes[1] = int32_t(list.units);
  while (split_nodes(&tree)) {
    for (int64_t n = 0; n < tree.count; ++n) {
      double best = -INFINITY;
      for (int64_t i = 0; i < list.samples; ++i) best = most(score(query(i), middle_of(p, tree, n, list.last)), best);
      important[n] = float(best);
    }
    keep_nodes(&tree, important, p.count, order);
  }
  // As importance: the found ones before all others.
  std::fill(important, important + list.units, 0.0f);
  for (int64_t n = 0; n < tree.count; ++n) important[nodes[2 * n]] = 1;
}

void Estimator::choose(uint8_t* chosen) {
  std::fill(important, important + 2 * list.units, 0.0f);  // and the lines
  bool is_lined = p.estimate == KeyEstimate::kLines;
  switch (p.estimate) {
    case KeyEstimate::kAntidiagonal: antidiagonals(); break;
    case KeyEstimate::kLines: sum_lines(); break;
    case KeyEstimate::kFlexible: {
      float* pooled = reinterpret_cast<float*>(nodes);
      sum_lines();
      pool(pooled, false);
      is_lined = !is_close(p, pooled, important, list.units, list.samples);
      if (!is_lined) std::copy(pooled, pooled + list.units, important);
      break;
    }
    case KeyEstimate::kPooled: pool(important, false); break;
    case KeyEstimate::kChunks: cut(), pool(important, true); break;
    case KeyEstimate::kAnchor:
    case KeyEstimate::kQuantised: compare_with_anchors(); break;
    case KeyEstimate::kTree: descend(); break;
  }
  choose_units(p, list, important, false, order, chosen);
  if (!is_lined) return;
  choose_units(p, list, lines, true, order, begins);
  add_lines(p, s, list, m, begins, chosen);
}

}  // namespace

void select_blocks_reference(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const SelectBlocksSizes s = select_blocks_sizes(c);
  const TensorView& y = c.out[0];
  const int64_t heads = y.dims[0], lists = y.dims[1], n = y.dims[2], group = heads / c.in[kK].dims[1];
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t l = 0; l < lists; ++l) {
      int32_t* ranges = static_cast<int32_t*>(y.data) + (h * lists + l) * n * 3;
      if (l >= s.lists) {
        write_ranges(p, nullptr, 0, ranges, n);
        continue;
      }
      const ListSizes list = list_sizes(p, s, l);
      const size_t units = size_t(list.units);
      float* memory = s.tokens < int64_t(p.least) ? nullptr : new (std::nothrow) float[units * 10];
      if (!memory) {
        write_ranges(p, nullptr, list.units, ranges, n);
        continue;
      }
      auto* nodes = reinterpret_cast<int32_t*>(memory + 2 * units);
      auto* marks = reinterpret_cast<uint8_t*>(nodes + 6 * units);
      Estimator e{c,
                  p,
                  s,
                  h,
                  h / group,
                  c.in[kQ].dims[2],
                  s.first_list + l,
                  list,
                  memory,
                  memory + units,
                  marks,
                  nodes,
                  nodes + 4 * units};
      e.choose(marks + units);
      write_ranges(p, marks + units, list.units, ranges, n);
      delete[] memory;
    }
}

}  // namespace runnel
