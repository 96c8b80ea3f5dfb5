#include "ops/routed_matmul/routed_matmul.h"

#include "format/packed.h"
#include "ops/sequence.h"

namespace runnel {
namespace {

constexpr const char* kOp = "routed_matmul";

int64_t tiled(int64_t rows) { return (rows + kTileRows - 1) / kTileRows * kTileRows; }

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &x = c.in[0], &y0 = c.out[0];
  const int count = c.out_count;
  RNL_CHECK_ARG(c.in_count >= 2 + count && c.in_count <= 2 + 2 * count, "%s: %d inputs for %d outputs", kOp, c.in_count,
                count);
  RNL_TRY(check_shape(kOp, "y", y0, DType::kF32, {-1, -1, -1}));
  const int64_t tokens = y0.dims[0], slots = y0.dims[1];
  const bool shared = x.rank == 2;
  RNL_TRY(shared ? check_shape(kOp, "x", x, DType::kF32, {tokens, -1})
                 : check_shape(kOp, "x", x, DType::kF32, {tokens, slots, -1}));
  const int64_t k = x.dims[x.rank - 1];
  RNL_CHECK_ARG(slots >= 1 && k >= 1, "%s: %" PRId64 " slots of %" PRId64 " columns", kOp, slots, k);
  if (has_input(c, 1)) RNL_TRY(check_shape(kOp, "ids", c.in[1], DType::kI32, {tokens, slots}));
  int64_t experts = 0;
  for (int i = 0; i < count; ++i) {
    const TensorView &w = c.in[2 + i], &y = c.out[i];
    RNL_TRY(check_shape(kOp, "an output", y, DType::kF32, {tokens, slots, -1}));
    const int64_t n = y.dims[2];
    RNL_CHECK_ARG(w.dtype == DType::kPacked && w.rank == 2 && w.dims[1] == k && n >= 1 && w.dims[0] > 0 &&
                      w.dims[0] % tiled(n) == 0,
                  "%s: weight %d is %s but output %d is %s", kOp, i + 1, describe(w, a, sizeof a), i + 1,
                  describe(y, b, sizeof b));
    RNL_CHECK_ARG(!w.packed->split, "%s: weight %d is split, which is for output matrices", kOp, i + 1);
    const int64_t own = w.dims[0] / tiled(n);
    RNL_CHECK_ARG(i == 0 || own == experts, "%s: weight %d has %" PRId64 " experts, the first %" PRId64, kOp, i + 1,
                  own, experts);
    experts = own;
    const int at = RNL_ROUTED_BIAS(count, i);
    if (has_input(c, at)) RNL_TRY(check_shape(kOp, "a bias", c.in[at], DType::kF32, {experts, n}));
  }
  RNL_CHECK_ARG(has_input(c, 1) || (!shared && slots == experts),
                "%s: without ids there must be a slot for each of the %" PRId64 " experts", kOp, experts);
  return Status::ok();
}

Status check_data(const OpCall& c) {
  if (!has_input(c, 1)) return Status::ok();
  const int64_t n = element_count(c.in[1]), experts = c.in[2].dims[0] / tiled(c.out[0].dims[2]);
  const int32_t* ids = static_cast<const int32_t*>(c.in[1].data);
  for (int64_t i = 0; i < n; ++i)
    RNL_CHECK_ARG(ids[i] >= 0 && ids[i] < experts, "%s: expert %d (index %" PRId64 ") is not in 0 .. %" PRId64, kOp,
                  int(ids[i]), i, experts - 1);
  return Status::ok();
}

void reference(const OpCall& c) {
  const TensorView& x = c.in[0];
  const int64_t tokens = c.out[0].dims[0], slots = c.out[0].dims[1], k = x.dims[x.rank - 1];
  constexpr int64_t kPiece = 1024;
  float row[kPiece];
  for (int i = 0; i < c.out_count; ++i) {
    const TensorView& w = c.in[2 + i];
    const int64_t n = c.out[i].dims[2];
    const int at = RNL_ROUTED_BIAS(c.out_count, i);
    const float* bias = has_input(c, at) ? static_cast<const float*>(c.in[at].data) : nullptr;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t s = 0; s < slots; ++s) {
        const int64_t e = has_input(c, 1) ? static_cast<const int32_t*>(c.in[1].data)[t * slots + s] : s;
        const float* in = static_cast<const float*>(x.data) + (x.rank == 2 ? t : t * slots + s) * k;
        float* out = static_cast<float*>(c.out[i].data) + (t * slots + s) * n;
        for (int64_t r = 0; r < n; ++r) {
          double sum = bias ? double(bias[e * n + r]) : 0;
          for (int64_t first = 0; first < k; first += kPiece) {
            const int64_t size = first + kPiece < k ? kPiece : k - first;
            unpack_columns(*w.packed, w.data, k, e * tiled(n) + r, first, first + size, row);
            for (int64_t d = 0; d < size; ++d) sum += double(in[first + d]) * double(row[d]);
          }
          out[r] = float(sum);
        }
      }
  }
}

}  // namespace

extern constexpr OpDef routed_matmul_def =
    define_op(registry_row::routed_matmul, parse_nothing, check, reference, check_data);

}  // namespace runnel
