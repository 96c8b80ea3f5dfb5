// Step form. A task is one head and up to 32 columns of S, which stay in scratch (the first-level cache) while all
// tokens pass: one pass over the keys for the rules' inner products, one that changes S and reads it. A lone token
// changes the state where it lies: every byte of it is read and written once, which is all that such a step costs. What
// a whole head shares (decays, gates, denominators) is computed before. Sums over keys run in four interleaved parts,
// so that they do not wait for each other.
#include "ops/matrix_recurrence/matrix_recurrence.h"
#include "ops/sequence.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kV, kDecay, kBeta, kA, kB, kBonus, kGate, kState, kNorm, kMax, kSegments };
// As many as keep the sums of a pass in registers.
constexpr int kVectors = kRegisterBytes == 64 ? 2 : 1;
constexpr int64_t kColumns = 16 * kVectors;

// One of the inputs that several heads may share.
struct Shared {
  const float* data;
  int64_t heads, width, ratio;
  const float* row(int64_t r, int64_t h) const { return data + (r * heads + h / ratio) * width; }
};

struct Job {
  MatrixRecurrenceParams p;
  Shared q, k, v, a, b;
  const float *decay, *beta, *bonus, *gate, *max_in;
  int decay_rank;
  int64_t decay_step;  // floats from one token's decays by channel to the next one's; 0: they are the same for all
  float *y, *max_out;
  float *forget, *input, *divisor;  // [heads, tokens], made before the columns; null when not needed
  float* scratch;
  size_t scratch_floats;  // a worker
  StatePlace state, norm;
  Runs runs;
  int64_t tokens, heads, key, value, slices;
};

// Decay, input gate and denominator of each token of a head; advances norm and max.
void prepare_head(const Job& j, int64_t h, float* n) {
  for (int64_t s = 0; s < j.runs.count; ++s) {
    const Run r = run_at(j.runs, s);
    const bool has_norm = j.divisor != nullptr;
    for (int64_t k = 0; has_norm && k < j.key; k += 16)
      store_lanes(n + k, load_state(j.norm, h * j.key + k, j.key - k < 16 ? int(j.key - k) : 16),
                  j.key - k < 16 ? int(j.key - k) : 16);
    float m = j.max_in ? j.max_in[h] : 0.0f;
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step, at = h * j.tokens + t;
      const float log_decay = !j.decay            ? 0.0f
                              : j.decay_rank == 1 ? j.decay[h]
                              : j.decay_rank == 2 ? j.decay[t * j.heads + h]
                                                  : 0.0f;
      float forget = log_decay, gate = 1.0f;
      if (j.gate) {
        const float own = j.gate[t * j.heads + h], kept = log_decay + m;
        m = kept > own ? kept : own;
        forget = kept - m;
        gate = exp(splat(own - m))[0];
      }
      forget = exp(splat(forget))[0];
      if (j.forget) j.forget[at] = forget;
      if (j.input) j.input[at] = gate;
      if (!has_norm) continue;
      const float *q = j.q.row(t, h), *key = j.k.row(t, h);
      f32x16 dot = splat(0.0f);
      for (int64_t k = 0; k < j.key; k += 16) {
        const int lanes = j.key - k < 16 ? int(j.key - k) : 16;
        const f32x16 f =
            j.decay_rank == 3 ? exp(load_lanes(j.decay + t * j.decay_step + h * j.key + k, lanes)) : splat(forget);
        const f32x16 v = fma(f, load_lanes(n + k, lanes), splat(gate) * load_lanes(key + k, lanes));
        store_lanes(n + k, v, lanes);
        dot = fma(load_lanes(q + k, lanes), v, dot);
      }
      const float seen = reduce_add(dot) * j.p.scale;
      float by = seen;
      if (j.p.normalise == RecurrenceNorm::kBounded) {
        const float floor = exp(splat(-m))[0], size = seen < 0 ? -seen : seen;
        by = size > floor ? size : floor;
      }
      j.divisor[at] = by + j.p.eps;
    }
    for (int64_t k = 0; has_norm && k < j.key; k += 16)
      store_state(j.norm, h * j.key + k, load_lanes(n + k, j.key - k < 16 ? int(j.key - k) : 16),
                  j.key - k < 16 ? int(j.key - k) : 16);
    if (j.max_out) j.max_out[h] = m;
  }
}

// The four interleaved sums of a pass over the keys, for each column.
struct Sums {
  f32x16 part[4][kVectors];
  void clear() {
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i)
      RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) part[i][w] = splat(0.0f);
  }
  f32x16 total(int w) const { return (part[0][w] + part[2][w]) + (part[1][w] + part[3][w]); }
};

// Columns of S: row k of what is read at in + k stride, of what is written at out + k stride.
struct Columns {
  const float* in;
  float* out;
  int64_t stride;
};

// Asks for a row that the passes below reach some rows later; it may lie behind the end.
RNL_INLINE void ask_for(const float* row) {
  RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) __builtin_prefetch(row + w * 16);
}
constexpr int64_t kAhead = 12;

// sum_k x[k] s[k], keys padded to a multiple of 4. Here and below the sums are local while the loop runs: another's
// memory could be what is read.
__attribute__((noinline)) void product(const float* x, const Columns& s, int64_t keys, Sums& out) {
  Sums sums;
  sums.clear();
  const int64_t stride = s.stride;
  const float* row = s.in;
  for (int64_t k = 0; k < keys; k += 4)
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i, row += stride) {
      if (stride != kColumns) ask_for(row + kAhead * stride);
      RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w)
        sums.part[i][w] = fma(splat(x[k + i]), load(row + w * 16), sums.part[i][w]);
    }
  out = sums;
}

// Copies a row of `key` floats and pads it to a multiple of 4.
RNL_INLINE const float* padded(const float* x, int64_t key, int64_t keys, float* buffer) {
  if (key == keys) return x;
  for (int64_t k = 0; k < key; ++k) buffer[k] = x[k];
  for (int64_t k = key; k < keys; ++k) buffer[k] = 0.0f;
  return buffer;
}

// S = f S + x d (+ z low), and q . S when kRead.
template <bool kVectorDecay, bool kLow, bool kRead>
__attribute__((noinline)) void change(const Columns& s, const float* x, const f32x16* added, const float* z,
                                      const f32x16* lows, const float* f_keys, float f_all, const float* q,
                                      int64_t keys, Sums& total) {
  Sums sums;
  f32x16 d[kVectors], low[kVectors];
  RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) d[w] = added[w], low[w] = lows[w];
  if (kRead) sums.clear();
  const int64_t stride = s.stride;
  const float* in = s.in;
  float* out = s.out;
  for (int64_t k = 0; k < keys; k += 4)
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i, in += stride, out += stride) {
      if (stride != kColumns) ask_for(in + kAhead * stride);
      const f32x16 f = splat(kVectorDecay ? f_keys[k + i] : f_all), xk = splat(x[k + i]);
      RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) {
        f32x16 v = fma(xk, d[w], f * load(in + w * 16));
        if (kLow) v = fma(splat(z[k + i]), low[w], v);
        store(out + w * 16, v);
        if (kRead) sums.part[i][w] = fma(splat(q[k + i]), v, sums.part[i][w]);
      }
    }
  if (kRead) total = sums;
}

using ChangeFn = void (*)(const Columns&, const float*, const f32x16*, const float*, const f32x16*, const float*, float,
                          const float*, int64_t, Sums&);
#define RNL_PAIR(decay, low) \
  { change<decay, low, false>, change<decay, low, true> }
constexpr ChangeFn kChange[2][2][2] = {{RNL_PAIR(false, false), RNL_PAIR(false, true)},
                                       {RNL_PAIR(true, false), RNL_PAIR(true, true)}};
#undef RNL_PAIR

void slice(const Job& j, int64_t h, int64_t col, float* scratch) {
  const int64_t keys = (j.key + 3) / 4 * 4;
  float* s = scratch;
  float* rows = s + keys * kColumns;  // six padded rows: decay, decayed k, q, k, a, b
  float *decays = rows, *decayed = rows + keys, *pad_q = rows + 2 * keys, *pad_k = rows + 3 * keys,
        *pad_a = rows + 4 * keys, *pad_b = rows + 5 * keys;
  int lanes[kVectors];
  RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) {
    const int64_t left = j.value - col - w * 16;
    lanes[w] = left < 0 ? 0 : left < 16 ? int(left) : 16;
  }
  const MatrixRecurrenceParams& p = j.p;
  const bool before = p.read == RecurrenceRead::kBefore, by_channel = j.decay_rank == 3,
             is_dplr = p.rule == RecurrenceRule::kDplr;
  for (int64_t run = 0; run < j.runs.count; ++run) {
    const Run r = run_at(j.runs, run);
    const bool is_lone =
        r.count == 1 && j.state.in && j.state.out && !j.state.is_half && keys == j.key && lanes[kVectors - 1] == 16;
    const int64_t corner = h * j.key * j.value + col;
    Columns columns{s, s, kColumns};
    if (is_lone)
      columns = {static_cast<const float*>(j.state.in) + corner, static_cast<float*>(j.state.out) + corner, j.value};
    for (int64_t k = 0; k < keys && !is_lone; ++k) {
      if (j.state.in && !j.state.is_half)
        ask_for(static_cast<const float*>(j.state.in) + corner + (k + kAhead) * j.value);
      RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w)
        store(s + (k * kVectors + w) * 16, k < j.key && lanes[w]
                                               ? load_state(j.state, (h * j.key + k) * j.value + col + w * 16, lanes[w])
                                               : splat(0.0f));
    }
    for (int64_t i = 0; i < r.count; ++i) {
      const int64_t t = r.first + i * r.step;
      const float* q = padded(j.q.row(t, h), j.key, keys, pad_q);
      Sums out;
      f32x16 y[kVectors];
      if (before) {
        product(q, columns, keys, out);
        RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) y[w] = out.total(w);
      }
      const float forget = j.forget ? j.forget[h * j.tokens + t] : 1.0f;
      if (by_channel) {
        const float* log_decay = j.decay + t * j.decay_step + h * j.key;
        for (int64_t k = 0; k < j.key; k += 16) {
          const int n = j.key - k < 16 ? int(j.key - k) : 16;
          store_lanes(decays + k, exp(load_lanes(log_decay + k, n)), n);
        }
        for (int64_t k = j.key; k < keys; ++k) decays[k] = 0.0f;
      }
      for (int64_t step = 0; step < p.steps; ++step) {
        const int64_t row = t * p.steps + step;
        const bool is_first = step == 0, is_last = step + 1 == p.steps;
        const float* key = padded(j.k.row(row, h), j.key, keys, pad_k);
        f32x16 d[kVectors], low[kVectors] = {};
        RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w)
          d[w] = lanes[w] ? load_lanes(j.v.row(row, h) + col + w * 16, lanes[w]) : splat(0.0f);
        if (before && j.bonus) {
          float bonus = 0.0f;
          for (int64_t k = 0; k < j.key; ++k) bonus += q[k] * j.bonus[h * j.key + k] * key[k];
          RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) y[w] = fma(splat(bonus), d[w], y[w]);
        }
        const float f = is_first ? forget : 1.0f;
        const bool by_keys = by_channel && is_first;
        Sums seen;
        const float *a = nullptr, *b = nullptr;
        if (p.rule == RecurrenceRule::kDelta) {
          const float* x = key;
          if (by_keys) {
            for (int64_t k = 0; k < keys; ++k) decayed[k] = key[k] * decays[k];
            x = decayed;
          }
          product(x, columns, keys, seen);
          const f32x16 beta = splat(j.beta ? j.beta[row * j.heads + h] : 1.0f);
          RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w)
            d[w] = beta * (d[w] - (by_keys ? seen.total(w) : splat(f) * seen.total(w)));
        }
        if (is_dplr) {
          a = padded(j.a.row(row, h), j.key, keys, pad_a), b = padded(j.b.row(row, h), j.key, keys, pad_b);
          product(a, columns, keys, seen);
          RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) low[w] = seen.total(w);
        }
        if (j.input)
          RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) d[w] = splat(j.input[h * j.tokens + t]) * d[w];
        const bool reads = is_last && !before;
        kChange[by_keys][is_dplr][reads](columns, key, d, b, low, decays, f, q, keys, out);
        columns.in = columns.out;
        if (reads)
          RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) y[w] = out.total(w);
      }
      RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w) {
        if (!lanes[w]) continue;
        y[w] = y[w] * p.scale;
        if (j.divisor) y[w] = y[w] / splat(j.divisor[h * j.tokens + t]);
        store_lanes(j.y + (t * j.heads + h) * j.value + col + w * 16, y[w], lanes[w]);
      }
    }
    if (j.state.out && !is_lone)
      for (int64_t k = 0; k < j.key; ++k)
        RNL_UNROLL_FOR (int w = 0; w < kVectors; ++w)
          if (lanes[w])
            store_state(j.state, (h * j.key + k) * j.value + col + w * 16, load(s + (k * kVectors + w) * 16), lanes[w]);
  }
}

bool needs_forget(const OpCall& c) { return has_input(c, kGate) || (has_input(c, kDecay) && c.in[kDecay].rank < 3); }
bool needs_divisor(const OpCall& c) { return params_of<MatrixRecurrenceParams>(c).normalise != RecurrenceNorm::kNone; }
size_t worker_floats(const OpCall& c) {
  const size_t keys = size_t(c.in[kQ].dims[2] + 3) / 4 * 4;
  return keys * (kColumns + 6) + 16;
}
size_t shared_floats(const OpCall& c) { return (size_t(c.out[0].dims[0] * c.out[0].dims[1]) + 15) / 16 * 16; }
size_t scratch_bytes(const OpCall& c, int workers) {
  const size_t arrays = size_t(needs_forget(c)) + size_t(has_input(c, kGate)) + size_t(needs_divisor(c));
  return (arrays * shared_floats(c) + (worker_floats(c) + 15) / 16 * 16 * size_t(workers)) * 4;
}

Shared shared(const OpCall& c, int i, int64_t heads) {
  if (!has_input(c, i)) return {nullptr, 1, 0, 1};
  return {static_cast<const float*>(c.in[i].data), c.in[i].dims[1], c.in[i].dims[2], heads / c.in[i].dims[1]};
}

void run(const OpCall& c) {
  Job j{};
  j.p = params_of<MatrixRecurrenceParams>(c);
  j.tokens = c.out[0].dims[0], j.heads = c.out[0].dims[1], j.value = c.out[0].dims[2], j.key = c.in[kQ].dims[2];
  j.q = shared(c, kQ, j.heads), j.k = shared(c, kK, j.heads), j.v = shared(c, kV, j.heads),
  j.a = shared(c, kA, j.heads), j.b = shared(c, kB, j.heads);
  j.decay = input<float>(c, kDecay), j.beta = input<float>(c, kBeta), j.bonus = input<float>(c, kBonus),
  j.gate = input<float>(c, kGate), j.max_in = input<float>(c, kMax);
  j.decay_rank = j.decay ? int(c.in[kDecay].rank) : 0;
  j.decay_step = j.decay_rank == 3 && c.in[kDecay].dims[0] > 1 ? j.heads * j.key : 0;
  j.y = output<float>(c, 0);
  j.max_out = 3 < c.out_count && c.out[3].dtype != DType::kNone ? output<float>(c, 3) : nullptr;
  j.state = state_place(c, kState, 1);
  j.norm = state_place(c, kNorm, 2);
  j.runs = runs_of(c, kSegments, j.tokens, j.p.reverse);
  float* at = reinterpret_cast<float*>(c.scratch);
  const size_t each = shared_floats(c);
  if (needs_forget(c)) j.forget = at, at += each;
  if (j.gate) j.input = at, at += each;
  if (needs_divisor(c)) j.divisor = at, at += each;
  j.scratch = at;
  j.scratch_floats = (worker_floats(c) + 15) / 16 * 16;
  if (j.forget || j.divisor) {
    const bool small = j.tokens * j.heads * (j.divisor ? j.key : 1) < 16384;
    parallel_for(
        small ? nullptr : c.pool, j.heads,
        [](void* context, int64_t h, int worker) {
          const Job& job = *static_cast<const Job*>(context);
          prepare_head(job, h, job.scratch + size_t(worker) * job.scratch_floats);
        },
        &j);
  }
  j.slices = (j.value + kColumns - 1) / kColumns;
  const int64_t tasks = j.heads * j.slices;
  const bool small = j.tokens * tasks * j.key * kColumns < 32768;
  parallel_for(
      small || tasks < 2 ? nullptr : c.pool, tasks,
      [](void* context, int64_t task, int worker) {
        const Job& job = *static_cast<const Job*>(context);
        slice(job, task / job.slices, task % job.slices * kColumns, job.scratch + size_t(worker) * job.scratch_floats);
      },
      &j);
}

constexpr Kernel kRows[] = {{"matrix_recurrence_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList matrix_recurrence_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
