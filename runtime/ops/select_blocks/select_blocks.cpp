#include "ops/select_blocks/select_blocks.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kKeyState };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SelectBlocksAttrs*>(attrs);
  SelectBlocksParams p{a.scale(), a.threshold(), a.block(), a.stride(), a.first(), a.least()};
  p.estimate = KeyEstimate(a.estimate()), p.choice = KeyChoice(a.choice());
  p.queries = a.queries();
  p.rows = a.rows(), p.count = a.count(), p.lines = a.lines(), p.chunk = a.chunk();
  p.similarity = a.similarity(), p.divergence = a.divergence();
  for (const float v : {p.scale, p.threshold, p.similarity, p.divergence})
    RNL_CHECK_ARG(std::isfinite(v), "select_blocks: scale, threshold, similarity or divergence is not finite");
  RNL_CHECK_ARG(p.estimate <= KeyEstimate::kTree && p.choice <= KeyChoice::kDifference,
                "select_blocks: estimate %u with choice %u is not known", unsigned(p.estimate), unsigned(p.choice));
  RNL_CHECK_ARG(p.block >= 1 && p.block <= 65536 && p.queries <= 65536 && p.stride >= 1 && p.stride <= 65536 &&
                    p.chunk >= 1,
                "select_blocks: blocks of %u positions, %u queries, strides of %u, chunks of %u", p.block, p.queries,
                p.stride, p.chunk);
  RNL_CHECK_ARG(p.estimate != KeyEstimate::kAntidiagonal ||
                    (p.block % p.stride == 0 && (p.queries == 0 || p.queries == p.block)),
                "select_blocks: antidiagonals in blocks of %u positions, %u queries, in strides of %u", p.block,
                p.queries, p.stride);
  const bool is_relative = p.estimate == KeyEstimate::kAnchor || p.estimate == KeyEstimate::kQuantised;
  RNL_CHECK_ARG(p.choice == KeyChoice::kTop ||
                    (p.estimate != KeyEstimate::kTree && is_relative == (p.choice == KeyChoice::kDifference)),
                "select_blocks: estimate %u does not take choice %u", unsigned(p.estimate), unsigned(p.choice));
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
                    (q.dims[0] == 0 || y.dims[1] > (q.dims[0] - 1) / select_blocks_sizes(c).queries),
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
  RNL_CHECK_ARG(s.lists <= c.out[0].dims[1],
                "select_blocks: the call reaches into %" PRId64 " lists, but ranges has %" PRId64, s.lists,
                c.out[0].dims[1]);
  if (!has_input(c, kKeyState)) return Status::ok();
  const int64_t slots = c.in[kKeyState].dims[1] * 16;
  if (s.position > slots)
    return Status::make(Code::kContextFull, "select_blocks: the stream holds %" PRId64 " tokens, the state %" PRId64,
                        s.position, slots);
  return Status::ok();
}

SlotUse use_slots(const OpCall&) { return {false, 0, 1, 0}; }

}  // namespace

SelectBlocksSizes select_blocks_sizes(const OpCall& c) {
  const auto& p = params_of<SelectBlocksParams>(c);
  const int64_t position = has_input(c, kKeyState) ? c.position : 0, tokens = c.in[kQ].dims[0],
                queries = p.queries ? p.queries : p.block;
  return {position, tokens, queries, position / queries,
          tokens ? (position + tokens - 1) / queries - position / queries + 1 : 0};
}

extern constexpr OpDef select_blocks_def =
    define_op(registry_row::select_blocks, parse, check, select_blocks_reference, check_data, false, use_slots);

}  // namespace runnel
