// Matrix products on packed weights: this file cuts a call into tasks; the .inl files hold the kernels.
#include "cpu/call.h"
#include "format/packed.h"
#include "ops/matmul/joint.inl"
#include "ops/matmul/matmul.h"
#include "ops/matmul/screen.h"

namespace runnel::RNL_ISA {
namespace {

#include "ops/matmul/chunks.inl"
#include "ops/matmul/quantise.inl"
#include "ops/matmul/one_row.inl"
#include "ops/matmul/split.inl"
#include "ops/matmul/many_rows.inl"
#include "ops/matmul/float_kinds.inl"

constexpr size_t kLine = 64;
RNL_INLINE size_t align_up(size_t n) { return (n + kLine - 1) / kLine * kLine; }

// Where things lie in the scratch memory.
struct Scratch {
  size_t q, side, screen, pieces, piece_bytes, total;
  // split_rows: rows of the largest split matrix.
  Scratch(int64_t tokens, int64_t columns, int64_t split_rows, int workers) {
    const size_t blocks = size_t((columns + kSuperColumns - 1) / kSuperColumns) * (kSuperColumns / kBlockColumns);
    const size_t padded = size_t(tokens + kGroup - 1) / kGroup * kGroup;
    q = 0;
    side = align_up(q + padded * blocks * kBlockColumns);
    screen = align_up(side + padded * blocks * sizeof(Side<1>));
    pieces = align_up(screen + (split_rows ? screen_bytes(split_rows, int64_t(blocks)) : 0));
    piece_bytes = align_up(sizeof(Piece) > size_t(kFloatPiece) * 64 ? sizeof(Piece) : size_t(kFloatPiece) * 64);
    if (split_rows && piece_bytes < blocks * SplitLayout::kUnit) piece_bytes = align_up(blocks * SplitLayout::kUnit);
    total = pieces + piece_bytes * size_t(workers);
  }
};
static_assert(sizeof(Side<kGroup>) == kGroup * sizeof(Side<1>));

RNL_INLINE int64_t split_rows(const OpCall& c) {
  int64_t rows = 0;
  for (int i = 1; i <= c.out_count; ++i)
    if (c.in[i].packed->split && c.in[i].dims[0] > rows) rows = c.in[i].dims[0];
  return rows;
}

struct Call {
  const OpCall* op;
  Scratch scratch;
  Activations activations;
  const float* x;
  int64_t columns, tokens, groups_per_task;
  int64_t tiles_per_task[kMaxJointMatmuls];
  int64_t first_task[kMaxJointMatmuls + 1];  // of each weight; the last entry is their number
  const float* const* own_x;                 // of each weight; null: x is everyone's
  int own_row[kMaxJointMatmuls];             // where its rounded values are
};
static_assert(kMaxJointMatmuls >= kMaxMatmulWeights);

RNL_INLINE Activations activations_of(const Call& j, int weight) {
  const Activations& a = j.activations;
  return {a.q + j.own_row[weight] * a.blocks * kBlockColumns,
          static_cast<Side<1>*>(a.side) + j.own_row[weight] * a.blocks, a.blocks, a.groups};
}

RNL_INLINE const float* bias_of(const OpCall& c, int i) { return input<float>(c, RNL_MATMUL_BIAS(c.out_count, i)); }

void run_tiles(const Call& j, int weight, int64_t first, int64_t end, int worker) {
  const OpCall& c = *j.op;
  const TensorView& w = c.in[1 + weight];
  const PackedFormat& f = *w.packed;
  const uint8_t* data = static_cast<const uint8_t*>(w.data);
  const size_t tile_bytes = f.tile_bytes(j.columns);
  unsigned char* piece = c.scratch + j.scratch.pieces + j.scratch.piece_bytes * size_t(worker);
  const float* bias = bias_of(c, weight);
  const float* x = j.own_x ? j.own_x[weight] : j.x;
  const Activations activations = activations_of(j, weight);
  float* y = output<float>(c, weight);
  if (f.is_float()) {
    const FloatJob job{f.kind, data, tile_bytes, j.columns, w.dims[0], j.tokens, x, bias, y};
    if (j.tokens == 1) kOneRowFloat[int(f.kind) - 1](job, first, end);
    else many_rows_float(job, first, end, reinterpret_cast<float*>(piece));
  } else if (j.tokens == 1 && f.split) {
    const Joined job{f.units(j.columns), f.zero_point, activations.q, static_cast<const Side<1>*>(activations.side)};
    joined_rows(job, data, j.columns, w.dims[0], first, end, bias, y);
  } else if (j.tokens == 1) {
    const OneRow job{f,
                     data,
                     tile_bytes,
                     f.units(j.columns),
                     w.dims[0],
                     activations.q,
                     static_cast<const Side<1>*>(activations.side),
                     bias,
                     y};
    kOneRow[f.bits - 2][f.block == 32](job, first, end);
  } else {
    many_rows({f, data, tile_bytes, j.columns, w.dims[0], j.tokens, activations, bias, y}, first, end,
              reinterpret_cast<Piece*>(piece));
  }
}

void product_task(void* context, int64_t task, int worker) {
  const Call& j = *static_cast<const Call*>(context);
  int weight = 0;
  while (task >= j.first_task[weight + 1]) ++weight;
  const int64_t tiles = (j.op->in[1 + weight].dims[0] + kTileRows - 1) / kTileRows;
  const int64_t first = (task - j.first_task[weight]) * j.tiles_per_task[weight];
  const int64_t end = first + j.tiles_per_task[weight] < tiles ? first + j.tiles_per_task[weight] : tiles;
  run_tiles(j, weight, first, end, worker);
}

void quantise_task(void* context, int64_t task, int) {
  const Call& j = *static_cast<const Call*>(context);
  const int64_t end = (task + 1) * j.groups_per_task;
  for (int64_t g = task * j.groups_per_task; g < end && g < j.activations.groups; ++g)
    quantise_group(j.x, j.columns, j.tokens, g, j.activations);
}

void quantise(Call& j, ThreadPool* pool) {
  if (j.tokens == 1) return quantise_one(j.x, j.columns, j.activations);
  // Some 16,000 values a task.
  j.groups_per_task = 1 + 4096 / (j.activations.blocks * kBlockColumns);
  const int64_t tasks = (j.activations.groups + j.groups_per_task - 1) / j.groups_per_task;
  parallel_for(tasks > 1 ? pool : nullptr, tasks, quantise_task, &j);
}

// Cuts every weight into runs of tiles: of 16 to 64 KB for one token, so that no thread waits long for the last one; of
// one to four tiles for many, so that activations are read again less often.
void cut(Call& j, int workers) {
  const OpCall& c = *j.op;
  size_t bytes = 0;
  for (int i = 0; i < c.out_count; ++i) bytes += c.in[1 + i].packed->matrix_bytes(c.in[1 + i].dims[0], j.columns);
  size_t share = bytes / (size_t(workers) * 8);
  share = share < 16384 ? 16384 : share > 65536 ? 65536 : share;
  int64_t task = 0;
  for (int i = 0; i < c.out_count; ++i) {
    const TensorView& w = c.in[1 + i];
    const int64_t tiles = (w.dims[0] + kTileRows - 1) / kTileRows;
    int64_t n;
    if (j.tokens == 1) n = int64_t(share / w.packed->tile_bytes(j.columns));
    else n = tiles / (workers * 4) < 4 ? tiles / (workers * 4) : 4;
    j.tiles_per_task[i] = n < 1 ? 1 : n;
    j.first_task[i] = task;
    task += (tiles + j.tiles_per_task[i] - 1) / j.tiles_per_task[i];
  }
  j.first_task[c.out_count] = task;
}

// Whether only a few products of the only token were wanted and found without the rest.
bool screened(const Call& j) {
  const OpCall& c = *j.op;
  const TensorView& w = c.in[1];
  const bool best = c.best >= 1 && c.best <= kMaxBest;
  if (!(best || c.wanted) || !kScreens || j.tokens != 1 || c.out_count != 1 || !w.packed->split || bias_of(c, 0))
    return false;
  const Side<1>* side = static_cast<const Side<1>*>(j.activations.side);
  const Joined joined{w.packed->units(j.columns), w.packed->zero_point, j.activations.q, side};
  const ScreenJob job{&kScreen,
                      w.packed,
                      static_cast<const uint8_t*>(w.data),
                      w.dims[0],
                      j.columns,
                      c.best,
                      j.activations.q,
                      side->scale,
                      int64_t(sizeof(Side<1>) / sizeof(float)),
                      output<float>(c, 0),
                      &joined,
                      c.scratch + j.scratch.screen,
                      c.scratch + j.scratch.pieces,
                      j.scratch.piece_bytes,
                      c.pool};
  if (!c.wanted) return screen(job);
  screen_wanted(job, c.wanted, c.wanted_count);
  return true;
}

// rounded: rows of x that are kept as integers.
Call start(const OpCall& c, int64_t tokens, int64_t rounded) {
  const int64_t columns = c.in[0].dims[c.in[0].rank - 1];
  Call j{&c,      Scratch(rounded, columns, split_rows(c), thread_pool_size(c.pool)),
         {},      input<float>(c, 0),
         columns, tokens,
         1,       {},
         {},      nullptr,
         {}};
  j.activations.q = reinterpret_cast<int8_t*>(c.scratch + j.scratch.q);
  j.activations.side = c.scratch + j.scratch.side;
  j.activations.blocks = (columns + kSuperColumns - 1) / kSuperColumns * (kSuperColumns / kBlockColumns);
  j.activations.groups = tokens == 1 ? 0 : (tokens + kGroup - 1) / kGroup;
  return j;
}

bool has_integers(const OpCall& c) {
  for (int i = 0; i < c.out_count; ++i)
    if (!c.in[1 + i].packed->is_float()) return true;
  return false;
}

void multiply(Call& j) {
  cut(j, thread_pool_size(j.op->pool));
  parallel_for(j.op->pool, j.first_task[j.op->out_count], product_task, &j);
}

// An empty sum: the bias alone.
void bias_alone(const OpCall& c, int64_t tokens) {
  for (int i = 0; i < c.out_count; ++i)
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t n = 0; n < c.in[1 + i].dims[0]; ++n)
        output<float>(c, i)[t * c.in[1 + i].dims[0] + n] = bias_of(c, i) ? bias_of(c, i)[n] : 0.0f;
}

void run(const OpCall& c) {
  const int64_t tokens = rows_of(c.in[0]);
  if (tokens == 0) return;
  Call j = start(c, tokens, tokens);
  if (j.columns == 0) return bias_alone(c, tokens);
  if (has_integers(c)) quantise(j, c.pool);
  if (!screened(j)) multiply(j);
}

size_t scratch_bytes(const OpCall& c, int workers) {
  const TensorView& x = c.in[0];
  return Scratch(rows_of(x), x.dims[x.rank - 1], split_rows(c), workers).total;
}

// The rows share their code; a name says which weights a call has.
template <PackedKind kKind, int kBits>
bool all_of(const OpCall& c) {
  for (int i = 0; i < c.out_count; ++i) {
    const PackedFormat& f = *c.in[1 + i].packed;
    if (f.kind != kKind || (kKind == PackedKind::kInteger && f.bits != kBits)) return false;
  }
  return true;
}

#define RNL_ROW(dtypes, kind, bits) \
  { "matmul_f32_" dtypes "__" RNL_ISA_NAME, all_of<PackedKind::kind, bits>, scratch_bytes, run }
constexpr Kernel kRowsOfTarget[] = {
    RNL_ROW("q2", kInteger, 2),
    RNL_ROW("q3", kInteger, 3),
    RNL_ROW("q4", kInteger, 4),
    RNL_ROW("q5", kInteger, 5),
    RNL_ROW("q6", kInteger, 6),
    RNL_ROW("q7", kInteger, 7),
    RNL_ROW("q8", kInteger, 8),
    RNL_ROW("f32", kF32, 0),
    RNL_ROW("f16", kF16, 0),
    RNL_ROW("bf16", kBF16, 0),
    {"matmul_f32_mixed__" RNL_ISA_NAME, nullptr, scratch_bytes, run},
};
#undef RNL_ROW

}  // namespace

void matmul_joint(const OpCall& c, const float* const* x) {
  int64_t rows = 1;
  for (int i = 1; i < c.out_count; ++i) rows += x[i] != x[i - 1];
  Call j = start(c, 1, rows);
  if (j.columns == 0) return bias_alone(c, 1);
  const bool integers = has_integers(c);
  j.own_x = x;
  for (int i = 0; i < c.out_count; ++i) {
    const bool is_new = i == 0 || x[i] != x[i - 1];
    if (i) j.own_row[i] = j.own_row[i - 1] + is_new;
    if (integers && is_new) quantise_one(x[i], j.columns, activations_of(j, i));
  }
  multiply(j);
}

extern constexpr KernelList matmul_kernels{kRowsOfTarget, sizeof(kRowsOfTarget) / sizeof(kRowsOfTarget[0])};

}  // namespace runnel::RNL_ISA
