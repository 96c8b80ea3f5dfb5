// A task is a kv head: token by token, the rows of its query heads meet the slots as attention's do that read a state
// in place.
#include "cpu/call.h"
#include "ops/attention/tiles.inl"
#include "ops/budget_attention/budget_attention.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kV, kKeys, kValues, kWeights };

struct Job {
  const OpCall* call;
  const BudgetAttentionParams* params;
  KeyValues kv;  // the states that go out
  float* weights;
  int64_t group;
  float* workers;
  size_t worker_floats;
};

int64_t padded_slots(const OpCall& c) { return c.in[kKeys].dims[1] * 16; }

// Scores of kDirectRows rows in their stride, queries and values of these rows, two lists of slots.
size_t worker_floats(const OpCall& c) {
  const int64_t slots = padded_slots(c), spans = (slots + kSpan - 1) / kSpan;
  return size_t(kDirectRows * (spans * kScoreStride + c.in[kQ].dims[2] + c.in[kV].dims[2]) + 2 * slots + 64);
}
size_t scratch_bytes(const OpCall& c, int workers) { return size_t(workers) * worker_floats(c) * sizeof(float); }
bool supports(const OpCall& c) { return c.in[kV].dims[2] % 16 == 0; }

// Weights e^(score - largest) / sum of n slots in spans of kSpan, each a row of `scores`.
void normalise(float* scores, int64_t n, int64_t span_stride) {
  const float inf = __builtin_inff();
  f32x16 top = splat(-inf), sum = splat(0);
  const auto for_tiles = [&](auto fn) RNL_LAMBDA {
    for (int64_t x = 0; x < n; x += 16) {
      float* at = scores + x / kSpan * span_stride + x % kSpan;
      store(at, fn(load(at), n - x));
    }
  };
  for_tiles([&](const f32x16& v, int64_t left) RNL_LAMBDA {
    const f32x16 seen = left < 16 ? select(lane_numbers() < int(left), v, splat(-inf)) : v;
    top = max(top, seen);
    return seen;
  });
  const f32x16 largest = splat(reduce_max(top));
  for_tiles([&](const f32x16& v, int64_t) RNL_LAMBDA {
    const f32x16 e = exp(v - largest);
    sum = sum + e;
    return e;
  });
  const f32x16 scale = splat(1 / reduce_add(sum));
  for_tiles([&](const f32x16& v, int64_t) RNL_LAMBDA { return v * scale; });
}

// Up to kDirectRows query heads from `head` on of token t over the slots 0 .. n - 1.
template <class E>
void attend(const Job& j, int64_t t, int64_t g, int64_t first, int rows, int64_t n, bool is_counted, float* memory) {
  const OpCall& c = *j.call;
  const KeyValues& kv = j.kv;
  const Products& products = *direct_products<E>(rows == 3 ? kDirectRows : rows);
  const int R = products.rows;
  const int64_t spans = (kv.slots + kSpan - 1) / kSpan, span_stride = R * int64_t(kScoreStride),
                heads = c.in[kQ].dims[1];
  float *scores = memory, *q = scores + kDirectRows * spans * kScoreStride, *acc = q + kDirectRows * kv.key;
  for (int r = 0; r < R; ++r) {
    const float* from = input<float>(c, kQ) + (t * heads + first + r) * kv.key;
    for (int64_t d = 0; d < kv.key; ++d) q[d * R + r] = r < rows ? from[d] * j.params->scale : 0.0f;
  }
  const E* keys = reinterpret_cast<const E*>(kv.k_state) + g * kv.slots * kv.key;
  for (int64_t x = 0; x < n;) {
    const bool is_wide = x + 16 * products.wide <= kv.slots && x % kSpan + 16 * products.wide <= kSpan;
    (is_wide ? products.keys_wide : products.keys_one)(q, keys + x * kv.key, kv.key,
                                                       scores + x / kSpan * span_stride + x % kSpan);
    x += is_wide ? 16 * products.wide : 16;
  }
  for (int r = 0; r < rows; ++r) normalise(scores + r * kScoreStride, n, span_stride);
  float* weights = j.weights + g * kv.slots;
  for (int r = 0; is_counted && r < rows; ++r)
    for (int64_t s = 0; s < n; ++s) weights[s] += scores[s / kSpan * span_stride + r * kScoreStride + s % kSpan];
  for (int64_t i = 0; i < R * kv.value; ++i) acc[i] = 0;
  const E* values = reinterpret_cast<const E*>(kv.v_state) + g * kv.slots * kv.value;
  for (int64_t x = 0; x < n; x += kSpan) {
    const int64_t count = n - x < kSpan ? n - x : kSpan;
    for (int64_t col = 0; col < kv.value;) {
      const bool is_wide = col + 16 * products.wide <= kv.value;
      (is_wide ? products.values_wide : products.values_one)(
          scores + x / kSpan * span_stride, values + x * kv.value + col, kv.value, count, acc + col, kv.value);
      col += is_wide ? 16 * products.wide : 16;
    }
  }
  __builtin_memcpy(output<float>(c, 0) + (t * heads + first) * kv.value, acc, size_t(rows * kv.value) * sizeof(float));
}

template <class E>
void move_slot(const KeyValues& kv, int64_t g, int64_t to, int64_t from) {
  E* keys = reinterpret_cast<E*>(kv.k_state) + g * kv.slots * kv.key;
  E *a = keys + to / 16 * kv.key * 16 + to % 16, *b = keys + from / 16 * kv.key * 16 + from % 16;
  for (int64_t d = 0; d < kv.key; ++d) a[d * 16] = b[d * 16];
  E* values = reinterpret_cast<E*>(kv.v_state) + g * kv.slots * kv.value;
  __builtin_memcpy(values + to * kv.value, values + from * kv.value, size_t(kv.value) * sizeof(E));
}

template <class E>
void run_head(void* context, int64_t g, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const OpCall& c = *j.call;
  const BudgetAttentionParams& p = *j.params;
  float *memory = j.workers + size_t(worker) * j.worker_floats, *weights = j.weights + g * j.kv.slots;
  int32_t* order = reinterpret_cast<int32_t*>(memory + j.worker_floats - 2 * j.kv.slots);
  int32_t* kept = order + j.kv.slots;
  const int64_t tokens = c.in[kQ].dims[0], P = p.block;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t at = c.position + t, n = slots_in_use(p, at) + 1;
    write_slot(j.kv, t, g, n - 1);
    weights[n - 1] = 0;
    const bool is_counted = p.window == 0 || at % P >= P - int64_t(p.window);
    for (int64_t r = 0; r < j.group; r += kDirectRows)
      attend<E>(j, t, g, g * j.group + r, int(j.group - r < kDirectRows ? j.group - r : kDirectRows), n, is_counted,
                memory);
    if ((at + 1) % P != 0) continue;
    const int64_t count = keep_slots(p, weights, n, order, kept);
    for (int64_t i = 0; i < count; ++i) {
      if (kept[i] != i) move_slot<E>(j.kv, g, i, kept[i]);
      weights[i] = p.window > 0 ? 0 : weights[kept[i]];
    }
  }
}

void run(const OpCall& c) {
  Job j{};
  j.call = &c;
  j.params = &params_of<BudgetAttentionParams>(c);
  for (int i = 0; i < 3; ++i)
    if (c.out[1 + i].data != c.in[kKeys + i].data)
      __builtin_memcpy(c.out[1 + i].data, c.in[kKeys + i].data,
                       size_t(elements_of(c.in[kKeys + i])) * (c.in[kKeys + i].dtype == DType::kF16 ? 2 : 4));
  j.kv.k = input<float>(c, kK), j.kv.v = input<float>(c, kV);
  j.kv.k_state = output<unsigned char>(c, 1), j.kv.v_state = output<unsigned char>(c, 2);
  j.kv.dtype = c.in[kKeys].dtype;
  j.kv.kv_heads = c.in[kK].dims[1], j.kv.key = c.in[kK].dims[2], j.kv.value = c.in[kV].dims[2];
  j.kv.slots = padded_slots(c);
  j.weights = output<float>(c, 3);
  j.group = c.in[kQ].dims[1] / j.kv.kv_heads;
  j.workers = reinterpret_cast<float*>(c.scratch);
  j.worker_floats = worker_floats(c);
  parallel_for(j.kv.kv_heads > 1 ? c.pool : nullptr, j.kv.kv_heads,
               j.kv.dtype == DType::kF16 ? run_head<uint16_t> : run_head<float>, &j);
}

constexpr Kernel kRows[] = {{"budget_attention_f32__" RNL_ISA_NAME, supports, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList budget_attention_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
