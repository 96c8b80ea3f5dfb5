// Work is cut into items: up to kItemRows query rows (tokens x the query heads of one kv head) that share each
// converted key and value. An item walks the spans that any of its rows sees: products with 16 keys at a time, one
// softmax over the row's part of the span, products with the values, then the span's maximum, sum and values are merged
// into the row's. When a call has few rows (decode), spans are the tasks instead, their results wait in scratch, and
// the caller merges them in the same order.
#pragma once

#include "ops/attention/span.inl"

namespace runnel::RNL_ISA {
namespace {

RNL_INLINE float weight_of(float m, float largest) {
  return m == -__builtin_inff() ? 0.0f : exp(splat(m - largest))[0];
}

// Adds a span's result to a row's; the same steps wherever the span was computed.
void merge(float span_max, float span_sum, const float* span_acc, float* max_, float* sum, float* acc, int64_t n) {
  const float largest = span_max > *max_ ? span_max : *max_;
  const float old_weight = weight_of(*max_, largest), new_weight = weight_of(span_max, largest);
  *sum = *sum * old_weight + span_sum * new_weight;
  *max_ = largest;
  const f32x16 a = splat(old_weight), b = splat(new_weight);
  for (int64_t i = 0; i < n; i += 16) store(acc + i, fma(load(acc + i), a, load(span_acc + i) * b));
}

template <class Seen>
void start_row(const Job<Seen>& j, Work& w, int r) {
  const int64_t n = j.value_padded;
  w.max[r] = -__builtin_inff();
  w.sum[r] = 0;
  __builtin_memset(w.acc + r * n, 0, size_t(n) * sizeof(float));
  if constexpr (Seen::kLists) {
    const Row row = row_of(j, w.item, r);
    const int64_t at = row.query * j.heads + row.head;
    if (!j.seen.lse_before || j.seen.lse_before[at] == -__builtin_inff()) return;
    w.max[r] = j.seen.lse_before[at];
    w.sum[r] = 1;
    __builtin_memcpy(w.acc + r * n, j.seen.before + at * j.kv.value, size_t(j.kv.value) * sizeof(float));
  }
}

// Divides by the denominator, with the sink in it, and writes y.
template <class Seen>
__attribute__((noinline)) void finish_row(const Job<Seen>& j, const Work& w, int r) {
  const int64_t row = w.item.first + r, head = w.item.head * j.group + row % j.group;
  float scale = 1, sum = w.sum[r];
  if (j.sinks) {
    const float sink = j.sinks[head], largest = sink > w.max[r] ? sink : w.max[r];
    scale = weight_of(w.max[r], largest);
    sum = sum * scale + weight_of(sink, largest);
  }
  if (j.lse) {
    const float largest = j.sinks && j.sinks[head] > w.max[r] ? j.sinks[head] : w.max[r];
    j.lse[(w.item.begin + row / j.group) * j.heads + head] =
        sum == 0 ? -__builtin_inff() : largest + log(splat(sum))[0];
  }
  f32x16 factor = splat(sum == 0 ? 0.0f : scale / sum);
  if constexpr (Seen::kLists)
    if (j.seen.is_sigmoid()) factor = splat(1);
  float* y = j.y + ((w.item.begin + row / j.group) * j.heads + head) * j.kv.value;
  const float* acc = w.acc + r * j.value_padded;
  for (int64_t i = 0; i < j.kv.value; i += 16) {
    const f32x16 v = load(acc + i) * factor;
    if (j.kv.value - i >= 16) store(y + i, v);
    else store_n(y + i, v, int(j.kv.value - i));
  }
}

// First and last position that any row sees.
void item_range(const Work& w, int64_t* low, int64_t* high) {
  *low = w.low[0];
  *high = w.high[0];
  for (int r = 1; r < w.item.rows; ++r) {
    if (w.low[r] < *low) *low = w.low[r];
    if (w.high[r] > *high) *high = w.high[r];
  }
}

template <class Seen>
void run_item(void* context, int64_t task, int worker) {
  const Job<Seen>& j = *static_cast<const Job<Seen>*>(context);
  Work w;
  // The last rows see most when causal: they go first, so that no long task is left for the end.
  prepare(j, find_item(j, j.items_per_head * j.kv.kv_heads - 1 - task), worker, &w);
  for (int r = 0; r < w.item.rows; ++r) start_row(j, w, r);
  int64_t low, high;
  item_range(w, &low, &high);
  for (int64_t span = low / kSpan; span * kSpan < high; ++span) {
    attend_span(j, w, span);
    for (int r = 0; r < w.item.rows; ++r)
      if (w.lo[r] < w.hi[r])
        merge(w.span_max[r], w.span_sum[r], w.span_acc + r * j.value_padded, &w.max[r], &w.sum[r],
              w.acc + r * j.value_padded, j.value_padded);
  }
  for (int r = 0; r < w.item.rows; ++r) finish_row(j, w, r);
}

template <class Seen>
float* partial(const Job<Seen>& j, int64_t head, int64_t span, int rows, int r) {
  return j.partials + ((head * j.spans + span) * rows + r) * (j.value_padded + 16);
}

template <class Seen>
void run_span(void* context, int64_t task, int worker) {
  const Job<Seen>& j = *static_cast<const Job<Seen>*>(context);
  Work w;
  prepare(j, find_item(j, task / j.spans), worker, &w);
  const int64_t span = task % j.spans;
  attend_span(j, w, j.first_span + span);
  for (int r = 0; r < w.item.rows; ++r) {
    float* to = partial(j, w.item.head, span, w.item.rows, r);
    to[j.value_padded + 2] = w.lo[r] < w.hi[r];
    if (w.lo[r] >= w.hi[r]) continue;
    __builtin_memcpy(to, w.span_acc + r * j.value_padded, size_t(j.value_padded) * sizeof(float));
    to[j.value_padded] = w.span_max[r];
    to[j.value_padded + 1] = w.span_sum[r];
  }
}

template <class Seen>
void merge_spans(const Job<Seen>& j) {
  Work w;
  for (int64_t head = 0; head < j.kv.kv_heads; ++head) {
    prepare(j, find_item(j, head), 0, &w);
    for (int r = 0; r < w.item.rows; ++r) {
      start_row(j, w, r);
      for (int64_t span = 0; span < j.spans; ++span) {
        const float* from = partial(j, head, span, w.item.rows, r);
        if (from[j.value_padded + 2] != 0)
          merge(from[j.value_padded], from[j.value_padded + 1], from, &w.max[r], &w.sum[r], w.acc + r * j.value_padded,
                j.value_padded);
      }
      finish_row(j, w, r);
    }
  }
}

template <class Seen>
RNL_INLINE bool is_stored(const Job<Seen>& j, int64_t p) {
  if constexpr (Seen::kLists) return j.seen.is_stored(p);
  return true;
}

// Tokens of this call into their slots, 16 at a time, so that no two tasks write into one cache line of a key tile.
template <class Seen>
void write_states(const Job<Seen>& j, ThreadPool* pool) {
  const int64_t first = j.position / 16, pieces = (j.position + j.tokens - 1) / 16 - first + 1;
  const bool large = j.tokens * j.kv.kv_heads * (j.kv.key + j.kv.value) >= 32768;
  parallel_for(
      large ? pool : nullptr, pieces,
      [](void* context, int64_t task, int) {
        const Job<Seen>& job = *static_cast<const Job<Seen>*>(context);
        const int64_t begin = (job.position / 16 + task) * 16;
        for (int64_t p = begin; p < begin + 16; ++p)
          if (p >= job.position && p < job.position + job.tokens && (p + 1) % job.stride == 0 && is_stored(job, p))
            for (int64_t h = 0; h < job.kv.kv_heads; ++h)
              write_slot(job.kv, p - job.position, h, p / job.stride % job.kv.slots);
      },
      const_cast<Job<Seen>*>(&j));
}

// Sizes of the values: of the call's own, or of the state when another operator wrote them.
int64_t value_of(const OpCall& c) { return c.in[has_input(c, kV) ? kV : kValueState].dims[2]; }

size_t partial_floats(const OpCall& c) {
  if (!has_input(c, kKeyState)) return 0;
  const int64_t kv_heads = c.in[kValueState].dims[0], rows = c.in[kQ].dims[0] * (c.in[kQ].dims[1] / kv_heads);
  const int64_t spans = c.in[kValueState].dims[1] / kSpan + 2, padded = (value_of(c) + 15) & ~int64_t(15);
  return size_t(kv_heads * spans * (rows < kSplitRows ? rows : kSplitRows) * (padded + 16));
}

size_t sequence_bytes(const OpCall& c) {
  const int64_t n = has_input(c, kSegments) ? c.in[kSegments].dims[0] : 2;
  return size_t((n * 8 + 63) & ~int64_t(63));
}

size_t scratch_bytes(const OpCall& c, int workers) {
  const int64_t padded = (value_of(c) + 15) & ~int64_t(15);
  return sequence_bytes(c) +
         sizeof(float) * (size_t(workers) * worker_floats(c.in[kQ].dims[2], padded) + partial_floats(c));
}

template <class Seen>
void run_attention(const OpCall& c, const Seen& seen) {
  const AttentionParams& p = params_of<AttentionParams>(c);
  Job<Seen> j{};
  j.seen = seen;
  j.tokens = c.in[kQ].dims[0];
  if (j.tokens == 0) return;
  j.states = has_input(c, kKeyState);
  j.kv = {input<float>(c, kK),
          input<float>(c, kV),
          nullptr,
          nullptr,
          DType::kNone,
          j.states ? c.in[kValueState].dims[0] : c.in[kV].dims[1],
          c.in[kQ].dims[2],
          value_of(c),
          0};
  if (j.states) {
    j.kv.k_state = static_cast<unsigned char*>(c.in[kKeyState].data);
    j.kv.v_state = static_cast<unsigned char*>(c.in[kValueState].data);
    j.kv.dtype = c.in[kKeyState].dtype;
    j.kv.slots = c.in[kValueState].dims[1];
    j.position = c.position;
  }
  j.q = input<float>(c, kQ);
  j.sinks = input<float>(c, kSinks);
  j.bias = input<float>(c, kBias);
  j.bounds = input<int32_t>(c, kSegments);
  j.call_tokens = input<int32_t>(c, kQueryTokens);
  if (j.bias) {
    const TensorView& b = c.in[kBias];
    j.bias_head = b.dims[0] == 1 ? 0 : b.dims[1] * b.dims[2];
    j.bias_token = b.dims[1] == 1 ? 0 : b.dims[2];
  }
  j.y = output<float>(c, 0);
  j.heads = c.in[kQ].dims[1];
  j.group = j.heads / j.kv.kv_heads;
  j.value_padded = (j.kv.value + 15) & ~int64_t(15);
  j.lse = c.out_count > 1 && c.out[1].dtype != DType::kNone ? output<float>(c, 1) : nullptr;
  j.window = p.window;
  j.stride = p.stride;
  j.keys = j.states || j.bounds || p.causal ? 0 : c.in[kK].dims[0];
  j.scale = p.scale;
  j.softcap = p.softcap;
  j.causal = p.causal;
  j.sequences = j.bounds ? c.in[kSegments].dims[0] - 1 : 1;
  int64_t* first_item = reinterpret_cast<int64_t*>(c.scratch);
  first_item[0] = 0;
  for (int64_t s = 0; s < j.sequences; ++s) {
    const int64_t tokens = j.bounds ? j.bounds[s + 1] - j.bounds[s] : j.tokens;
    first_item[s + 1] = first_item[s] + (tokens * j.group + kItemRows - 1) / kItemRows;
  }
  j.first_item = first_item;
  j.items_per_head = first_item[j.sequences];
  const int workers = c.pool ? thread_pool_size(c.pool) : 1;
  j.worker_floats = worker_floats(j.kv.key, j.value_padded);
  j.workers = reinterpret_cast<float*>(c.scratch + sequence_bytes(c));
  j.partials = j.workers + size_t(workers) * j.worker_floats;
  if (j.states && has_input(c, kK)) write_states(j, c.pool);

  int64_t first = 0, last = j.tokens - 1;  // token of the call
  for (int64_t t = 0; j.call_tokens && t < j.tokens; ++t) {
    if (t == 0 || j.call_tokens[t] < first) first = j.call_tokens[t];
    if (t == 0 || j.call_tokens[t] > last) last = j.call_tokens[t];
  }
  const int64_t rows = j.tokens * j.group;
  int64_t end = j.keys ? j.keys : (j.position + last + 1) / j.stride;
  int64_t low = j.window > 0 && j.position + first - j.window + 1 > 0 ? j.position + first - j.window + 1 : 0;
  if constexpr (Seen::kLists) j.seen.narrow_call(&low, &end);
  j.first_span = low / kSpan;
  j.spans = (end - 1) / kSpan - j.first_span + 1;
  const bool heavy =
      double(j.kv.kv_heads) * double(rows) * double(end - low) * double(j.kv.key + j.kv.value) >= double(1 << 19);
  if (j.states && workers > 1 && heavy && rows <= kSplitRows && j.spans > 1) {
    parallel_for(c.pool, j.kv.kv_heads * j.spans, run_span<Seen>, &j);
    merge_spans(j);
  } else {
    const int64_t items = j.items_per_head * j.kv.kv_heads;
    parallel_for(heavy && items > 1 ? c.pool : nullptr, items, run_item<Seen>, &j);
  }
}

}  // namespace
}  // namespace runnel::RNL_ISA
