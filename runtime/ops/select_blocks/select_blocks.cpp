#include "ops/select_blocks/select_blocks.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "base/half.h"
#include "format/states.h"
#include "ops/define.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kKeyState };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SelectBlocksAttrs*>(attrs);
  const SelectBlocksParams p{a.scale(), a.threshold(), a.block(), a.stride(), a.first(), a.least()};
  RNL_CHECK_ARG(std::isfinite(p.scale) && std::isfinite(p.threshold),
                "select_blocks: scale or threshold is not finite");
  RNL_CHECK_ARG(p.stride >= 1 && p.block >= 1 && p.block % p.stride == 0 && p.block <= 65536,
                "select_blocks: blocks of %u positions in strides of %u", p.block, p.stride);
  *params_of<SelectBlocksParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const auto& p = params_of<SelectBlocksParams>(c);
  const TensorView &q = c.in[kQ], &k = c.in[kK], &y = c.out[0];
  RNL_TRY(check_dense("select_blocks", "q", q));
  RNL_TRY(check_dense("select_blocks", "k", k));
  RNL_TRY(check_dense("select_blocks", "ranges", y));
  RNL_CHECK_ARG(q.dtype == DType::kF32 && k.dtype == DType::kF32 && q.rank == 3 && k.rank == 3 &&
                    k.dims[0] == q.dims[0] && k.dims[2] == q.dims[2] && k.dims[1] >= 1 && q.dims[1] % k.dims[1] == 0,
                "select_blocks: q is %s, k is %s", describe(q, a, sizeof a), describe(k, b, sizeof b));
  RNL_CHECK_ARG(q.dims[0] < (int64_t(1) << 31) && q.dims[1] >= 1 && q.dims[1] <= 65536 && q.dims[2] >= 1 &&
                    q.dims[2] <= 65536,
                "select_blocks: q is %s", describe(q, a, sizeof a));
  RNL_CHECK_ARG(y.dtype == DType::kI32 && y.rank == 4 && y.dims[0] == q.dims[1] && y.dims[2] >= 1 && y.dims[3] == 3 &&
                    (q.dims[0] == 0 || y.dims[1] > (q.dims[0] - 1) / int64_t(p.block)),
                "select_blocks: ranges is %s for q of %s", describe(y, a, sizeof a), describe(q, b, sizeof b));
  if (!has_input(c, kKeyState)) return Status::ok();
  const TensorView& s = c.in[kKeyState];
  RNL_CHECK_ARG((s.dtype == DType::kF32 || s.dtype == DType::kF16 || s.dtype == DType::kQ8) && s.rank == 4 &&
                    s.dims[0] == k.dims[1] && s.dims[2] == k.dims[2] && s.dims[3] == 16,
                "select_blocks: k_state is %s for k of %s", describe(s, a, sizeof a), describe(k, b, sizeof b));
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const SelectBlocksSizes s = select_blocks_sizes(c);
  RNL_CHECK_ARG(s.blocks <= c.out[0].dims[1],
                "select_blocks: the call reaches into %" PRId64 " blocks, but ranges has %" PRId64, s.blocks,
                c.out[0].dims[1]);
  if (!has_input(c, kKeyState)) return Status::ok();
  const int64_t slots = c.in[kKeyState].dims[1] * 16;
  if (s.position > slots)
    return Status::make(Code::kContextFull, "select_blocks: the stream holds %" PRId64 " tokens, the state %" PRId64,
                        s.position, slots);
  return Status::ok();
}

SlotUse use_slots(const OpCall&) { return {false, 0, 1, 0}; }

float state_element(const TensorView& s, int64_t h, int64_t slot, int64_t d) {
  const int64_t key = s.dims[2], tile = h * s.dims[1] + slot / 16, lane = slot % 16;
  if (s.dtype == DType::kF32) return static_cast<const float*>(s.data)[(tile * key + d) * 16 + lane];
  if (s.dtype == DType::kF16) return half_to_float(static_cast<const uint16_t*>(s.data)[(tile * key + d) * 16 + lane]);
  const auto* block = static_cast<const unsigned char*>(s.data) + (tile * ((key + 31) / 32) + d / 32) * (34 * 16);
  const uint16_t scale = uint16_t(block[512 + lane * 2] | block[513 + lane * 2] << 8);
  return float(int8_t(block[d % 32 * 16 + lane])) * half_to_float(scale);
}

// Key element d of position j; 0 behind the call's end.
float key_at(const OpCall& c, const SelectBlocksSizes& s, int64_t h, int64_t j, int64_t d) {
  const TensorView& k = c.in[kK];
  if (j >= s.position + s.tokens) return 0;
  if (j >= s.position) return static_cast<const float*>(k.data)[((j - s.position) * k.dims[1] + h) * k.dims[2] + d];
  return state_element(c.in[kKeyState], h, j, d);
}
float query_at(const OpCall& c, const SelectBlocksSizes& s, int64_t h, int64_t j, int64_t d) {
  const TensorView& q = c.in[kQ];
  if (j < s.position || j >= s.position + s.tokens) return 0;
  return static_cast<const float*>(q.data)[((j - s.position) * q.dims[1] + h) * q.dims[2] + d];
}

// Importance of the blocks 0 .. own for head h, a row of scores at a time; without memory of its own each row's scores
// are computed three times.
void estimate(const OpCall& c, const SelectBlocksSizes& s, int64_t h, int64_t own, float* importance) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t S = p.stride, rows = p.block / S, kv = h / (c.in[kQ].dims[1] / c.in[kK].dims[1]),
                key = c.in[kQ].dims[2];
  std::fill(importance, importance + own + 1, 0.0f);
  for (int64_t r = own * rows; r < (own + 1) * rows; ++r) {
    if (r * S >= s.position + s.tokens || (r + 1) * S <= s.position) continue;  // no query of the call
    const auto score = [&](int64_t column) {
      double dot = 0;
      for (int64_t i = 0; i < S; ++i)
        for (int64_t d = 0; d < key; ++d)
          dot += double(query_at(c, s, h, r * S + S - 1 - i, d)) * double(key_at(c, s, kv, column * S + i, d));
      return dot * double(p.scale) / double(S);
    };
    double largest = -INFINITY, sum = 0;
    for (int64_t column = 0; column <= r; ++column) largest = std::max(largest, score(column));
    for (int64_t column = 0; column <= r; ++column) sum += std::exp(score(column) - largest);
    for (int64_t column = 0; column <= r; ++column)
      importance[column / rows] += float(std::exp(score(column) - largest) / sum);
  }
}

void reference(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const SelectBlocksSizes s = select_blocks_sizes(c);
  const TensorView& y = c.out[0];
  const int64_t heads = y.dims[0], lists = y.dims[1], n = y.dims[2];
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t l = 0; l < lists; ++l) {
      int32_t* ranges = static_cast<int32_t*>(y.data) + (h * lists + l) * n * 3;
      const int64_t own = s.first_block + l;
      if (l >= s.blocks || s.tokens < int64_t(p.least)) {
        choose_blocks(p, nullptr, l < s.blocks ? own : -1, nullptr, ranges, n);
        continue;
      }
      float* importance = new (std::nothrow) float[size_t(2 * (own + 1))];  // and as many integers
      if (importance) estimate(c, s, h, own, importance);
      choose_blocks(p, importance, own, reinterpret_cast<int32_t*>(importance + own + 1), ranges, n);
      delete[] importance;
    }
}

}  // namespace

SelectBlocksSizes select_blocks_sizes(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t position = has_input(c, kKeyState) ? c.position : 0, tokens = c.in[kQ].dims[0], block = p.block;
  return {position, tokens, position / block, tokens ? (position + tokens - 1) / block - position / block + 1 : 0};
}

void choose_blocks(const SelectBlocksParams& p, const float* importance, int64_t own, int32_t* order, int32_t* ranges,
                   int64_t n) {
  for (int64_t i = 0; i < n; ++i) ranges[3 * i] = ranges[3 * i + 1] = 0, ranges[3 * i + 2] = 1;
  if (own < 0) return;
  const int64_t block = p.block, end = (own + 1) * block;
  if (!importance) {
    ranges[1] = int32_t(end);
    return;
  }
  const auto rank = [&](int32_t b) { return std::isnan(importance[b]) ? INFINITY : importance[b]; };
  const auto is_kept = [&](int32_t b) { return b == own || b < int64_t(p.first); };
  for (int64_t b = 0; b <= own; ++b) order[b] = int32_t(b);
  std::sort(order, order + own + 1, [&](int32_t a, int32_t b) {
    if (is_kept(a) != is_kept(b)) return is_kept(a);
    return rank(a) != rank(b) ? rank(a) > rank(b) : a < b;
  });
  double whole = 0, held = 0;
  for (int64_t b = 0; b <= own; ++b) whole += double(importance[b]);
  int64_t chosen = 0;
  while (chosen <= own && (is_kept(order[chosen]) || !(held >= double(p.threshold) * whole)))
    held += double(importance[order[chosen++]]);
  std::sort(order, order + chosen);
  int64_t used = 0;
  for (int64_t i = 0; i < chosen; ++i) {
    const int32_t begin = int32_t(order[i] * block);
    if (used > 0 && ranges[3 * used - 2] == begin) {
      ranges[3 * used - 2] = int32_t(begin + block);
    } else if (used == n) {
      ranges[3 * n - 2] = int32_t(end);
      return;
    } else {
      ranges[3 * used] = begin, ranges[3 * used + 1] = int32_t(begin + block);
      ++used;
    }
  }
}

extern constexpr OpDef select_blocks_def =
    define_op(registry_row::select_blocks, parse, check, reference, check_data, false, use_slots);

}  // namespace runnel
