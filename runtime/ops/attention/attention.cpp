#include "ops/attention/attention.h"

#include <cmath>

#include "base/half.h"
#include "format/states.h"
#include "ops/attention/shared.h"
#include "ops/define.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kV, kKeyState, kValueState, kSinks, kBias, kSegments, kRows };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::AttentionAttrs*>(attrs);
  const AttentionParams p{a.scale(), a.softcap(), int64_t(a.window()), int64_t(a.stride()), a.causal()};
  RNL_CHECK_ARG(std::isfinite(p.scale), "attention: scale is not finite");
  RNL_CHECK_ARG(std::isfinite(p.softcap) && p.softcap >= 0, "attention: softcap %g is not a finite value >= 0",
                double(p.softcap));
  RNL_CHECK_ARG(p.window < (int64_t(1) << 31), "attention: window %" PRId64 " is not below 2^31", p.window);
  RNL_CHECK_ARG(p.stride >= 1 && p.stride < (int64_t(1) << 31), "attention: stride %" PRId64 " is not in 1 .. 2^31",
                p.stride);
  RNL_CHECK_ARG(p.stride == 1 || p.window == 0, "attention: a stride together with a window");
  *params_of<AttentionParams>(out) = p;
  return Status::ok();
}

// Sizes of keys and values: of the call's own, or of the states when another operator wrote them.
struct Sizes {
  int64_t kv_heads, key, value;
};
Sizes sizes_of(const OpCall& c) {
  const TensorView &k = c.in[has_input(c, kK) ? kK : kKeyState], &v = c.in[has_input(c, kV) ? kV : kValueState];
  return {has_input(c, kV) ? v.dims[1] : v.dims[0], k.dims[2], v.dims[2]};
}

// Index within the call of the token that query t is.
int64_t token_of(const OpCall& c, int64_t t) {
  return has_input(c, kRows) ? static_cast<const int32_t*>(c.in[kRows].data)[t] : t;
}

Status check_states(const OpCall& c) {
  char a[96], b[96];
  const AttentionParams& p = params_of<AttentionParams>(c);
  const TensorView &k = c.in[kKeyState], &v = c.in[kValueState];
  const auto [kv_heads, key, value] = sizes_of(c);
  const int64_t tokens = c.in[kQ].dims[0];
  describe(k, a, sizeof a), describe(v, b, sizeof b);
  RNL_CHECK_ARG(k.dtype == DType::kF32 || k.dtype == DType::kF16 || k.dtype == DType::kQ8,
                "attention: k_state is %s, want f32, f16 or q8", a);
  const bool ranks = k.rank == 4 && v.rank == 3;
  RNL_CHECK_ARG(ranks && k.dims[0] == kv_heads && k.dims[2] == key && k.dims[3] == 16,
                "attention: k_state is %s, want [%" PRId64 ", slots / 16, %" PRId64 ", 16]", a, kv_heads, key);
  RNL_CHECK_ARG(v.dtype == k.dtype && v.dims[0] == kv_heads && v.dims[2] == value,
                "attention: v_state is %s, want [%" PRId64 ", slots, %" PRId64 "] of k_state's type", b, kv_heads,
                value);
  const int64_t slots = v.dims[1];
  RNL_CHECK_ARG(slots >= kSlotTile && slots < (int64_t(1) << 31) && slots % kSlotTile == 0,
                "attention: %" PRId64 " slots, want a multiple of %" PRId64, slots, kSlotTile);
  RNL_CHECK_ARG(k.dims[1] == slots / 16, "attention: k_state is %s but v_state is %s", a, b);
  // Sizes as check_dense bounds them, with the block axis padded.
  TensorView whole = v;
  whole.dtype = DType::kF32;
  whole.dims[2] = ((key > value ? key : value) + 31) / 32 * 32;
  RNL_TRY(check_dense("attention", "a state", whole));
  RNL_CHECK_ARG(p.stride > 1 || p.stored > 0 || tokens <= slots,
                "attention: %" PRId64 " tokens a call but only %" PRId64 " slots", tokens, slots);
  RNL_CHECK_ARG(p.causal, "attention: states need causal");
  RNL_CHECK_ARG(!has_input(c, kSegments), "attention: segments together with states");
  RNL_CHECK_ARG(p.stride == 1 || !has_input(c, kBias), "attention: a bias together with a stride");
  return Status::ok();
}

}  // namespace

Status check_attention(const OpCall& c) {
  char a[96], b[96];
  const TensorView &q = c.in[kQ], &k = c.in[kK], &v = c.in[kV], &y = c.out[0];
  RNL_TRY(check_dense("attention", "q", q));
  RNL_TRY(check_dense("attention", "y", y));
  RNL_CHECK_ARG(q.dtype == DType::kF32 && y.dtype == DType::kF32 && q.rank == 3,
                "attention: q is %s, want f32 [tokens, heads, dim]", describe(q, a, sizeof a));
  RNL_CHECK_ARG(has_input(c, kKeyState) == has_input(c, kValueState),
                "attention: only one of k_state and v_state is given");
  const bool states = has_input(c, kKeyState), is_shared = !has_input(c, kK) && !has_input(c, kV);
  const AttentionParams& p = params_of<AttentionParams>(c);
  const bool is_cross = !states && !has_input(c, kSegments) && !p.causal && p.window == 0;
  const int64_t tokens = q.dims[0], heads = q.dims[1], key = q.dims[2];
  if (is_shared) {
    RNL_CHECK_ARG(states, "attention: neither k and v nor states are given");
    RNL_CHECK_ARG(c.in[kKeyState].rank == 4 && c.in[kValueState].rank == 3,
                  "attention: k_state is %s, want [kv_heads, slots / 16, key, 16]",
                  describe(c.in[kKeyState], a, sizeof a));
    RNL_CHECK_ARG(c.in[kKeyState].dims[2] == key, "attention: k_state is %s but q is %s",
                  describe(c.in[kKeyState], a, sizeof a), describe(q, b, sizeof b));
  } else {
    RNL_TRY(check_dense("attention", "k", k));
    RNL_TRY(check_dense("attention", "v", v));
    RNL_CHECK_ARG(k.dtype == DType::kF32 && v.dtype == DType::kF32 && k.rank == 3 && v.rank == 3,
                  "attention: k and v must be f32 [tokens, heads, dim]; k is %s, v is %s", describe(k, a, sizeof a),
                  describe(v, b, sizeof b));
    RNL_CHECK_ARG(k.dims[0] == (is_cross ? k.dims[0] : tokens) && k.dims[2] == key, "attention: k is %s but q is %s",
                  describe(k, a, sizeof a), describe(q, b, sizeof b));
    RNL_CHECK_ARG(v.dims[0] == k.dims[0] && v.dims[1] == k.dims[1], "attention: v is %s but k is %s",
                  describe(v, a, sizeof a), describe(k, b, sizeof b));
  }
  const int64_t kv_heads = sizes_of(c).kv_heads, value = sizes_of(c).value, keys = is_cross ? k.dims[0] : tokens;
  RNL_CHECK_ARG(kv_heads >= 1 && heads >= 1 && heads % kv_heads == 0,
                "attention: %" PRId64 " heads over %" PRId64 " kv heads", heads, kv_heads);
  constexpr int64_t kLargest = 65536;
  RNL_CHECK_ARG(key >= 1 && value >= 1 && key <= kLargest && value <= kLargest && heads <= kLargest &&
                    tokens < (int64_t(1) << 31) && keys < (int64_t(1) << 31),
                "attention: q is %s, v is %s; heads and dims must be in 1 .. 65536", describe(q, a, sizeof a),
                describe(is_shared ? c.in[kValueState] : v, b, sizeof b));
  const bool whole = y.rank == 3 && y.dims[1] == heads && y.dims[2] == value,
             flat = y.rank == 2 && y.dims[1] == heads * value;
  RNL_CHECK_ARG((whole || flat) && y.dims[0] == tokens,
                "attention: y is %s, want [%" PRId64 ", %" PRId64 ", %" PRId64 "]", describe(y, a, sizeof a), tokens,
                heads, value);
  RNL_CHECK_ARG(states || p.stride == 1, "attention: a stride needs states");
  if (states) RNL_TRY(check_states(c));
  if (c.out_count > 1 && c.out[1].dtype != DType::kNone) {
    const TensorView& s = c.out[1];
    RNL_CHECK_ARG(s.dtype == DType::kF32 && s.rank == 2 && s.dims[0] == tokens && s.dims[1] == heads,
                  "attention: lse is %s, want [%" PRId64 ", %" PRId64 "]", describe(s, a, sizeof a), tokens, heads);
  }
  if (has_input(c, kSinks)) {
    const TensorView& s = c.in[kSinks];
    RNL_CHECK_ARG(s.dtype == DType::kF32 && s.rank == 1 && s.dims[0] == heads,
                  "attention: sinks is %s but there are %" PRId64 " heads", describe(s, a, sizeof a), heads);
  }
  if (has_input(c, kBias)) {
    const TensorView& s = c.in[kBias];
    RNL_TRY(check_dense("attention", "bias", s));
    RNL_CHECK_ARG(s.dtype == DType::kF32 && s.rank == 3 && (s.dims[0] == 1 || s.dims[0] == heads) &&
                      (s.dims[1] == 1 || s.dims[1] == tokens) && (states || s.dims[2] == keys),
                  "attention: bias is %s but q is %s", describe(s, a, sizeof a), describe(q, b, sizeof b));
  }
  if (has_input(c, kSegments)) {
    const TensorView& s = c.in[kSegments];
    RNL_TRY(check_dense("attention", "segments", s));
    RNL_CHECK_ARG(s.dtype == DType::kI32 && s.rank == 1 && s.dims[0] >= 2,
                  "attention: segments is %s, want i32 [n + 1]", describe(s, a, sizeof a));
  }
  if (has_input(c, kRows)) {
    const TensorView& s = c.in[kRows];
    RNL_CHECK_ARG(is_shared, "attention: rows together with k and v");
    RNL_CHECK_ARG(s.dtype == DType::kI32 && s.rank == 1 && s.dims[0] == tokens,
                  "attention: rows is %s, want i32 [%" PRId64 "]", describe(s, a, sizeof a), tokens);
  }
  return Status::ok();
}

SlotUse use_attention_slots(const OpCall& c) {
  const AttentionParams& p = params_of<AttentionParams>(c);
  return {has_input(c, kK), p.window, p.stride, p.stored};
}

Status check_attention_data(const OpCall& c) {
  int64_t tokens = c.in[kQ].dims[0];
  if (has_input(c, kSegments)) {
    const int32_t* bounds = static_cast<const int32_t*>(c.in[kSegments].data);
    const int64_t n = c.in[kSegments].dims[0];
    for (int64_t i = 0; i < n; ++i) {
      const int64_t least = i == 0 ? 0 : bounds[i - 1];
      RNL_CHECK_ARG(bounds[i] >= least && bounds[i] <= tokens && (i > 0 || bounds[i] == 0),
                    "attention: segment bound %d (index %" PRId64 ") is not in [%" PRId64 ", %" PRId64 "]",
                    int(bounds[i]), i, least, i == 0 ? 0 : tokens);
    }
    RNL_CHECK_ARG(bounds[n - 1] == tokens, "attention: segments end at %d but there are %" PRId64 " tokens",
                  int(bounds[n - 1]), tokens);
  }
  if (!has_input(c, kKeyState)) return Status::ok();
  const AttentionParams& p = params_of<AttentionParams>(c);
  const int64_t slots = c.in[kValueState].dims[1];
  RNL_CHECK_ARG(c.position >= 0 && c.position < (int64_t(1) << 40), "attention: position %" PRId64, c.position);
  for (int64_t t = 0, n = tokens; has_input(c, kRows) && t < n; ++t) {
    const int64_t row = token_of(c, t);
    RNL_CHECK_ARG(row >= 0, "attention: row %" PRId64 " (index %" PRId64 ") is negative", row, t);
    tokens = t == 0 || row + 1 > tokens ? row + 1 : tokens;
  }
  if (p.stored > 0) return Status::ok();
  const bool ring = p.window > 0 && p.window + tokens - 1 <= slots;
  if (!ring && (c.position + tokens) / p.stride > slots)
    return Status::make(Code::kContextFull,
                        "the stream would hold %" PRId64 " tokens but the context has room for %" PRId64,
                        c.position + tokens, slots * p.stride);
  if (has_input(c, kBias))
    RNL_CHECK_ARG(c.position + tokens <= c.in[kBias].dims[2],
                  "attention: the stream holds %" PRId64 " tokens but bias only %" PRId64 " keys", c.position + tokens,
                  c.in[kBias].dims[2]);
  return Status::ok();
}

namespace {

// Index of element d (of slot s of head h) in a key or value state without blocks.
size_t key_index(int64_t h, int64_t s, int64_t d, int64_t slots, int64_t key) {
  return size_t(((h * (slots / 16) + s / 16) * key + d) * 16 + s % 16);
}
size_t value_index(int64_t h, int64_t s, int64_t d, int64_t slots, int64_t value) {
  return size_t((h * slots + s) * value + d);
}

struct Q8Place {
  size_t element, scale;  // byte offsets
};
Q8Place q8_key(int64_t h, int64_t s, int64_t d, int64_t slots, int64_t key) {
  const int64_t blocks = (key + 31) / 32;
  const size_t block = size_t((h * (slots / 16) + s / 16) * blocks + d / 32) * (34 * 16);
  return {block + size_t(d % 32 * 16 + s % 16), block + 512 + size_t(s % 16 * 2)};
}
Q8Place q8_value(int64_t h, int64_t s, int64_t d, int64_t slots, int64_t value) {
  const int64_t blocks = (value + 31) / 32;
  const size_t block = size_t((h * slots + s) * blocks + d / 32) * 34;
  return {block + size_t(d % 32), block + 32};
}

// One vector of n elements into its slot.
template <class Index, class Place>
void write_slot(const TensorView& state, const float* x, int64_t n, Index index, Place place) {
  unsigned char* bytes = static_cast<unsigned char*>(state.data);
  for (int64_t d = 0; d < n; ++d) {
    if (state.dtype == DType::kF32) static_cast<float*>(state.data)[index(d)] = x[d];
    if (state.dtype == DType::kF16) static_cast<uint16_t*>(state.data)[index(d)] = float_to_half(x[d]);
  }
  if (state.dtype != DType::kQ8) return;
  for (int64_t b = 0; b < n; b += 32) {
    // Scale: the largest magnitude over 127, as f16. A value that is not finite makes the whole block NaN.
    float largest = 0;
    bool finite = true;
    for (int64_t d = b; d < n && d < b + 32; ++d) {
      finite = finite && std::isfinite(x[d]);
      if (std::fabs(x[d]) > largest) largest = std::fabs(x[d]);
    }
    uint16_t half = finite ? float_to_half(largest / 127.0f) : uint16_t(0x7e00);
    if (half == 0x7c00) half = 0x7bff;
    const float scale = half_to_float(half);
    for (int64_t d = b; d < b + 32; ++d) {
      float q = d < n && finite && scale > 0 ? std::nearbyint(x[d] / scale) : 0.0f;
      q = q > 127 ? 127 : q < -127 ? -127 : q;
      bytes[place(d).element] = uint8_t(int8_t(q));
    }
    bytes[place(b).scale] = uint8_t(half);
    bytes[place(b).scale + 1] = uint8_t(half >> 8);
  }
}

template <class Index, class Place>
double read_slot(const TensorView& state, Index index, Place place) {
  const unsigned char* bytes = static_cast<const unsigned char*>(state.data);
  if (state.dtype == DType::kF32) return static_cast<const float*>(state.data)[index];
  if (state.dtype == DType::kF16) return half_to_float(static_cast<const uint16_t*>(state.data)[index]);
  const uint16_t half = uint16_t(bytes[place.scale] | bytes[place.scale + 1] << 8);
  return double(int8_t(bytes[place.element])) * half_to_float(half);
}

void write_states(const OpCall& c) {
  const TensorView &k = c.in[kK], &v = c.in[kV];
  const int64_t tokens = k.dims[0], kv_heads = k.dims[1], key = k.dims[2], value = v.dims[2],
                slots = c.in[kValueState].dims[1];
  const int64_t stride = params_of<AttentionParams>(c).stride, stored = params_of<AttentionParams>(c).stored;
  for (int64_t t = 0; t < tokens && (stored == 0 || c.position + t < stored); ++t)
    for (int64_t h = 0; h < kv_heads && (c.position + t + 1) % stride == 0; ++h) {
      const int64_t s = (c.position + t) / stride % slots;
      write_slot(
          c.in[kKeyState], static_cast<const float*>(k.data) + (t * kv_heads + h) * key, key,
          [=](int64_t d) { return key_index(h, s, d, slots, key); },
          [=](int64_t d) { return q8_key(h, s, d, slots, key); });
      write_slot(
          c.in[kValueState], static_cast<const float*>(v.data) + (t * kv_heads + h) * value, value,
          [=](int64_t d) { return value_index(h, s, d, slots, value); },
          [=](int64_t d) { return q8_value(h, s, d, slots, value); });
    }
}

// Element d of the key (value) that key position j of a sequence holds; begin is the sequence's first token when there
// are no states.
double key_element(const OpCall& c, int64_t begin, int64_t j, int64_t h, int64_t d) {
  const TensorView& k = c.in[kK];
  if (!has_input(c, kKeyState)) return static_cast<const float*>(k.data)[((begin + j) * k.dims[1] + h) * k.dims[2] + d];
  const int64_t slots = c.in[kValueState].dims[1], s = j % slots, key = c.in[kKeyState].dims[2];
  return read_slot(c.in[kKeyState], key_index(h, s, d, slots, key), q8_key(h, s, d, slots, key));
}
double value_element(const OpCall& c, int64_t begin, int64_t j, int64_t h, int64_t d) {
  const TensorView& v = c.in[kV];
  if (!has_input(c, kKeyState)) return static_cast<const float*>(v.data)[((begin + j) * v.dims[1] + h) * v.dims[2] + d];
  const int64_t slots = c.in[kValueState].dims[1], s = j % slots, value = c.in[kValueState].dims[2];
  return read_slot(c.in[kValueState], value_index(h, s, d, slots, value), q8_value(h, s, d, slots, value));
}

// y[d] = sum_j sigmoid(score(j)) v(j, d) over j in [low, high).
template <class Score, class Value>
void add_sigmoids(float* y, int64_t value, int64_t low, int64_t high, Score score, Value value_at) {
  for (int64_t d = 0; d < value; ++d) {
    double sum = 0;
    for (int64_t j = low; j < high; ++j) {
      const double s = score(j);
      if (s != -double(INFINITY)) sum += value_at(j, d) / (1 + std::exp(-s));
    }
    y[d] = float(sum);
  }
}

// Token t of the call, at position p of a sequence that starts at token `begin` and whose positions end before `end`.
__attribute__((noinline)) void attend(const OpCall& c, const KeyFilter* filter, int64_t t, int64_t begin, int64_t p,
                                      int64_t end) {
  const AttentionParams& a = params_of<AttentionParams>(c);
  const TensorView& q = c.in[kQ];
  const int64_t heads = q.dims[1], key = q.dims[2], value = sizes_of(c).value, group = heads / sizes_of(c).kv_heads;
  const int64_t low = a.window > 0 && p - a.window + 1 > 0 ? p - a.window + 1 : 0;
  int64_t high = a.causal ? (p + 1) / a.stride : end;
  if (a.window > 0 && high > p + a.window) high = p + a.window;
  const auto score = [&](int64_t h, int64_t j) {
    if (filter && !filter->sees(filter->context, t, h, p, j)) return -double(INFINITY);
    double dot = 0;
    for (int64_t d = 0; d < key; ++d)
      dot +=
          double(static_cast<const float*>(q.data)[(t * heads + h) * key + d]) * key_element(c, begin, j, h / group, d);
    double s = dot * a.scale;
    if (a.softcap > 0) s = a.softcap * std::tanh(s / a.softcap);
    if (has_input(c, kBias)) {
      const TensorView& b = c.in[kBias];
      const int64_t row = (b.dims[0] == 1 ? 0 : h) * b.dims[1] + (b.dims[1] == 1 ? 0 : t);
      s += double(static_cast<const float*>(b.data)[row * b.dims[2] + (has_input(c, kKeyState) ? j : begin + j)]);
    }
    return s;
  };
  const bool has_lse = c.out_count > 1 && c.out[1].dtype != DType::kNone;
  for (int64_t h = 0; h < heads; ++h) {
    float* y = static_cast<float*>(c.out[0].data) + (t * heads + h) * value;
    if (filter && filter->is_sigmoid) {
      add_sigmoids(
          y, value, low, high, [&](int64_t j) { return score(h, j) + double(filter->shift); },
          [&](int64_t j, int64_t d) { return value_element(c, begin, j, h / group, d); });
      continue;
    }
    // What the denominator holds before the first key: a sink, or the result over other keys.
    const float* before = filter && filter->before ? filter->before + (t * heads + h) * value : nullptr;
    const double sink = before                 ? double(filter->lse_before[t * heads + h])
                        : has_input(c, kSinks) ? double(static_cast<const float*>(c.in[kSinks].data)[h])
                                               : -double(INFINITY);
    double largest = sink;
    for (int64_t j = low; j < high; ++j) {
      const double s = score(h, j);
      if (!(s <= largest)) largest = s;  // NaN sticks
    }
    for (int64_t d = 0; d < value; ++d) y[d] = 0;
    if (has_lse) static_cast<float*>(c.out[1].data)[t * heads + h] = float(largest);
    if (largest == -INFINITY) continue;
    // 64 columns at a time, so that the wide sums need no allocation.
    for (int64_t first = 0; first < value; first += 64) {
      const int64_t n = value - first < 64 ? value - first : 64;
      double acc[64] = {}, sum = std::exp(sink - largest);
      for (int64_t d = 0; before && sum != 0 && d < n; ++d) acc[d] = sum * double(before[first + d]);
      for (int64_t j = low; j < high; ++j) {
        const double weight = std::exp(score(h, j) - largest);
        sum += weight;
        if (weight == 0) continue;
        for (int64_t d = 0; d < n; ++d) acc[d] += weight * value_element(c, begin, j, h / group, first + d);
      }
      for (int64_t d = 0; d < n; ++d) y[first + d] = float(acc[d] / sum);
      if (has_lse) static_cast<float*>(c.out[1].data)[t * heads + h] = float(largest + std::log(sum));
    }
  }
}

}  // namespace

void attention_reference(const OpCall& c, const KeyFilter* filter) {
  const int64_t tokens = c.in[kQ].dims[0];
  if (has_input(c, kKeyState)) {
    if (has_input(c, kK)) write_states(c);
    for (int64_t t = 0; t < tokens; ++t)
      attend(c, filter, t, 0, c.position + token_of(c, t), 0);  // causal: the end is its own position
    return;
  }
  if (c.in[kK].dims[0] != tokens) {
    for (int64_t t = 0; t < tokens; ++t) attend(c, filter, t, 0, t, c.in[kK].dims[0]);
    return;
  }
  const int32_t whole[2] = {0, int32_t(tokens)};
  const bool cut = has_input(c, kSegments);
  const int32_t* bounds = cut ? static_cast<const int32_t*>(c.in[kSegments].data) : whole;
  const int64_t n = cut ? c.in[kSegments].dims[0] - 1 : 1;
  for (int64_t s = 0; s < n; ++s)
    for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t)
      attend(c, filter, t, bounds[s], t - bounds[s], bounds[s + 1] - bounds[s]);
}

namespace {

void reference(const OpCall& c) { attention_reference(c, nullptr); }

}  // namespace

extern constexpr OpDef attention_def = define_op(registry_row::attention, parse, check_attention, reference,
                                                 check_attention_data, false, use_attention_slots);

}  // namespace runnel
