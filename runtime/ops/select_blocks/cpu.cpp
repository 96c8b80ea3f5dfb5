// A task is one list for the heads that share a kv head. Sums of units are made once a call, before the tasks.
#include "ops/select_blocks/estimates.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kKeyState };

bool has_sums(const SelectBlocksParams& p) {
  return p.estimate == KeyEstimate::kPooled || p.estimate == KeyEstimate::kFlexible ||
         p.estimate == KeyEstimate::kChunks;
}
// Rows of a task, in whole blocks of those that one pass keeps in registers.
int64_t row_blocks(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  int64_t rows = (select_blocks_sizes(c).queries + p.stride - 1) / p.stride;
  if (p.rows > 0 && rows > int64_t(p.rows) && p.estimate != KeyEstimate::kAntidiagonal) rows = p.rows;
  return (rows * (c.in[kQ].dims[1] / c.in[kK].dims[1]) + kBlockRows - 1) / kBlockRows;
}
// Positions up to the end of the last list, at the largest position that the call may have.
int64_t most_positions(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t before = has_input(c, kKeyState) ? c.in[kKeyState].dims[1] * 16 : 0, Q = select_blocks_sizes(c).queries,
                B = p.block;
  return ((before + c.in[kQ].dims[0] + Q - 1) / Q * Q + B - 1) / B * B;
}
int64_t most_columns(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  return (most_positions(c) / (p.estimate == KeyEstimate::kAntidiagonal ? p.stride : 1) + 31) & ~int64_t(15);
}
int64_t most_units(const OpCall& c) {
  return (most_positions(c) / params_of<SelectBlocksParams>(c).block + 16) & ~int64_t(15);
}
size_t shared_floats(const OpCall& c) {
  if (!has_sums(params_of<SelectBlocksParams>(c))) return 0;
  return size_t(c.in[kK].dims[1] * most_units(c) * (c.in[kQ].dims[2] + 1));
}

// Lays out a worker's memory; the floats that it takes.
size_t lay_out(const OpCall& c, float* memory, Work* w) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t key = c.in[kQ].dims[2], group = c.in[kQ].dims[1] / c.in[kK].dims[1];
  const int64_t deep = p.estimate == KeyEstimate::kAntidiagonal ? p.stride * key : key;
  const int64_t rows = row_blocks(c) * kBlockRows, units = most_units(c);
  const bool keeps_scores = p.estimate == KeyEstimate::kAntidiagonal || p.estimate == KeyEstimate::kLines ||
                            p.estimate == KeyEstimate::kFlexible;
  size_t at = 0;
  const auto take = [&](int64_t floats) {
    float* part = memory ? memory + at : nullptr;
    at += size_t(floats + 15) & ~size_t(15);
    return part;
  };
  w->queries = take(rows * deep);
  w->means = take((group + kBlockRows) * key);
  w->panel = take(16 * deep);
  w->tile = take(16 * key);
  w->part = take(kBlockRows * kScoreStride);
  w->scores = take(keeps_scores ? rows * most_columns(c) : 0);
  w->anchors = take(2 * rows);
  w->important = take(units);
  w->lines = take(units);
  w->pooled = take(group * units);
  w->order = reinterpret_cast<int32_t*>(take(units));
  w->nodes = reinterpret_cast<int32_t*>(take(2 * units));
  w->chosen = reinterpret_cast<uint8_t*>(take(units));
  w->chosen_lines = reinterpret_cast<uint8_t*>(take(units));
  return at;
}
size_t scratch_bytes(const OpCall& c, int workers) {
  Work w;
  return (shared_floats(c) + size_t(workers) * lay_out(c, nullptr, &w)) * sizeof(float);
}

// Sums of the keys of 16 units of one kv head.
void run_sums(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t B = j.params->block, key = j.kv.key, tiles = j.units / 16, kv_head = task / tiles,
                u = task % tiles * 16;
  float* sums = j.sums + (kv_head * j.units + u) * key;
  float* tile = j.workers + size_t(worker) * j.worker_floats;  // queries: not in use yet
  for (int64_t x = 0; x < 16 * key; ++x) sums[x] = 0;
  const int64_t stop = (u + 16) * B < j.end() ? (u + 16) * B : j.end();
  for (int64_t x = u * B / 16 * 16; x < stop; x += 16) {
    const float* keys = load_keys(j, kv_head, x, tile);
    const int64_t first = x > u * B ? x : u * B, end = x + 16 < stop ? x + 16 : stop;
    for (int64_t from = first, to; from < end; from = to) {
      const int64_t unit = from / B;
      to = (unit + 1) * B < end ? (unit + 1) * B : end;
      for (int64_t d = 0; d < key; ++d)
        sums[d * 16 + unit - u] +=
            to - from == 16 ? reduce_add(load(keys + d * 16)) : sum_of(keys + d * 16, from - x, to - x);
    }
  }
}

// Where the chunks of a kv head begin; `cosines` is memory of a float a unit.
void find_chunks(const Job& j, int64_t kv_head, float* cosines) {
  const int64_t key = j.kv.key, n = (j.end() + j.params->block - 1) / j.params->block;
  const auto element = [&](int64_t u, int64_t d) {
    return j.sums[(kv_head * j.units + u / 16 * 16) * key + d * 16 + u % 16];
  };
  for (int64_t u = 1; u < n; ++u) {
    float both = 0, here = 0, before = 0;
    for (int64_t d = 0; d < key; ++d) {
      const float a = element(u, d), b = element(u - 1, d);
      both += a * b, here += a * a, before += b * b;
    }
    cosines[u] = both / __builtin_sqrtf(here * before);
  }
  for (int64_t u = n; u < j.units; ++u) j.begins[kv_head * j.units + u] = 0;
  cut_chunks(*j.params, cosines, n, j.begins + kv_head * j.units);
}

void estimate_group(const Task& t) {
  switch (t.p.estimate) {
    case KeyEstimate::kAntidiagonal: return score_antidiagonals(t);
    case KeyEstimate::kLines: return score_lines(t);
    case KeyEstimate::kFlexible: score_lines(t); return score_units(t);
    case KeyEstimate::kPooled:
    case KeyEstimate::kChunks: return score_units(t);
    case KeyEstimate::kAnchor:
    case KeyEstimate::kQuantised: return score_anchored(t);
    case KeyEstimate::kTree: return;
  }
}

// Importance of head g of the group; whether lines are chosen from too.
bool estimate_head(const Task& t, int64_t g, float** important) {
  const Work& w = t.w;
  const SelectBlocksParams& p = t.p;
  const int64_t units = t.sizes.units;
  float* pooled = w.pooled + g * t.j.units;
  *important = w.important;
  for (int64_t u = 0; u < units; ++u) w.important[u] = w.lines[u] = 0;
  if (has_sums(p)) {
    pool_scores(p, p.estimate == KeyEstimate::kChunks ? t.j.begins + t.kv_head * t.j.units : nullptr, t.j.end(), pooled,
                units);
    if (p.choice == KeyChoice::kShare || p.estimate == KeyEstimate::kFlexible) softmax_of(pooled, units);
  }
  switch (p.estimate) {
    case KeyEstimate::kAntidiagonal: add_antidiagonals(t, g); return false;
    case KeyEstimate::kTree: descend(t, g); return false;
    case KeyEstimate::kLines: add_lines_of(t, g); return true;
    case KeyEstimate::kFlexible:
      add_lines_of(t, g);
      if (!is_close(p, pooled, w.important, units, t.sizes.samples)) return true;
      break;
    default: break;
  }
  *important = pooled;
  return false;
}

void run_task(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const SelectBlocksParams& p = *j.params;
  Work w;
  lay_out(*j.call, j.workers + size_t(worker) * j.worker_floats, &w);
  // The last lists see most: they go first.
  const int64_t list = j.sizes.lists - 1 - task / j.kv.kv_heads;
  const Task t{j, p, w, list, j.sizes.first_list + list, task % j.kv.kv_heads, list_sizes(p, j.sizes, list)};
  estimate_group(t);
  for (int64_t g = 0; g < j.group; ++g) {
    float* important;
    const bool is_lined = estimate_head(t, g, &important);
    choose_units(p, t.sizes, important, false, w.order, w.chosen);
    if (is_lined) {
      choose_units(p, t.sizes, w.lines, true, w.order, w.chosen_lines);
      add_lines(p, j.sizes, t.sizes, t.m, w.chosen_lines, w.chosen);
    }
    write_ranges(p, w.chosen, t.sizes.units, j.ranges + ((t.kv_head * j.group + g) * j.lists + list) * j.n * 3, j.n);
  }
}

void run(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const TensorView& y = c.out[0];
  Job j{};
  j.call = &c;
  j.params = &p;
  j.sizes = select_blocks_sizes(c);
  j.q = input<float>(c, kQ);
  j.ranges = output<int32_t>(c, 0);
  j.heads = y.dims[0], j.lists = y.dims[1], j.n = y.dims[2];
  j.kv.k = input<float>(c, kK);
  j.kv.kv_heads = c.in[kK].dims[1], j.kv.key = c.in[kK].dims[2];
  j.group = j.heads / j.kv.kv_heads;
  if (has_input(c, kKeyState)) {
    j.kv.k_state = static_cast<unsigned char*>(c.in[kKeyState].data);
    j.kv.dtype = c.in[kKeyState].dtype;
    j.kv.slots = c.in[kKeyState].dims[1] * 16;
  }
  const bool is_all = j.sizes.tokens < int64_t(p.least);
  for (int64_t h = 0; h < j.heads; ++h)
    for (int64_t l = is_all ? 0 : j.sizes.lists; l < j.lists; ++l)
      write_ranges(p, nullptr, l < j.sizes.lists ? list_sizes(p, j.sizes, l).units : 0,
                   j.ranges + (h * j.lists + l) * j.n * 3, j.n);
  if (is_all || j.sizes.lists == 0) return;
  j.row_blocks = row_blocks(c);
  j.columns = most_columns(c);
  j.units = most_units(c);
  j.workers = reinterpret_cast<float*>(c.scratch) + shared_floats(c);
  Work w;
  j.worker_floats = lay_out(c, nullptr, &w);
  if (has_sums(p)) {
    j.sums = reinterpret_cast<float*>(c.scratch);
    j.begins = reinterpret_cast<uint8_t*>(j.sums + j.kv.kv_heads * j.units * j.kv.key);
    parallel_for(c.pool, j.kv.kv_heads * (j.units / 16), run_sums, &j);
    lay_out(c, j.workers, &w);
    if (p.estimate == KeyEstimate::kChunks)
      for (int64_t h = 0; h < j.kv.kv_heads; ++h) find_chunks(j, h, w.important);
  }
  const int64_t tasks = j.sizes.lists * j.kv.kv_heads;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, run_task, &j);
}

constexpr Kernel kRows[] = {{"select_blocks_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList select_blocks_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
