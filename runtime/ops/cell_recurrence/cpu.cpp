// Blocks of 16 channels of a head. A token's products with R are rows times h; heads see only themselves, so with
// several of them each runs through all tokens by itself. One wide head is shared by the threads token by token.
#include "ops/cell_recurrence/cell_recurrence.h"
#include "ops/sequence.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

constexpr int64_t kSharedProducts = 32768;  // of a token and head: from here on a parallel region a token pays

struct Job {
  const float *x, *r, *r_bias, *peepholes;
  bool own_r, own_bias, own_peepholes;  // each head has its own
  float *y, *scratch;
  StatePlace states[kCellStates];
  Runs runs;
  CellParams params;
  int64_t gates, heads, dim, padded;  // padded: dim in whole blocks of 16
  // Of the token at hand, when its blocks are shared.
  int64_t token, head;
  bool odd;
};

// A head's memory: h before and after (which is which alternates), c, n, m, and what a gru's reset leaves of h.
constexpr int64_t kVectors = 6;
RNL_INLINE float* head_at(const Job& j, int64_t head) { return j.scratch + head * kVectors * j.padded; }

// One copy of each for all kinds and gates: for the size of the library.
#define RNL_ONCE __attribute__((noinline))
RNL_ONCE f32x16 sigmoid_of(f32x16 x) { return sigmoid(x); }
RNL_ONCE f32x16 tanh_of(f32x16 x) { return tanh(x); }

// A function over what a gate has, within the bounds; NaN passes.
RNL_ONCE f32x16 function_of(UnaryKind f, f32x16 v, float clip) {
  v = select(v > splat(clip), splat(clip), select(v < splat(-clip), splat(-clip), v));
  return f == UnaryKind::kSigmoid ? sigmoid(v) : f == UnaryKind::kTanh ? tanh(v) : activate<UnaryKind::kRelu>(v, 1.0f);
}

// 16 rows (the last block: fewer) of a square matrix times h, which is padded with zeros.
RNL_ONCE f32x16 products(const float* r, const float* h, int64_t dim, int rows) {
  f32x16 sums[16];
  const int64_t body = dim & ~int64_t(15);
  const int tail = int(dim - body);
  for (int i = 0; i < 16; i += 4) {
    // Rows that are not there repeat the last one; their lanes are not used.
    const float* row[4];
    for (int k = 0; k < 4; ++k) row[k] = r + (i + k < rows ? i + k : rows - 1) * dim;
    f32x16 s0 = splat(0.0f), s1 = s0, s2 = s0, s3 = s0;
    for (int64_t e = 0; e < body; e += 16) {
      const f32x16 v = load(h + e);
      s0 = fma(load(row[0] + e), v, s0), s1 = fma(load(row[1] + e), v, s1);
      s2 = fma(load(row[2] + e), v, s2), s3 = fma(load(row[3] + e), v, s3);
    }
    if (tail) {
      const f32x16 v = load(h + body);
      s0 = fma(load_n(row[0] + body, tail), v, s0), s1 = fma(load_n(row[1] + body, tail), v, s1);
      s2 = fma(load_n(row[2] + body, tail), v, s2), s3 = fma(load_n(row[3] + body, tail), v, s3);
    }
    sums[i] = s0, sums[i + 1] = s1, sums[i + 2] = s2, sums[i + 3] = s3;
  }
  return fold(sums);
}

// What a gate of 16 channels has from `seen`, the outputs before.
RNL_INLINE f32x16 from_before(const Job& j, int64_t g, int64_t head, int64_t ch, int lanes, const float* seen) {
  const auto row_of = [&](bool own) { return (own ? g * j.heads + head : g) * j.dim + ch; };
  const f32x16 sum = products(j.r + row_of(j.own_r) * j.dim, seen, j.dim, lanes);
  return j.r_bias ? sum + load_lanes(j.r_bias + row_of(j.own_bias), lanes) : sum;
}
RNL_INLINE f32x16 from_input(const Job& j, int64_t t, int64_t g, int64_t head, int64_t ch, int lanes) {
  return load_lanes(j.x + ((t * j.gates + g) * j.heads + head) * j.dim + ch, lanes);
}
RNL_INLINE f32x16 peephole(const Job& j, int64_t k, int64_t head, int64_t ch, int lanes) {
  return load_lanes(j.peepholes + (j.own_peepholes ? k * j.heads + head : k) * j.dim + ch, lanes);
}
RNL_INLINE int lanes_at(const Job& j, int64_t ch) { return j.dim - ch < 16 ? int(j.dim - ch) : 16; }

// reset_first: what a token's reset leaves of the output before, 16 channels.
RNL_ONCE void reset(const Job& j, int64_t t, int64_t head, int64_t ch, bool odd) {
  float* place = head_at(j, head);
  const float* before = place + (odd ? j.padded : 0);
  const int lanes = lanes_at(j, ch);
  const f32x16 v = from_input(j, t, 0, head, ch, lanes) + from_before(j, 0, head, ch, lanes, before);
  store(place + 5 * j.padded + ch, function_of(j.params.gate, v, j.params.clip) * load(before + ch));
}

// One token of 16 channels.
RNL_ONCE void step(const Job& j, int64_t t, int64_t head, int64_t ch, bool odd) {
  float* place = head_at(j, head);
  const float* before = place + (odd ? j.padded : 0);
  float *after = place + (odd ? 0 : j.padded), *cells = place + 2 * j.padded + ch;
  const int lanes = lanes_at(j, ch);
  const auto gate = [&](f32x16 v) { return function_of(j.params.gate, v, j.params.clip); };
  const auto candidate = [&](f32x16 v) { return function_of(j.params.candidate, v, j.params.clip); };
  f32x16 x[4], back[4];
  for (int64_t g = j.params.reset_first ? 1 : 0; g < j.gates; ++g) {
    x[g] = from_input(j, t, g, head, ch, lanes);
    back[g] = from_before(j, g, head, ch, lanes, j.params.reset_first && g == 2 ? place + 5 * j.padded : before);
  }
  f32x16 h;
  if (j.params.kind == CellKind::kRnn) {
    h = candidate(x[0] + back[0]);
  } else if (j.params.kind == CellKind::kLstm) {
    const f32x16 seen = load(cells);
    for (int g = 0; g < 2 && j.peepholes; ++g) back[g] = fma(peephole(j, g, head, ch, lanes), seen, back[g]);
    const f32x16 c = fma(gate(x[1] + back[1]), seen, gate(x[0] + back[0]) * candidate(x[2] + back[2]));
    store(cells, c);
    if (j.peepholes) back[3] = fma(peephole(j, 2, head, ch, lanes), c, back[3]);
    h = gate(x[3] + back[3]) * function_of(j.params.read, c, INFINITY);
  } else if (j.params.kind == CellKind::kGru) {
    const f32x16 z = gate(x[1] + back[1]);
    const f32x16 n = candidate(j.params.reset_first ? x[2] + back[2] : fma(gate(x[0] + back[0]), back[2], x[2]));
    h = fma(z, load(before + ch) - n, n);
  } else {
    const f32x16 n = load(cells + j.padded), i = x[0] + back[0], f = x[1] + back[1];
    const f32x16 kept =
        load(cells + 2 * j.padded) + (j.params.forget_exp ? f : -activate<UnaryKind::kSoftplus>(-f, 1.0f));
    const i32x16 empty = n == splat(0.0f);
    const f32x16 m = select(empty, i, max(kept, i));
    const f32x16 keep = select(empty, splat(0.0f), exp(kept - m)), take = exp(i - m);
    const f32x16 c = fma(keep, load(cells), take * tanh_of(x[2] + back[2])), sum = fma(keep, n, take);
    store(cells, c), store(cells + j.padded, sum), store(cells + 2 * j.padded, m);
    h = sigmoid_of(x[3] + back[3]) * c / sum;
  }
  // Lanes behind the head stay 0: they meet columns that are not there.
  h = select(lane_numbers() < lanes, h, splat(0.0f));
  store(after + ch, h);
  store_lanes(j.y + (t * j.heads + head) * j.dim + ch, h, lanes);
}

// States of a head in and out; scratch holds h in its first half after an even number of tokens.
RNL_ONCE void fetch(const Job& j, int64_t head) {
  for (int k = 0; k < kCellStates; ++k)
    for (int64_t ch = 0; ch < j.dim; ch += 16) {
      const int lanes = lanes_at(j, ch);
      store(head_at(j, head) + (k ? k + 1 : 0) * j.padded + ch, load_state(j.states[k], head * j.dim + ch, lanes));
    }
}
RNL_ONCE void keep(const Job& j, int64_t head, bool odd) {
  for (int k = 0; k < kCellStates; ++k)
    for (int64_t ch = 0; ch < j.dim; ch += 16) {
      const int lanes = lanes_at(j, ch);
      store_state(j.states[k], head * j.dim + ch,
                  load(head_at(j, head) +
                       (k     ? k + 1
                        : odd ? 1
                              : 0) *
                           j.padded +
                       ch),
                  lanes);
    }
}

void head_task(void* context, int64_t head, int) {
  const Job& j = *static_cast<const Job*>(context);
  for (int64_t s = 0; s < j.runs.count; ++s) {
    const Run r = run_at(j.runs, s);
    fetch(j, head);
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      for (int64_t ch = 0; j.params.reset_first && ch < j.dim; ch += 16) reset(j, t, head, ch, i % 2 != 0);
      for (int64_t ch = 0; ch < j.dim; ch += 16) step(j, t, head, ch, i % 2 != 0);
    }
    keep(j, head, r.count % 2 != 0);
  }
}

void block_task(void* context, int64_t block, int) {
  const Job& j = *static_cast<const Job*>(context);
  step(j, j.token, j.head, block * 16, j.odd);
}

void reset_task(void* context, int64_t block, int) {
  const Job& j = *static_cast<const Job*>(context);
  reset(j, j.token, j.head, block * 16, j.odd);
}

void shared_heads(Job& j, ThreadPool* pool) {
  for (int64_t s = 0; s < j.runs.count; ++s) {
    const Run r = run_at(j.runs, s);
    for (j.head = 0; j.head < j.heads; ++j.head) {
      fetch(j, j.head);
      for (int64_t i = 0; i < r.count; ++i) {
        j.token = r.first + i * r.step, j.odd = i % 2 != 0;
        if (j.params.reset_first) parallel_for(pool, j.padded / 16, reset_task, &j);
        parallel_for(pool, j.padded / 16, block_task, &j);
      }
      keep(j, j.head, r.count % 2 != 0);
    }
  }
}

RNL_INLINE int64_t padded_dim(const OpCall& c) { return (c.in[0].dims[3] + 15) / 16 * 16; }
size_t scratch_bytes(const OpCall& c, int) { return size_t(c.in[0].dims[2]) * size_t(padded_dim(c)) * kVectors * 4; }

void run(const OpCall& c) {
  Job j{};
  j.x = input<float>(c, 0), j.r = input<float>(c, 1), j.r_bias = input<float>(c, 2);
  j.peepholes = input<float>(c, 4 + kCellStates);
  const int64_t heads = c.in[0].dims[2];
  j.own_r = c.in[1].dims[1] == heads, j.own_bias = j.r_bias && c.in[2].dims[1] == heads;
  j.own_peepholes = j.peepholes && c.in[4 + kCellStates].dims[1] == heads;
  j.y = output<float>(c, 0);
  j.scratch = reinterpret_cast<float*>(c.scratch);
  for (int k = 0; k < kCellStates; ++k) j.states[k] = state_place(c, 3 + k, 1 + k);
  j.params = params_of<CellParams>(c);
  j.runs = runs_of(c, 3 + kCellStates, c.in[0].dims[0], j.params.reverse);
  j.gates = c.in[0].dims[1], j.heads = heads, j.dim = c.in[0].dims[3], j.padded = padded_dim(c);
  if (j.heads < thread_pool_size(c.pool) && j.gates * j.dim * j.dim >= kSharedProducts) return shared_heads(j, c.pool);
  parallel_for(j.heads > 1 ? c.pool : nullptr, j.heads, head_task, &j);
}

constexpr Kernel kRows[] = {{"cell_recurrence_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList cell_recurrence_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
