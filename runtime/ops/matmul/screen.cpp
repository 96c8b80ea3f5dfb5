#include "ops/matmul/screen.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/thread_pool.h"
#include "format/packed.h"

namespace runnel {
namespace {

constexpr int64_t kTaskTiles = 32;          // of step 1
constexpr int64_t kRefineTiles = 128;       // of step 2: few rows are left, and they are taken 16 at a time
constexpr int kManyRows = 6;                // so many of a tile's rows, and step 2 takes the tile as it lies
constexpr int kCandidates = 256;            // rows that step 3 takes
constexpr int kSample = 2 * kMaxBest + 16;  // rows that the threshold is taken from, a multiple of 16
constexpr int64_t kMaxUnits = 1 << 20;      // beyond, the bound of the rounding errors would not hold
constexpr float kInfinity = std::numeric_limits<float>::infinity();

#define RNL_FOUR(x) x, x, x, x
constexpr float kNothing[kTileRows] = {RNL_FOUR(-kInfinity), RNL_FOUR(-kInfinity), RNL_FOUR(-kInfinity),
                                       RNL_FOUR(-kInfinity)};
#undef RNL_FOUR

struct Work {
  const ScreenJob* job;
  SplitLayout at;
  int64_t units, tiles;
  ScreenTerm* terms;
  float* tile_best;  // [tiles] highest bound, then product, of a tile's rows
  int32_t* reach;    // [tasks] largest reach as the integer of its bits
  // Rounding: n sums of 32-bit floats, whose terms add up to less than 35 reaches, are off by less than 35 (n + 2)
  // 2^-24 reaches. Two such sums are compared, and all of it is doubled.
  float stretch;  // 1 + error of a bound in reaches
  float error;    // of a product of step 2
  float threshold;
};

// The highest `room` of what is added, highest first.
struct Highest {
  int room, count = 0;
  float value[kSample];
  int32_t at[kSample];

  explicit Highest(int n) : room(n) {}
  float floor() const { return count < room ? -kInfinity : value[count - 1]; }
  void add(float v, int64_t index) {
    if (!(v > floor())) return;
    int i = count < room ? count++ : count - 1;
    for (; i > 0 && value[i - 1] < v; --i) value[i] = value[i - 1], at[i] = at[i - 1];
    value[i] = v;
    at[i] = int32_t(index);
  }
};

Work work_of(const ScreenJob& job) {
  return {&job,
          SplitLayout(job.columns),
          job.format->units(job.columns),
          (job.rows + kTileRows - 1) / kTileRows,
          {},
          {},
          {},
          {},
          {},
          {}};
}

int rows_in(const Work& w, int64_t tile) { return int(std::min<int64_t>(kTileRows, w.job->rows - tile * kTileRows)); }
int64_t task_count(int64_t tiles, int64_t size = kTaskTiles) { return (tiles + size - 1) / size; }

void bound_task(void* context, int64_t task, int) {
  const Work& w = *static_cast<const Work*>(context);
  const ScreenJob& j = *w.job;
  const int64_t end = std::min(w.tiles, (task + 1) * kTaskTiles);
  const int factor = 15 - 2 * j.format->zero_point;
  int32_t most = 0;
  for (int64_t tile = task * kTaskTiles; tile < end; ++tile) {
    float sums[kTileRows], reaches[kTileRows];
    j.kernels->nibbles(j.matrix + w.at.tile_at(tile), w.units, j.q, w.terms, 5, factor, sums, reaches);
    float* y = j.y + tile * kTileRows;
    float best = -kInfinity;
    const int n = rows_in(w, tile);
    for (int i = 0; i < n; ++i) {
      y[i] = sums[i] + reaches[i] * w.stretch + 1e-30f;
      best = y[i] > best ? y[i] : best;
      most = std::max(most, std::bit_cast<int32_t>(reaches[i]) & 0x7fffffff);  // NaN is above all
    }
    w.tile_best[tile] = best;
  }
  w.reach[task] = most;
}

void fetch_line(const Work& w, int64_t row) {
  const uint8_t* line = w.job->matrix + w.at.line_at(row);
  for (size_t i = 0; i < w.at.line + 63; i += 64) __builtin_prefetch(line + i);
}

void point_at_lines(const Work& w, const int32_t* rows, int n, const uint8_t** lines) {
  for (int i = 0; i < kTileRows; ++i) lines[i] = w.job->matrix + w.at.line_at(rows[i < n ? i : 0]);
}

// Step 2 for up to 16 rows with these bounds.
void refine(const Work& w, const int32_t* rows, const float* bounds, int n, int worker, float* products) {
  const ScreenJob& j = *w.job;
  uint8_t* tile = j.worker_scratch + size_t(worker) * j.worker_bytes;
  const uint8_t* lines[kTileRows];
  point_at_lines(w, rows, n, lines);
  j.kernels->gather(lines, w.units, tile);
  float sums[kTileRows], reaches[kTileRows];
  j.kernels->nibbles(tile, w.units, j.q, w.terms, 1, -15, sums, reaches);
  for (int i = 0; i < n; ++i) products[i] = (bounds[i] - reaches[i] * w.stretch) + sums[i];
}

// Step 2 for a tile as it lies. Rows that cannot win get what they have all the same, which is below what wins.
void refine_tile(const Work& w, int64_t tile, int n) {
  const ScreenJob& j = *w.job;
  const uint8_t* lines[kTileRows];
  for (int i = 0; i < kTileRows; ++i) lines[i] = j.matrix + w.at.line_at(tile * kTileRows + i);
  float sums[kTileRows], reaches[kTileRows];
  j.kernels->own_lines(j.matrix + w.at.tile_at(tile), lines, w.units, j.q, w.terms, sums, reaches);
  float* y = j.y + tile * kTileRows;
  float best = -kInfinity;
  for (int i = 0; i < n; ++i) {
    y[i] = (y[i] - reaches[i] * w.stretch) + sums[i];
    best = std::max(best, y[i]);
  }
  w.tile_best[tile] = best;
}

void refine_task(void* context, int64_t task, int worker) {
  const Work& w = *static_cast<const Work*>(context);
  const ScreenJob& j = *w.job;
  int32_t rows[kRefineTiles * kTileRows];
  float bounds[kRefineTiles * kTileRows];
  int count = 0;
  const int64_t end = std::min(w.tiles, (task + 1) * kRefineTiles);
  for (int64_t tile = task * kRefineTiles; tile < end; ++tile) {
    float* y = j.y + tile * kTileRows;
    const int n = rows_in(w, tile);
    const bool some = w.tile_best[tile] >= w.threshold;
    w.tile_best[tile] = -kInfinity;
    int left = 0;
    for (int i = 0; some && i < n; ++i) left += y[i] >= w.threshold;
    if (left >= kManyRows) {
      refine_tile(w, tile, n);
      continue;
    }
    for (int i = 0; some && i < n; ++i) {
      if (!(y[i] >= w.threshold)) continue;
      rows[count] = int32_t(tile * kTileRows + i);
      bounds[count] = y[i];
      if (count < 2 * kTileRows) fetch_line(w, rows[count]);
      ++count;
    }
    if (n == kTileRows) std::memcpy(y, kNothing, sizeof kNothing);
    else std::memcpy(y, kNothing, size_t(n) * sizeof(float));
  }
  for (int first = 0; first < count; first += kTileRows) {
    for (int i = first + 2 * kTileRows; i < std::min(count, first + 3 * kTileRows); ++i) fetch_line(w, rows[i]);
    float products[kTileRows];
    const int n = std::min(kTileRows, count - first);
    refine(w, rows + first, bounds + first, n, worker, products);
    for (int i = 0; i < n; ++i) {
      float& best = w.tile_best[rows[first + i] / kTileRows];
      j.y[rows[first + i]] = products[i];
      best = std::max(best, products[i]);
    }
  }
}

// False when a product might leave the range of floats.
bool fill_terms(const Work& w) {
  const ScreenJob& j = *w.job;
  double most = 0;
  for (int64_t u = 0; u < w.units; ++u) {
    int32_t sum = 0, size = 0;
    for (int i = 0; i < kBlockColumns; ++i) {
      const int q = j.q[u * kBlockColumns + i];
      sum += q;
      size += q < 0 ? -q : q;
    }
    const float scale = j.scales[u * j.scale_step];
    w.terms[u] = {scale * 0.5f, scale * 7.5f * float(size), sum};
    most += double(scale) * double(size) * 65504.0 * 255.0;
  }
  return most < 1e38;
}

// What at least `best` rows reach: from the rows with the highest bounds of the tiles with the highest bounds.
float find_threshold(const Work& w) {
  const ScreenJob& j = *w.job;
  Highest tiles((2 * j.best + 16 + 15) / 16 * 16), products(j.best);
  for (int64_t t = 0; t < w.tiles; ++t) tiles.add(w.tile_best[t], t);
  for (int i = 0; i < tiles.count; ++i) {
    const float* y = j.y + int64_t(tiles.at[i]) * kTileRows;
    int row = 0;
    while (y[row] != tiles.value[i]) ++row;
    tiles.at[i] = tiles.at[i] * kTileRows + row;
    fetch_line(w, tiles.at[i]);
  }
  for (int first = 0; first < tiles.count; first += kTileRows) {
    float p[kTileRows];
    const int n = std::min(kTileRows, tiles.count - first);
    refine(w, tiles.at + first, tiles.value + first, n, 0, p);
    for (int i = 0; i < n; ++i) products.add(p[i], tiles.at[first + i]);
  }
  return products.floor() - w.error;
}

// The high nibbles of rows from anywhere as one tile.
void gather_high(const Work& w, const int32_t* rows, int n, uint8_t* tile) {
  for (int i = 0; i < n; ++i) {
    const uint8_t* from = w.job->matrix + w.at.tile_at(rows[i] / kTileRows);
    const int lane = rows[i] % kTileRows;
    for (size_t unit = 0; unit < w.at.tile; unit += SplitLayout::kUnit) {
      std::memcpy(tile + unit + i * 2, from + unit + lane * 2, 2);
      for (size_t at = unit + SplitLayout::kScales; at < unit + SplitLayout::kUnit; at += 64)
        std::memcpy(tile + at + i * 4, from + at + lane * 4, 4);
    }
  }
}

// The ordinary kernel's products of rows from anywhere.
void exact_products(const Work& w, const int32_t* rows, int count, float* products) {
  const ScreenJob& j = *w.job;
  for (int first = 0; first < count; first += kTileRows) {
    const int n = std::min(kTileRows, count - first);
    const uint8_t* lines[kTileRows];
    float sums[kTileRows];
    point_at_lines(w, rows + first, n, lines);
    gather_high(w, rows + first, n, j.worker_scratch);
    j.kernels->exact(j.context, j.worker_scratch, lines, sums);
    std::copy(sums, sums + n, products + first);
  }
}

// Step 3: y holds products of step 2 and -infinity.
bool finish(const Work& w) {
  const ScreenJob& j = *w.job;
  Highest refined(j.best), exact(j.best);
  for (int64_t t = 0; t < w.tiles; ++t)
    for (int i = 0; i < rows_in(w, t) && w.tile_best[t] > refined.floor(); ++i) refined.add(j.y[t * kTileRows + i], t);
  const float threshold = refined.floor() - 2 * w.error;
  int32_t rows[kCandidates];
  float products[kCandidates];
  int count = 0;
  for (int64_t t = 0; t < w.tiles; ++t) {
    if (w.tile_best[t] == -kInfinity) continue;
    float* y = j.y + t * kTileRows;
    const int n = rows_in(w, t);
    for (int i = 0; i < n && w.tile_best[t] >= threshold; ++i) {
      if (!(y[i] >= threshold) || y[i] == -kInfinity) continue;
      if (count == kCandidates) return false;
      rows[count++] = int32_t(t * kTileRows + i);
    }
    std::memcpy(y, kNothing, size_t(n) * sizeof(float));
  }
  exact_products(w, rows, count, products);
  for (int i = 0; i < count; ++i) exact.add(products[i], 0);
  for (int i = 0; i < count; ++i)
    if (products[i] >= exact.floor()) j.y[rows[i]] = products[i];
  return true;
}

}  // namespace

size_t screen_bytes(int64_t rows, int64_t units) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  return size_t(units) * sizeof(ScreenTerm) + size_t(tiles) * sizeof(float) +
         size_t(task_count(tiles)) * sizeof(int32_t);
}

void screen_wanted(const ScreenJob& job, const int32_t* rows, int count) {
  const Work w = work_of(job);
  std::fill(job.y, job.y + job.rows, -kInfinity);
  float products[kTileRows];
  for (int first = 0; first < count; first += kTileRows) {
    const int n = std::min(kTileRows, count - first);
    for (int i = first + kTileRows; i < std::min(count, first + 2 * kTileRows); ++i) fetch_line(w, rows[i]);
    exact_products(w, rows + first, n, products);
    for (int i = 0; i < n; ++i) job.y[rows[first + i]] = products[i];
  }
}

bool screen(const ScreenJob& job) {
  Work w = work_of(job);
  if (w.units > kMaxUnits || job.rows == 0) return false;
  w.terms = reinterpret_cast<ScreenTerm*>(job.scratch);
  w.tile_best = reinterpret_cast<float*>(w.terms + w.units);
  w.reach = reinterpret_cast<int32_t*>(w.tile_best + w.tiles);
  if (!fill_terms(w)) return false;
  const float relative = float(w.units + 8) * 1e-5f;
  w.stretch = 1 + relative;
  const int64_t tasks = task_count(w.tiles);
  parallel_for(job.pool, tasks, bound_task, &w);
  int32_t reach = 0;
  for (int64_t t = 0; t < tasks; ++t) reach = std::max(reach, w.reach[t]);
  if (reach >= 0x7f800000) return false;  // a scale is no number
  w.error = relative * std::bit_cast<float>(reach) + 4e-30f;
  w.threshold = find_threshold(w);
  parallel_for(job.pool, task_count(w.tiles, kRefineTiles), refine_task, &w);
  return finish(w);
}

}  // namespace runnel
