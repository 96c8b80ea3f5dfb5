#include "ops/sparse_attention/sparse_attention.h"

#include <cmath>

#include "ops/attention/shared.h"
#include "ops/define.h"

namespace runnel {
namespace {

enum Input {
  kQ,
  kK,
  kV,
  kKeyState,
  kValueState,
  kSinks,
  kBias,
  kSegments,
  kRows,
  kRanges,
  kParents,
  kBefore,
  kLseBefore
};
constexpr int kShared = 9;  // inputs that attention has too

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SparseAttentionAttrs*>(attrs);
  SparseAttentionParams p{};
  p.scale = a.scale(), p.softcap = a.softcap(), p.shift = a.shift();
  p.window = a.window(), p.stride = a.stride(), p.range_block = a.range_block(), p.chunk = a.chunk();
  p.first = a.first(), p.causal = a.causal(), p.sigmoid = a.sigmoid(), p.causal_axes = a.causal_axes();
  RNL_CHECK_ARG(std::isfinite(p.scale) && std::isfinite(p.shift), "sparse_attention: scale or shift is not finite");
  RNL_CHECK_ARG(std::isfinite(p.softcap) && p.softcap >= 0, "sparse_attention: softcap %g is not a finite value >= 0",
                double(p.softcap));
  for (const uint32_t v : {p.window, p.stride, p.range_block, p.chunk, p.first})
    RNL_CHECK_ARG(v < (1u << 31), "sparse_attention: an attribute of %u is not below 2^31", v);
  RNL_CHECK_ARG(p.stride >= 1 && p.range_block >= 1, "sparse_attention: a stride or range_block of 0");
  const auto *kernel = a.kernel(), *dilation = a.dilation(), *step = a.step();
  const unsigned axes = kernel ? kernel->size() : 0;
  RNL_CHECK_ARG(axes <= unsigned(kMaxAxes), "sparse_attention: a neighbourhood of %u axes, the limit is %d", axes,
                kMaxAxes);
  for (const auto* list : {dilation, step})
    RNL_CHECK_ARG(!list || list->size() == 0 || list->size() == axes,
                  "sparse_attention: a neighbourhood of %u axes, but %u dilations or steps", axes,
                  list ? unsigned(list->size()) : 0);
  RNL_CHECK_ARG(p.causal_axes >> axes == 0, "sparse_attention: causal_axes %u, but there are %u axes",
                unsigned(p.causal_axes), axes);
  for (unsigned i = 0; i < axes; ++i) {
    p.kernel[i] = kernel->Get(i);
    p.dilation[i] = dilation && dilation->size() ? dilation->Get(i) : 1;
    p.step[i] = step && step->size() ? step->Get(i) : 1;
    RNL_CHECK_ARG(p.kernel[i] >= 1 && p.dilation[i] >= 1 && p.step[i] >= 1,
                  "sparse_attention: a kernel, dilation or step of 0 (axis %u)", i);
  }
  p.axes = uint8_t(axes);
  RNL_CHECK_ARG(axes == 0 || (p.window == 0 && p.chunk == 0 && p.first == 0 && !p.causal),
                "sparse_attention: a neighbourhood together with causal, window, chunk or first");
  RNL_CHECK_ARG(p.stride == 1 || (p.window == 0 && p.chunk == 0 && p.first == 0),
                "sparse_attention: a stride together with window, chunk or first");
  RNL_CHECK_ARG(p.first == 0 || (p.causal && p.chunk == 0),
                "sparse_attention: first without causal, or together with chunk");
  *params_of<SparseAttentionParams>(out) = p;
  return Status::ok();
}

// [sizes of n axes, ...] as [tokens, ...].
TensorView flat(const TensorView& v, int axes) {
  TensorView f = v;
  if (axes < 2 || v.rank <= axes) return f;
  f.rank = v.rank - axes + 1;
  for (int i = 1; i < axes; ++i) f.dims[0] *= v.dims[i];
  for (int i = 1; i < f.rank; ++i) f.dims[i] = v.dims[i + axes - 1];
  return f;
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const auto& p = params_of<SparseAttentionParams>(c);
  const TensorView& q = c.in[kQ];
  if (p.axes > 1) {
    for (const int i : {kQ, kK, kV}) {
      RNL_CHECK_ARG(has_input(c, i), "sparse_attention: a neighbourhood needs q, k and v");
      const TensorView& v = c.in[i];
      RNL_TRY(check_dense("sparse_attention", "q, k or v", v));
      bool fits = v.rank == p.axes + 2;
      for (int d = 0; d < p.axes && fits; ++d) fits = v.dims[d] == q.dims[d];
      RNL_CHECK_ARG(fits, "sparse_attention: %s does not have the %d axes of q, %s, with heads and dims",
                    describe(v, a, sizeof a), int(p.axes), describe(q, b, sizeof b));
    }
    RNL_TRY(check_dense("sparse_attention", "y", c.out[0]));
    bool fits = c.out[0].rank > p.axes;
    for (int d = 0; d < p.axes && fits; ++d) fits = c.out[0].dims[d] == q.dims[d];
    RNL_CHECK_ARG(fits, "sparse_attention: y is %s but q is %s", describe(c.out[0], a, sizeof a),
                  describe(q, b, sizeof b));
  }
  const FlatAttention f(c);
  RNL_TRY(check_attention(f.call));
  const int64_t tokens = f.in[kQ].dims[0], heads = f.in[kQ].dims[1];
  const bool states = has_input(c, kKeyState), segments = has_input(c, kSegments);
  RNL_CHECK_ARG(p.axes == 0 || (!states && !segments && f.in[kK].dims[0] == tokens),
                "sparse_attention: a neighbourhood together with states, segments or other keys");
  if (states) {
    const int64_t slots = c.in[kValueState].dims[1];
    RNL_CHECK_ARG(int64_t(p.first) <= slots, "sparse_attention: first is %u, but there are %" PRId64 " slots", p.first,
                  slots);
  }
  const bool has_lse = c.out_count > 1 && c.out[1].dtype != DType::kNone;
  RNL_CHECK_ARG(!p.sigmoid || (!has_lse && !has_input(c, kSinks) && !has_input(c, kBefore)),
                "sparse_attention: sigmoid together with sinks, before or lse");
  if (has_input(c, kRanges)) {
    const TensorView& r = c.in[kRanges];
    RNL_TRY(check_dense("sparse_attention", "ranges", r));
    RNL_CHECK_ARG(r.dtype == DType::kI32 && r.rank == 4 && (r.dims[0] == 1 || r.dims[0] == heads) && r.dims[3] == 3,
                  "sparse_attention: ranges is %s, want i32 [1 or %" PRId64 ", lists, n, 3]", describe(r, a, sizeof a),
                  heads);
    RNL_CHECK_ARG(tokens == 0 || r.dims[1] > (tokens - 1) / int64_t(p.range_block),
                  "sparse_attention: %" PRId64 " lists of ranges for %" PRId64 " tokens, %u a list", r.dims[1], tokens,
                  p.range_block);
    RNL_CHECK_ARG(!segments && p.stride == 1, "sparse_attention: ranges together with segments or a stride");
  }
  if (has_input(c, kParents)) {
    const TensorView& r = c.in[kParents];
    RNL_CHECK_ARG(r.dtype == DType::kI32 && r.rank == 1 && r.dims[0] == tokens,
                  "sparse_attention: parents is %s, want i32 [%" PRId64 "]", describe(r, a, sizeof a), tokens);
    RNL_CHECK_ARG(!segments && p.stride == 1 && !has_input(c, kRows) && f.call.in[kK].dims[0] == tokens,
                  "sparse_attention: parents together with segments, rows, a stride or other keys");
  }
  RNL_CHECK_ARG(has_input(c, kBefore) == has_input(c, kLseBefore),
                "sparse_attention: only one of before and lse_before is given");
  if (has_input(c, kBefore)) {
    const TensorView &y = flat(c.in[kBefore], p.axes), &l = flat(c.in[kLseBefore], p.axes);
    const int64_t value = has_input(c, kV) ? f.in[kV].dims[2] : c.in[kValueState].dims[2];
    const bool fits = y.rank == 3 ? y.dims[1] == heads && y.dims[2] == value : y.dims[1] == heads * value;
    RNL_CHECK_ARG(y.dtype == DType::kF32 && (y.rank == 2 || y.rank == 3) && y.dims[0] == tokens && fits &&
                      l.dtype == DType::kF32 && l.rank == 2 && l.dims[0] == tokens && l.dims[1] == heads,
                  "sparse_attention: before is %s and lse_before %s", describe(y, a, sizeof a),
                  describe(l, b, sizeof b));
    RNL_CHECK_ARG(!has_input(c, kSinks), "sparse_attention: before together with sinks");
  }
  return Status::ok();
}

// Position of query t.
int64_t position_of(const OpCall& c, int64_t t) {
  if (!has_input(c, kKeyState)) return t;
  return c.position + (has_input(c, kRows) ? static_cast<const int32_t*>(c.in[kRows].data)[t] : t);
}

Status check_data(const OpCall& c) {
  const FlatAttention f(c);
  RNL_TRY(check_attention_data(f.call));
  const auto& p = params_of<SparseAttentionParams>(c);
  const int64_t tokens = f.in[kQ].dims[0], base = has_input(c, kKeyState) ? c.position : 0;
  for (int64_t t = 0; has_input(c, kRanges) && t < tokens; ++t) {
    const int64_t list = position_of(c, t) / p.range_block - base / p.range_block;
    RNL_CHECK_ARG(list < c.in[kRanges].dims[1],
                  "sparse_attention: query %" PRId64 " at position %" PRId64 " takes list %" PRId64
                  " of ranges, but there are %" PRId64,
                  t, position_of(c, t), list, c.in[kRanges].dims[1]);
  }
  for (int64_t t = 0; has_input(c, kParents) && t < tokens; ++t) {
    const int64_t parent = static_cast<const int32_t*>(c.in[kParents].data)[t];
    RNL_CHECK_ARG(parent >= -1 && parent < t, "sparse_attention: parent %" PRId64 " of token %" PRId64, parent, t);
  }
  return Status::ok();
}

SlotUse use_slots(const OpCall& c) {
  const FlatAttention f(c);
  return use_attention_slots(f.call);
}

// Of the reference: what one query sees, straight from the contract.
struct Seen {
  const OpCall* call;
  const FlatAttention* flat;
};

bool is_in_ranges(const OpCall& c, int64_t head, int64_t position, int64_t key) {
  const auto& p = params_of<SparseAttentionParams>(c);
  const TensorView& r = c.in[kRanges];
  const int64_t base = has_input(c, kKeyState) ? c.position : 0;
  const int64_t list = position / p.range_block - base / p.range_block, n = r.dims[2];
  const int32_t* at = static_cast<const int32_t*>(r.data) + ((r.dims[0] == 1 ? 0 : head) * r.dims[1] + list) * n * 3;
  for (int64_t i = 0; i < n; ++i, at += 3)
    if (key >= at[0] && key < at[1] && (key - at[0]) % (at[2] < 1 ? 1 : at[2]) == 0) return true;
  return false;
}

bool is_neighbour(const SparseAttentionParams& p, const int64_t* sizes, int64_t query, int64_t key) {
  for (int a = p.axes - 1; a >= 0; --a) {
    const Places seen = places_of(p, a, sizes[a], query % sizes[a]);
    const int64_t j = key % sizes[a];
    if (j < seen.begin || j >= seen.end || (j - seen.begin) % seen.step != 0) return false;
    query /= sizes[a], key /= sizes[a];
  }
  return true;
}

bool sees(const void* context, int64_t query, int64_t head, int64_t position, int64_t key) {
  const Seen& s = *static_cast<const Seen*>(context);
  const OpCall& c = *s.call;
  const auto& p = params_of<SparseAttentionParams>(c);
  if (p.chunk > 0 && key / p.chunk != position / p.chunk) return false;
  if (p.first > 0 && (key >= p.first || (p.window > 0 && key > position - int64_t(p.window)))) return false;
  if (has_input(c, kParents) && key >= position - query) {
    int64_t t = query;
    while (t >= 0 && t != key - (position - query)) t = static_cast<const int32_t*>(c.in[kParents].data)[t];
    if (t < 0) return false;
  }
  if (p.axes > 0 && !is_neighbour(p, s.flat->sizes, query, key)) return false;
  return !has_input(c, kRanges) || is_in_ranges(c, head, position, key);
}

void reference(const OpCall& c) {
  const auto& p = params_of<SparseAttentionParams>(c);
  const FlatAttention f(c);
  const Seen seen{&c, &f};
  const bool joins = has_input(c, kBefore);
  const KeyFilter filter{sees,
                         &seen,
                         joins ? static_cast<const float*>(c.in[kBefore].data) : nullptr,
                         joins ? static_cast<const float*>(c.in[kLseBefore].data) : nullptr,
                         p.sigmoid,
                         p.shift};
  attention_reference(f.call, &filter);
}

}  // namespace

FlatAttention::FlatAttention(const OpCall& c) : call(c), sizes{}, params{} {
  const auto& p = params_of<SparseAttentionParams>(c);
  const uint32_t window = p.first > 0 ? 0 : p.chunk == 0 || (p.window > 0 && p.window < p.chunk) ? p.window : p.chunk;
  *params_of<AttentionParams>(&params) = {p.scale,           p.softcap, int64_t(window),
                                          int64_t(p.stride), p.causal,  int64_t(p.first)};
  call.params = &params;
  call.in = in, call.out = out;
  call.in_count = c.in_count < kShared ? c.in_count : kShared;
  for (int i = 0; i < kShared; ++i)
    in[i] = i < call.in_count ? flat(c.in[i], i < kKeyState ? p.axes : 0) : TensorView{};
  for (int i = 0; i < c.out_count && i < 2; ++i) out[i] = flat(c.out[i], p.axes);
  for (int i = 0; i < p.axes; ++i) sizes[i] = c.in[kQ].dims[i];
}

Places places_of(const SparseAttentionParams& p, int axis, int64_t n, int64_t i) {
  const int64_t kernel = p.kernel[axis], d = p.dilation[axis], step = p.step[axis], kind = i % d,
                count = (n - kind + d - 1) / d, place = i / d;
  int64_t begin, end;
  if (p.causal_axes >> axis & 1) {
    int64_t last = place / step * step + step - 1;
    if (last > count - 1) last = count - 1;
    begin = last - kernel + 1 > 0 ? last - kernel + 1 : 0;
    end = place + 1;
  } else {
    int64_t middle = place / step * step + step / 2;
    if (middle > count - 1) middle = count - 1;
    begin = middle - kernel / 2;
    if (begin > count - kernel) begin = count - kernel;
    if (begin < 0) begin = 0;
    end = begin + kernel < count ? begin + kernel : count;
  }
  return {kind + begin * d, kind + (end - 1) * d + 1, d};
}

extern constexpr OpDef sparse_attention_def =
    define_op(registry_row::sparse_attention, parse, check, reference, check_data, false, use_slots);

}  // namespace runnel
