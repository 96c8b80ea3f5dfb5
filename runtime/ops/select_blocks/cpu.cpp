// A task is the block of queries of one list for the heads that share a kv head: their rows meet 16 columns of keys at
// a time, which are gathered once.
#include "cpu/call.h"
#include "ops/attention/tiles.inl"
#include "ops/select_blocks/select_blocks.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kKeyState };

struct Job {
  const SelectBlocksParams* params;
  SelectBlocksSizes sizes;
  KeyValues kv;
  const float* q;
  int32_t* ranges;
  int64_t heads, group, lists, n;
  int64_t row_blocks, columns;  // blocks of kBlockRows rows of a task; columns that scores have room for
  float* workers;
  size_t worker_floats;
};

// Rows of a task, in whole blocks of those that one pass keeps in registers.
int64_t row_blocks(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t rows = p.block / p.stride * (c.in[kQ].dims[1] / c.in[kK].dims[1]);
  return (rows + kBlockRows - 1) / kBlockRows;
}
// Columns of strides up to the end of the call, in whole tiles, at the largest position that it may have.
int64_t most_columns(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t before = has_input(c, kKeyState) ? c.in[kKeyState].dims[1] * 16 : 0;
  const int64_t end = (before + c.in[kQ].dims[0] + p.block - 1) / p.block * p.block;
  return (end / p.stride + 15) & ~int64_t(15);
}
size_t worker_floats(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t deep = int64_t(p.stride) * c.in[kQ].dims[2], columns = most_columns(c),
                rows = row_blocks(c) * kBlockRows;
  const int64_t blocks = columns * p.stride / p.block + 2;
  return size_t(rows * deep + 16 * deep + kBlockRows * kScoreStride + rows * columns + 2 * blocks + 64);
}
size_t scratch_bytes(const OpCall& c, int workers) { return size_t(workers) * worker_floats(c) * sizeof(float); }

// Queries of the task as [row block][stride * key][kBlockRows], scaled; those that are not of the call are 0.
void pack_queries(const Job& j, int64_t kv_head, int64_t own, float* to) {
  const SelectBlocksParams& p = *j.params;
  const int64_t S = p.stride, key = j.kv.key, rows = p.block / S;
  const float scale = p.scale / float(S);
  for (int64_t row = 0; row < j.row_blocks * kBlockRows; ++row) {
    const int64_t g = row / rows, r = own * rows + row % rows;
    float* out = to + row / kBlockRows * (S * key * kBlockRows) + row % kBlockRows;
    for (int64_t s = 0; s < S; ++s) {
      const int64_t at = r * S + S - 1 - s - j.sizes.position;
      const bool real = g < j.group && at >= 0 && at < j.sizes.tokens;
      const float* from = j.q + (at * j.heads + kv_head * j.group + g) * key;
      for (int64_t d = 0; d < key; ++d) out[(s * key + d) * kBlockRows] = real ? from[d] * scale : 0.0f;
    }
  }
}

// 16 columns from column `first` on as [stride * key][16].
void gather_keys(const Job& j, int64_t kv_head, int64_t first, float* panel) {
  const int64_t S = j.params->stride, key = j.kv.key, end = j.sizes.position + j.sizes.tokens;
  const int64_t blocks = (key + 31) / 32;
  for (int64_t i = 0; i < 16; ++i)
    for (int64_t s = 0; s < S; ++s) {
      const int64_t at = (first + i) * S + s;
      float* to = panel + s * key * 16 + i;
      if (at >= j.sizes.position) {
        const float* from = j.kv.k + ((at - j.sizes.position) * j.kv.kv_heads + kv_head) * key;
        for (int64_t d = 0; d < key; ++d) to[d * 16] = at < end ? from[d] : 0.0f;
        continue;
      }
      const int64_t tile = kv_head * (j.kv.slots / 16) + at / 16, lane = at % 16;
      if (j.kv.dtype == DType::kF32) {
        const float* from = reinterpret_cast<const float*>(j.kv.k_state) + tile * key * 16 + lane;
        for (int64_t d = 0; d < key; ++d) to[d * 16] = from[d * 16];
      } else if (j.kv.dtype == DType::kF16) {
        const uint16_t* from = reinterpret_cast<const uint16_t*>(j.kv.k_state) + tile * key * 16 + lane;
        for (int64_t d = 0; d < key; ++d) to[d * 16] = half_bits(reinterpret_cast<const unsigned char*>(from + d * 16));
      } else {
        for (int64_t d = 0; d < key; ++d) {
          const unsigned char* block = j.kv.k_state + (tile * blocks + d / 32) * (34 * 16);
          to[d * 16] = float(int8_t(block[d % 32 * 16 + lane])) * half_bits(block + 512 + lane * 2);
        }
      }
    }
}

// Shares of a row's softmax over its first `columns` columns, added to the blocks' importance.
void add_row(float* scores, int64_t columns, int64_t per_block, float* importance) {
  const float inf = __builtin_inff();
  const i32x16 lanes = lane_numbers();
  f32x16 top = splat(-inf);
  for (int64_t x = 0; x < columns; x += 16) {
    f32x16 v = load(scores + x);
    if (x + 16 > columns) v = select(lanes < int(columns - x), v, splat(-inf)), store(scores + x, v);
    top = max(top, v);
  }
  const float largest = reduce_max(top);
  f32x16 sum = splat(0);
  for (int64_t x = 0; x < columns; x += 16) {
    const f32x16 e = exp(load(scores + x) - splat(largest));
    sum = sum + e;
    store(scores + x, e);
  }
  const float scale = 1 / reduce_add(sum);
  for (int64_t x = 0; x < columns; x += per_block) {
    float part = 0;
    for (int64_t i = x; i < x + per_block && i < columns; ++i) part += scores[i];
    importance[x / per_block] += part * scale;
  }
}

void run_task(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const SelectBlocksParams& p = *j.params;
  // The last blocks see most: they go first.
  const int64_t list = j.sizes.blocks - 1 - task / j.kv.kv_heads, kv_head = task % j.kv.kv_heads;
  const int64_t own = j.sizes.first_block + list, rows = p.block / p.stride, deep = p.stride * j.kv.key;
  const int64_t columns = (own + 1) * rows, end = j.sizes.position + j.sizes.tokens;
  float* queries = j.workers + size_t(worker) * j.worker_floats;
  float* panel = queries + j.row_blocks * kBlockRows * deep;
  float* part = panel + 16 * deep;
  float* scores = part + kBlockRows * kScoreStride;
  float* importance = scores + j.row_blocks * kBlockRows * j.columns;
  int32_t* order = reinterpret_cast<int32_t*>(importance + own + 1);
  pack_queries(j, kv_head, own, queries);
  for (int64_t x = 0; x < columns; x += 16) {
    gather_keys(j, kv_head, x, panel);
    for (int64_t b = 0; b < j.row_blocks; ++b) {
      kPanelProducts.keys_one(queries + b * deep * kBlockRows, panel, deep, part);
      for (int r = 0; r < kBlockRows; ++r)
        store(scores + (b * kBlockRows + r) * j.columns + x, load(part + r * kScoreStride));
    }
  }
  for (int64_t g = 0; g < j.group; ++g) {
    for (int64_t b = 0; b <= own; ++b) importance[b] = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t r = own * rows + i;
      if (r * p.stride >= end || (r + 1) * int64_t(p.stride) <= j.sizes.position) continue;  // no query of the call
      add_row(scores + (g * rows + i) * j.columns, r + 1, rows, importance);
    }
    choose_blocks(p, importance, own, order, j.ranges + ((kv_head * j.group + g) * j.lists + list) * j.n * 3, j.n);
  }
}

void run(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const TensorView& y = c.out[0];
  Job j{};
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
    for (int64_t l = is_all ? 0 : j.sizes.blocks; l < j.lists; ++l)
      choose_blocks(p, nullptr, l < j.sizes.blocks ? j.sizes.first_block + l : -1, nullptr,
                    j.ranges + (h * j.lists + l) * j.n * 3, j.n);
  if (is_all) return;
  j.row_blocks = row_blocks(c);
  j.columns = most_columns(c);
  j.workers = reinterpret_cast<float*>(c.scratch);
  j.worker_floats = worker_floats(c);
  const int64_t tasks = j.sizes.blocks * j.kv.kv_heads;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, run_task, &j);
}

constexpr Kernel kRows[] = {{"select_blocks_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList select_blocks_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
