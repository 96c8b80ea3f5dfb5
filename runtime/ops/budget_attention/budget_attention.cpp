#include "ops/budget_attention/budget_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "ops/sequence.h"

namespace runnel {
namespace {

constexpr const char* kOp = "budget_attention";
enum Input { kQ, kK, kV, kKeys, kValues, kWeights };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::BudgetAttentionAttrs*>(attrs);
  const BudgetAttentionParams p{a.scale(), a.budget(), a.recent(), a.block(), a.window(), a.pool()};
  RNL_CHECK_ARG(std::isfinite(p.scale), "budget_attention: scale is not finite");
  RNL_CHECK_ARG(p.budget < (1u << 30) && p.block >= 1 && p.block < (1u << 30) && p.recent <= p.budget,
                "budget_attention: a budget of %u positions, %u of them recent, in blocks of %u", p.budget, p.recent,
                p.block);
  RNL_CHECK_ARG(p.window <= p.block && p.pool % 2 == 1 && p.pool <= 65535,
                "budget_attention: a window of %u in blocks of %u, pools of %u", p.window, p.block, p.pool);
  *params_of<BudgetAttentionParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96];
  const auto& p = params_of<BudgetAttentionParams>(c);
  const TensorView &q = c.in[kQ], &keys = c.in[kKeys], &y = c.out[0];
  RNL_TRY(check_shape(kOp, "q", q, DType::kF32, {-1, -1, -1}));
  const int64_t tokens = q.dims[0], heads = q.dims[1], key = q.dims[2];
  RNL_CHECK_ARG(tokens < (int64_t(1) << 31) && heads >= 1 && heads <= 65536 && key >= 1 && key <= 65536,
                "budget_attention: q is %s", describe(q, a, sizeof a));
  RNL_TRY(check_shape(kOp, "k", c.in[kK], DType::kF32, {tokens, -1, key}));
  const int64_t kv_heads = c.in[kK].dims[1];
  RNL_TRY(check_shape(kOp, "v", c.in[kV], DType::kF32, {tokens, kv_heads, -1}));
  const int64_t value = c.in[kV].dims[2];
  RNL_CHECK_ARG(kv_heads >= 1 && heads % kv_heads == 0 && value >= 1 && value <= 65536,
                "budget_attention: %" PRId64 " heads, v is %s", heads, describe(c.in[kV], a, sizeof a));
  RNL_CHECK_ARG(keys.rank == 4, "budget_attention: keys is %s", describe(keys, a, sizeof a));
  const int64_t slots = keys.dims[1] * 16;
  RNL_TRY(check_state(kOp, "keys", c, kKeys, 1, {kv_heads, keys.dims[1], key, 16}));
  RNL_TRY(check_state(kOp, "values", c, kValues, 2, {kv_heads, slots, value}));
  for (const TensorView* w : {&c.in[kWeights], &c.out[3]})
    RNL_TRY(check_shape(kOp, "weights", *w, DType::kF32, {kv_heads, slots}));
  RNL_CHECK_ARG(c.in[kValues].dtype == keys.dtype, "budget_attention: keys and values of two types");
  RNL_CHECK_ARG(slots < (int64_t(1) << 31) && slots >= int64_t(p.budget) + p.block,
                "budget_attention: %" PRId64 " slots for a budget of %u and blocks of %u", slots, p.budget, p.block);
  RNL_TRY(check_dense(kOp, "y", y));
  const bool fits = y.rank == 3 ? y.dims[1] == heads && y.dims[2] == value : y.rank == 2 && y.dims[1] == heads * value;
  RNL_CHECK_ARG(y.dtype == DType::kF32 && y.dims[0] == tokens && fits, "budget_attention: y is %s",
                describe(y, a, sizeof a));
  return Status::ok();
}

// One kv head of the reference.
struct Head {
  const OpCall& c;
  const BudgetAttentionParams& p;
  int64_t g, group, key, value, slots;

  int64_t key_index(int64_t slot, int64_t d) const { return ((g * slots + slot) / 16 * key + d) * 16 + slot % 16; }
  int64_t value_index(int64_t slot, int64_t d) const { return (g * slots + slot) * value + d; }
  float* weights() const { return static_cast<float*>(c.out[3].data) + g * slots; }

  void write(int64_t t, int64_t slot) const {
    const TensorView &k = c.in[kK], &v = c.in[kV];
    for (int64_t d = 0; d < key; ++d)
      set_state_value(c.out[1], key_index(slot, d),
                      double(static_cast<const float*>(k.data)[(t * k.dims[1] + g) * key + d]));
    for (int64_t d = 0; d < value; ++d)
      set_state_value(c.out[2], value_index(slot, d),
                      double(static_cast<const float*>(v.data)[(t * k.dims[1] + g) * value + d]));
    weights()[slot] = 0;
  }
  double score(int64_t t, int64_t h, int64_t slot) const {
    const float* q = static_cast<const float*>(c.in[kQ].data) + (t * c.in[kQ].dims[1] + h) * key;
    double dot = 0;
    for (int64_t d = 0; d < key; ++d) dot += double(q[d]) * state_value(c.out[1], key_index(slot, d));
    return dot * double(p.scale);
  }
  void attend(int64_t t, int64_t n, bool is_counted) const {
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      float* y = static_cast<float*>(c.out[0].data) + (t * c.in[kQ].dims[1] + h) * value;
      double largest = -INFINITY, sum = 0;
      for (int64_t s = 0; s < n; ++s) largest = std::max(largest, score(t, h, s));
      for (int64_t s = 0; s < n; ++s) sum += std::exp(score(t, h, s) - largest);
      for (int64_t s = 0; is_counted && s < n; ++s) weights()[s] += float(std::exp(score(t, h, s) - largest) / sum);
      for (int64_t d = 0; d < value; ++d) {
        double out = 0;
        for (int64_t s = 0; s < n; ++s)
          out += std::exp(score(t, h, s) - largest) / sum * state_value(c.out[2], value_index(s, d));
        y[d] = float(out);
      }
    }
  }
  void evict(int64_t n, int32_t* memory) const {
    int32_t* kept = memory + n;
    const int64_t count = keep_slots(p, weights(), n, memory, kept);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t d = 0; d < key; ++d)
        set_state_value(c.out[1], key_index(i, d), state_value(c.out[1], key_index(kept[i], d)));
      for (int64_t d = 0; d < value; ++d)
        set_state_value(c.out[2], value_index(i, d), state_value(c.out[2], value_index(kept[i], d)));
      weights()[i] = p.window > 0 ? 0 : weights()[kept[i]];
    }
  }
};

void reference(const OpCall& c) {
  const auto& p = params_of<BudgetAttentionParams>(c);
  for (int i = 0; i < 3; ++i) {
    size_t bytes = dtype_bytes(c.in[kKeys + i].dtype);
    for (int d = 0; d < c.in[kKeys + i].rank; ++d) bytes *= size_t(c.in[kKeys + i].dims[d]);
    if (c.out[1 + i].data != c.in[kKeys + i].data) std::memcpy(c.out[1 + i].data, c.in[kKeys + i].data, bytes);
  }
  const int64_t tokens = c.in[kQ].dims[0], kv_heads = c.in[kK].dims[1], slots = c.in[kKeys].dims[1] * 16, P = p.block;
  int32_t* memory = new (std::nothrow) int32_t[size_t(2 * slots)];
  if (!memory) return;
  for (int64_t g = 0; g < kv_heads; ++g) {
    const Head head{c, p, g, c.in[kQ].dims[1] / kv_heads, c.in[kQ].dims[2], c.in[kV].dims[2], slots};
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t at = c.position + t, n = slots_in_use(p, at) + 1;
      head.write(t, n - 1);
      head.attend(t, n, p.window == 0 || at % P >= P - int64_t(p.window));
      if ((at + 1) % P == 0) head.evict(n, memory);
    }
  }
  delete[] memory;
}

}  // namespace

int64_t slots_in_use(const BudgetAttentionParams& p, int64_t position) {
  const int64_t begin = position / p.block * p.block;
  return std::min<int64_t>(p.budget, begin) + position - begin;
}

int64_t keep_slots(const BudgetAttentionParams& p, const float* weights, int64_t n, int32_t* order, int32_t* kept) {
  const int64_t budget = p.budget, others = n - p.recent, half = p.window > 0 ? p.pool / 2 : 0;
  if (n <= budget) {
    for (int64_t i = 0; i < n; ++i) kept[i] = int32_t(i);
    return n;
  }
  // Sums around slot i; the division by pool changes no order.
  const auto important = [&](int32_t i) {
    double sum = 0;
    for (int64_t x = std::max<int64_t>(0, i - half); x <= std::min(n - 1, i + half); ++x) sum += double(weights[x]);
    return std::isnan(sum) ? double(INFINITY) : sum;
  };
  for (int64_t i = 0; i < others; ++i) order[i] = int32_t(i);
  std::sort(order, order + others, [&](int32_t a, int32_t b) {
    const double x = important(a), y = important(b);
    return x != y ? x > y : a < b;
  });
  const int64_t chosen = budget - p.recent;
  std::sort(order, order + chosen);
  std::copy(order, order + chosen, kept);
  for (int64_t i = 0; i < int64_t(p.recent); ++i) kept[chosen + i] = int32_t(others + i);
  return budget;
}

extern constexpr OpDef budget_attention_def = define_op(registry_row::budget_attention, parse, check, reference);

}  // namespace runnel
