// Work is cut into items: up to kItemRows query rows (tokens x the query heads of one kv head) that share each
// converted key and value. An item walks the spans that any of its rows sees: products with 16 keys at a time, one
// softmax over the row's part of the span, products with the values, then the span's maximum, sum and values are merged
// into the row's. When a call has few rows (decode), spans are the tasks instead, their results wait in scratch, and
// the caller merges them in the same order.
#include "cpu/call.h"
#include "ops/attention/attention.h"
#include "ops/attention/tiles.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

enum Input { kQ, kK, kV, kKeyState, kValueState, kSinks, kBias, kSegments, kQueryTokens };

constexpr int kSplitRows = 12;   // rows of a kv head up to which spans may be the tasks
constexpr int kDirectLimit = 8;  // rows up to which states are read in place, each element converted once per block

struct Job {
  KeyValues kv;
  const float *q, *sinks, *bias;
  float *y, *lse;
  const int32_t* bounds;       // of the sequences; null: one
  const int32_t* call_tokens;  // which token of the call a query is; null: the one of its index
  const int64_t* first_item;   // [sequences + 1], items of one kv head before each sequence
  int64_t sequences, items_per_head;
  int64_t tokens, keys, heads, group, value_padded, bias_heads, bias_keys, position, window, stride;
  float scale, softcap;
  bool causal, states;
  float* workers;  // worker_floats each
  size_t worker_floats;
  float* partials;  // split mode: [kv_heads, spans, rows, value_padded + 16], the maximum and the sum behind the values
  int64_t first_span, spans;
};

// Rows `first` .. `first + rows - 1` (row = token of the sequence * group + query head of the group) of one kv head.
struct Item {
  int64_t head, begin;  // begin: the sequence's first token in this call
  int64_t base, end;    // positions of its first token and behind its last
  int64_t first;
  int rows;
};

// Rows that go through the inner products together. In a panel block, rows behind `rows` are padding.
struct Block {
  int first, rows;
  const Products* products;
};

struct Work {
  Item item;
  Block blocks[kItemRows];
  int block_count;
  bool direct;
  int64_t low[kItemRows], high[kItemRows];  // positions that a row sees
  int lo[kItemRows], hi[kItemRows];         // the same within the current span; lo >= hi: nothing
  float *q, *scores, *panel, *span_acc, *acc, *span_max, *span_sum, *max, *sum;
};

size_t worker_floats(int64_t key, int64_t value_padded) {
  const int64_t panel = 16 * (key > kSpan ? key : kSpan);
  return size_t(kItemRows * (key + kScoreStride + 2 * value_padded + 4) + panel);
}

Item find_item(const Job& j, int64_t index) {
  Item it{};
  it.head = index / j.items_per_head;
  int64_t block = index % j.items_per_head, low = 0, high = j.sequences;
  while (high - low > 1) {
    const int64_t mid = (low + high) / 2;
    (j.first_item[mid] <= block ? low : high) = mid;
  }
  it.begin = j.bounds ? j.bounds[low] : 0;
  const int64_t tokens = (j.bounds ? j.bounds[low + 1] : j.tokens) - it.begin;
  it.base = j.states ? j.position : 0;
  it.end = it.base + (j.keys ? j.keys : tokens);
  it.first = (block - j.first_item[low]) * kItemRows;
  const int64_t rows = tokens * j.group - it.first;
  it.rows = int(rows < kItemRows ? rows : kItemRows);
  return it;
}

// Points the work at a worker's memory, cuts the rows into blocks, finds what they see and packs their queries, scaled,
// as [key][rows].
void prepare(const Job& j, const Item& item, int worker, Work* w) {
  float* at = j.workers + size_t(worker) * j.worker_floats;
  const auto take = [&at](int64_t n) {
    float* p = at;
    at += n;
    return p;
  };
  const int64_t key = j.kv.key;
  w->item = item;
  w->scores = take(kItemRows * kScoreStride);
  w->panel = take(16 * (key > kSpan ? key : kSpan));
  w->span_acc = take(kItemRows * j.value_padded);
  w->acc = take(kItemRows * j.value_padded);
  w->q = take(kItemRows * key);
  w->span_max = take(kItemRows);
  w->span_sum = take(kItemRows);
  w->max = take(kItemRows);
  w->sum = take(kItemRows);
  w->direct =
      item.rows <= kDirectLimit && j.kv.value % 16 == 0 && (j.kv.dtype == DType::kF32 || j.kv.dtype == DType::kF16);
  w->block_count = 0;
  for (int r = 0; r < item.rows;) {
    const int left = item.rows - r;
    const Products* products = &kPanelProducts;
    if (w->direct) {
      const int size = left >= kDirectRows - 1 ? kDirectRows : left;
      products = j.kv.dtype == DType::kF16 ? direct_products<uint16_t>(size) : direct_products<float>(size);
    }
    w->blocks[w->block_count++] = {r, left < products->rows ? left : products->rows, products};
    r += products->rows;
  }
  for (int r = 0; r < item.rows; ++r) {
    const int64_t token = (item.first + r) / j.group, p = item.base + (j.call_tokens ? j.call_tokens[token] : token);
    w->low[r] = j.window > 0 && p - j.window + 1 > 0 ? p - j.window + 1 : 0;
    w->high[r] = j.causal ? (j.stride > 1 ? (p + 1) / j.stride : p + 1) : item.end;
    if (j.window > 0 && w->high[r] > p + j.window) w->high[r] = p + j.window;
  }
  for (int b = 0; b < w->block_count; ++b) {
    const Block& block = w->blocks[b];
    const int size = block.products->rows;
    float* to = w->q + block.first * key;
    for (int i = 0; i < size; ++i) {
      if (i >= block.rows) {
        for (int64_t d = 0; d < key; ++d) to[d * size + i] = 0;
        continue;
      }
      const int64_t row = item.first + block.first + i;
      const float* from = j.q + ((item.begin + row / j.group) * j.heads + item.head * j.group + row % j.group) * key;
      for (int64_t d = 0; d < key; ++d) to[d * size + i] = from[d] * j.scale;
    }
  }
}

// Range of slots of the span that rows of the block see; false when they see none.
bool block_range(const Work& w, const Block& b, int* lo, int* hi) {
  *lo = kSpan;
  *hi = 0;
  for (int r = b.first; r < b.first + b.rows; ++r) {
    if (w.lo[r] >= w.hi[r]) continue;
    if (w.lo[r] < *lo) *lo = w.lo[r];
    if (w.hi[r] > *hi) *hi = w.hi[r];
  }
  return *lo < *hi;
}

void direct_scores(const Job& j, Work& w, int64_t base) {
  const KeyValues& kv = j.kv;
  for (int b = 0; b < w.block_count; ++b) {
    const Block& block = w.blocks[b];
    const Products& p = *block.products;
    int lo, hi;
    if (!block_range(w, block, &lo, &hi)) continue;
    const float* q = w.q + block.first * kv.key;
    float* scores = w.scores + block.first * kScoreStride;
    const size_t tile_bytes = size_t(kv.key) * 16 * p.element;
    for (int x = lo & ~15; x < hi;) {
      // Slots run on without a jump within a tile of kSlotTile positions.
      const unsigned char* k =
          kv.k_state + size_t(w.item.head * (kv.slots / 16) + (base + x) % kv.slots / 16) * tile_bytes;
      const int wide = (64 - x % 64) / 16 >= p.wide && x + 16 * (p.wide - 1) < hi ? p.wide : 1;
      (wide > 1 ? p.keys_wide : p.keys_one)(q, k, kv.key, scores + x);
      x += 16 * wide;
    }
  }
}

void panel_scores(const Job& j, Work& w, int64_t base) {
  int first = kSpan, last = 0, lo[kItemRows], hi[kItemRows];
  for (int b = 0; b < w.block_count; ++b) {
    if (!block_range(w, w.blocks[b], &lo[b], &hi[b])) continue;
    if (lo[b] < first) first = lo[b];
    if (hi[b] > last) last = hi[b];
  }
  for (int x = first & ~15; x < last; x += 16) {
    const float* k = key_tile(j.kv, w.item.head, w.item.begin, base + x, w.item.end, w.panel);
    for (int b = 0; b < w.block_count; ++b) {
      if (x + 16 <= lo[b] || x >= hi[b]) continue;
      const int row = w.blocks[b].first;
      kPanelProducts.keys_one(w.q + row * j.kv.key, k, j.kv.key, w.scores + row * kScoreStride + x);
    }
  }
}

// Turns a row's scores into weights e^(score - max) and finds their maximum and sum. Lanes outside of [lo, hi) become
// 0.
void softmax_row(const Job& j, Work& w, int r, int64_t base) {
  const float inf = __builtin_inff();
  const i32x16 lanes = lane_numbers();
  const int lo = w.lo[r], hi = w.hi[r];
  float* s = w.scores + r * kScoreStride;
  const float* bias = nullptr;
  if (j.bias) {
    const int64_t row = w.item.first + r, head = w.item.head * j.group + row % j.group,
                  token = w.item.begin + row / j.group;
    bias = j.bias + ((j.bias_heads == 1 ? 0 : head) * j.tokens + token) * j.bias_keys + w.item.begin + base;
  }
  f32x16 top = splat(-inf);
  for (int x = lo & ~15; x < hi; x += 16) {
    f32x16 v = load(s + x);
    if (j.softcap > 0) v = tanh(v / j.softcap) * j.softcap;
    if (bias) v = v + (x + 16 <= hi ? load(bias + x) : load_n(bias + x, hi - x));
    if (x < lo || x + 16 > hi) v = select((lanes >= lo - x) & (lanes < hi - x), v, splat(-inf));
    top = max(top, v);
    store(s + x, v);
  }
  const float largest = reduce_max(top);
  const f32x16 shift = splat(largest == -inf ? 0.0f : largest);
  f32x16 sum = splat(0);
  for (int x = lo & ~15; x < hi; x += 16) {
    const f32x16 e = exp(load(s + x) - shift);
    sum = sum + e;
    store(s + x, e);
  }
  w.span_max[r] = largest;
  w.span_sum[r] = reduce_add(sum);
}

// Slots [from, to) of the span, their values at v (`columns` tiles of 16, one of the widths of the products), for the
// rows of one block. Slots that only some of the rows see are added row by row, so that a row never touches a value
// that it must not see; each row takes its slots in order.
void block_values(const Work& w, const Block& b, int columns, const void* v, int64_t v_stride, int from, int to,
                  float* acc, int64_t acc_stride) {
  const Products& products = *b.products;
  int common_lo = 0, common_hi = kSpan;
  for (int r = b.first; r < b.first + b.rows; ++r) {
    if (w.lo[r] >= w.hi[r]) continue;
    if (w.lo[r] > common_lo) common_lo = w.lo[r];
    if (w.hi[r] < common_hi) common_hi = w.hi[r];
  }
  if (common_lo > common_hi) common_lo = common_hi = kSpan;  // nothing in common: all of it row by row
  const auto at = [&](int slot) {
    return static_cast<const unsigned char*>(v) + size_t((slot - from) * v_stride) * products.element;
  };
  const auto single = [&](int begin, int end) {
    const ValueFn fn = columns > 1 ? products.single_wide : products.single_one;
    for (int r = b.first; r < b.first + b.rows; ++r) {
      int x = w.lo[r] > begin ? w.lo[r] : begin;
      int stop = w.hi[r] < end ? w.hi[r] : end;
      if (x < from) x = from;
      if (stop > to) stop = to;
      if (x < stop) fn(w.scores + r * kScoreStride + x, at(x), v_stride, stop - x, acc + r * acc_stride, acc_stride);
    }
  };
  if (common_lo > from) single(0, common_lo);
  const int x = common_lo > from ? common_lo : from, stop = common_hi < to ? common_hi : to;
  if (x < stop)
    (columns > 1 ? products.values_wide : products.values_one)(w.scores + b.first * kScoreStride + x, at(x), v_stride,
                                                               stop - x, acc + b.first * acc_stride, acc_stride);
  if (common_hi < to) single(common_hi, kSpan);
}

void direct_values(const Job& j, const Work& w, int64_t base) {
  const KeyValues& kv = j.kv;
  const int64_t tiles = kv.value / 16;
  for (int b = 0; b < w.block_count; ++b) {
    const Block& block = w.blocks[b];
    int lo, hi;
    if (!block_range(w, block, &lo, &hi)) continue;
    for (int x = lo; x < hi;) {
      int end = (x | 31) + 1;  // 32 rows of values stay in the first cache while their columns are walked
      if (end > hi) end = hi;
      const unsigned char* v =
          kv.v_state + size_t((w.item.head * kv.slots + (base + x) % kv.slots) * kv.value) * block.products->element;
      for (int64_t c = 0; c < tiles;) {
        const int columns = c + block.products->wide <= tiles ? block.products->wide : 1;
        block_values(w, block, columns, v + size_t(16 * c) * block.products->element, kv.value, x, end,
                     w.span_acc + 16 * c, j.value_padded);
        c += columns;
      }
      x = end;
    }
  }
}

void panel_values(const Job& j, const Work& w, int64_t base) {
  int first = kSpan, last = 0;
  for (int b = 0; b < w.block_count; ++b) {
    int lo, hi;
    if (!block_range(w, w.blocks[b], &lo, &hi)) continue;
    if (lo < first) first = lo;
    if (hi > last) last = hi;
  }
  for (int64_t c = 0; 16 * c < j.kv.value; ++c) {
    for (int x = first; x < last;) {
      int end = (x | 63) + 1;
      if (end > last) end = last;
      value_panel(j.kv, w.item.head, w.item.begin, base + x, end - x, c, w.panel + (x - first) * 16);
      x = end;
    }
    for (int b = 0; b < w.block_count; ++b)
      block_values(w, w.blocks[b], 1, w.panel, 16, first, last, w.span_acc + 16 * c, j.value_padded);
  }
}

// Maximum, sum and weighted values of the rows over one span, into span_max, span_sum and span_acc.
void attend_span(const Job& j, Work& w, int64_t span) {
  const int64_t base = span * kSpan;
  for (int r = 0; r < w.item.rows; ++r) {
    const int64_t lo = w.low[r] - base, hi = w.high[r] - base;
    w.lo[r] = int(lo < 0 ? 0 : lo < kSpan ? lo : kSpan);
    w.hi[r] = int(hi < 0 ? 0 : hi < kSpan ? hi : kSpan);
  }
  (w.direct ? direct_scores : panel_scores)(j, w, base);
  for (int r = 0; r < w.item.rows; ++r)
    if (w.lo[r] < w.hi[r]) softmax_row(j, w, r, base);
  const Block& last = w.blocks[w.block_count - 1];
  __builtin_memset(w.span_acc, 0, size_t(last.first + last.products->rows) * size_t(j.value_padded) * sizeof(float));
  (w.direct ? direct_values : panel_values)(j, w, base);
}

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

void clear_row(Work& w, int r, int64_t n) {
  w.max[r] = -__builtin_inff();
  w.sum[r] = 0;
  __builtin_memset(w.acc + r * n, 0, size_t(n) * sizeof(float));
}

// Divides by the denominator, with the sink in it, and writes y.
__attribute__((noinline)) void finish_row(const Job& j, const Work& w, int r) {
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
  const f32x16 factor = splat(sum == 0 ? 0.0f : scale / sum);
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

void run_item(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  Work w;
  // The last rows see most when causal: they go first, so that no long task is left for the end.
  prepare(j, find_item(j, j.items_per_head * j.kv.kv_heads - 1 - task), worker, &w);
  for (int r = 0; r < w.item.rows; ++r) clear_row(w, r, j.value_padded);
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

float* partial(const Job& j, int64_t head, int64_t span, int rows, int r) {
  return j.partials + ((head * j.spans + span) * rows + r) * (j.value_padded + 16);
}

void run_span(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
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

void merge_spans(const Job& j) {
  Work w;
  for (int64_t head = 0; head < j.kv.kv_heads; ++head) {
    prepare(j, find_item(j, head), 0, &w);
    for (int r = 0; r < w.item.rows; ++r) {
      clear_row(w, r, j.value_padded);
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

// Tokens of this call into their slots, 16 at a time, so that no two tasks write into one cache line of a key tile.
void write_states(const Job& j, ThreadPool* pool) {
  const int64_t first = j.position / 16, pieces = (j.position + j.tokens - 1) / 16 - first + 1;
  const bool large = j.tokens * j.kv.kv_heads * (j.kv.key + j.kv.value) >= 32768;
  parallel_for(
      large ? pool : nullptr, pieces,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        const int64_t begin = (job.position / 16 + task) * 16;
        for (int64_t p = begin; p < begin + 16; ++p)
          if (p >= job.position && p < job.position + job.tokens && (p + 1) % job.stride == 0)
            for (int64_t h = 0; h < job.kv.kv_heads; ++h)
              write_slot(job.kv, p - job.position, h, p / job.stride % job.kv.slots);
      },
      const_cast<Job*>(&j));
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

void run(const OpCall& c) {
  const AttentionParams& p = params_of<AttentionParams>(c);
  Job j{};
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
  if (j.bias) j.bias_heads = c.in[kBias].dims[0], j.bias_keys = c.in[kBias].dims[2];
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
  const int64_t rows = j.tokens * j.group, end = j.keys ? j.keys : (j.position + last + 1) / j.stride;
  const int64_t low = j.window > 0 && j.position + first - j.window + 1 > 0 ? j.position + first - j.window + 1 : 0;
  j.first_span = low / kSpan;
  j.spans = (end - 1) / kSpan - j.first_span + 1;
  const bool heavy =
      double(j.kv.kv_heads) * double(rows) * double(end - low) * double(j.kv.key + j.kv.value) >= double(1 << 19);
  if (j.states && workers > 1 && heavy && rows <= kSplitRows && j.spans > 1) {
    parallel_for(c.pool, j.kv.kv_heads * j.spans, run_span, &j);
    merge_spans(j);
  } else {
    const int64_t items = j.items_per_head * j.kv.kv_heads;
    parallel_for(heavy && items > 1 ? c.pool : nullptr, items, run_item, &j);
  }
}

constexpr Kernel kRows[] = {{"attention_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList attention_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
