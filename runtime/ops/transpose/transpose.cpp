#include "ops/transpose/transpose.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::TransposeAttrs*>(attrs);
  TransposeParams p{};
  const auto* perm = a.perm();
  const unsigned rank = perm ? perm->size() : 0;
  RNL_CHECK_ARG(rank <= unsigned(kMaxRank), "transpose: perm has %u axes, the limit is %d", rank, kMaxRank);
  unsigned seen = 0;
  for (unsigned i = 0; i < rank; ++i) {
    p.perm[i] = perm->Get(i);
    RNL_CHECK_ARG(p.perm[i] < rank && !(seen >> p.perm[i] & 1), "transpose: perm is not a permutation (entry %u is %u)",
                  i, unsigned(p.perm[i]));
    seen |= 1u << p.perm[i];
  }
  // Without perm every axis keeps its place.
  for (int i = 0; !perm && i < kMaxRank; ++i) p.perm[i] = uint8_t(i);
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

// Walks y in order. Trailing axes that keep their place move as one piece.
void reference(const OpCall& c) {
  const TransposeParams& p = params_of<TransposeParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  size_t piece = dtype_bytes(x.dtype);
  int rank = x.rank;
  while (rank > 0 && p.perm[rank - 1] == rank - 1) piece *= size_t(x.dims[--rank]);
  size_t stride_x[kMaxRank], step[kMaxRank];
  size_t stride = piece, pieces = 1;
  for (int i = rank - 1; i >= 0; --i) {
    stride_x[i] = stride;
    stride *= size_t(x.dims[i]);
    pieces *= size_t(x.dims[i]);
  }
  if (pieces * piece == 0) return;
  for (int i = 0; i < rank; ++i) step[i] = stride_x[p.perm[i]];
  int64_t index[kMaxRank] = {};
  size_t from = 0;
  char* to = static_cast<char*>(y.data);
  for (size_t n = 0; n < pieces; ++n, to += piece) {
    std::memcpy(to, static_cast<const char*>(x.data) + from, piece);
    for (int i = rank - 1; i >= 0; --i) {
      from += step[i];
      if (++index[i] < y.dims[i]) break;
      from -= step[i] * size_t(y.dims[i]);
      index[i] = 0;
    }
  }
}

}  // namespace

extern constexpr OpDef transpose_def = define_op(registry_row::transpose, parse, check, reference);

}  // namespace runnel
