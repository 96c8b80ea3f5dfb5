#include "ops/transpose/transpose.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::TransposeAttrs*>(attrs);
  TransposeParams p{};
  const auto* perm = a.perm();
  const unsigned rank = perm ? perm->size() : unsigned(kMaxRank);
  RNL_CHECK_ARG(rank <= unsigned(kMaxRank), "transpose: perm has %u axes, the limit is %d", rank, kMaxRank);
  unsigned seen = 0;
  for (unsigned i = 0; i < rank; ++i) {
    p.perm[i] = perm ? perm->Get(i) : uint8_t(i);  // without perm every axis keeps its place
    RNL_CHECK_ARG(p.perm[i] < rank && !(seen >> p.perm[i] & 1), "transpose: perm is not a permutation (entry %u is %u)",
                  i, unsigned(p.perm[i]));
    seen |= 1u << p.perm[i];
  }
  p.rank = perm ? int32_t(rank) : -1;
  *params_of<TransposeParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TransposeParams& p = params_of<TransposeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("transpose", "x", x));
  RNL_CHECK_ARG(p.rank < 0 || x.rank == p.rank, "transpose: perm has %d axes but x is %s", int(p.rank),
                describe(x, a, sizeof a));
  bool fits = x.dtype == y.dtype && x.rank == y.rank;
  for (int i = 0; fits && i < x.rank; ++i) fits = y.dims[i] == x.dims[p.perm[i]];
  RNL_CHECK_ARG(fits, "transpose: y is %s but x is %s", describe(y, a, sizeof a), describe(x, b, sizeof b));
  return Status::ok();
}

// Walks y in order, a row of its last axis at a time. Trailing axes that keep their place move as one piece.
void reference(const OpCall& c) {
  const TransposeParams& p = params_of<TransposeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  size_t piece = dtype_bytes(x.dtype);
  int last = x.rank - 1;
  for (; last > 0 && p.perm[last] == last; --last) piece *= size_t(x.dims[last]);
  size_t stride[kMaxRank], total = piece;
  for (int i = last; i >= 0; --i) {
    stride[i] = total;
    total *= size_t(x.dims[i]);
  }
  if (total == 0) return;
  int64_t index[kMaxRank] = {}, row = 1;
  size_t step = 0;
  if (last >= 0) row = y.dims[last], step = stride[p.perm[last]];
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(y.data);
  for (int axis = 0; axis >= 0;) {
    const char* at = from;
    for (int64_t i = 0; i < row; ++i, at += step, to += piece)
      if (piece == 4) std::memcpy(to, at, 4);
      else std::memcpy(to, at, piece);
    for (axis = last; --axis >= 0;) {
      const size_t s = stride[p.perm[axis]];
      from += s;
      if (++index[axis] < y.dims[axis]) break;
      from -= s * size_t(index[axis]);
      index[axis] = 0;
    }
  }
}

}  // namespace

extern constexpr OpDef transpose_def = define_op(registry_row::transpose, parse, check, reference);

}  // namespace runnel
