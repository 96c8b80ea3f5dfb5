#include "ops/reshape/reshape.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y = c.out[0];
  RNL_TRY(check_dense("reshape", "x", x));
  RNL_TRY(check_dense("reshape", "y", y));
  RNL_CHECK_ARG(x.dtype == y.dtype && element_count(x) == element_count(y), "reshape: y is %s but x is %s",
                describe(y, a, sizeof a), describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const size_t bytes = size_t(element_count(c.in[0])) * dtype_bytes(c.in[0].dtype);
  if (bytes != 0 && c.in[0].data != c.out[0].data) std::memmove(c.out[0].data, c.in[0].data, bytes);
}

}  // namespace

extern constexpr OpDef reshape_def = define_op(registry_row::reshape, parse_nothing, check, reference, nullptr, true);

}  // namespace runnel
