#include "ops/sequence.h"

#include <cstdio>

namespace runnel {

Status check_shape(const char* op, const char* what, const TensorView& t, DType dtype,
                   std::initializer_list<int64_t> dims) {
  RNL_TRY(check_dense(op, what, t));
  bool fits = t.dtype == dtype && size_t(t.rank) == dims.size();
  for (size_t i = 0; fits && i < dims.size(); ++i) fits = dims.begin()[i] < 0 || t.dims[i] == dims.begin()[i];
  if (fits) return Status::ok();
  char have[96], want[96];
  size_t n = size_t(std::snprintf(want, sizeof want, "%s[", dtype_name(dtype)));
  for (size_t i = 0; i < dims.size() && n < sizeof want; ++i) {
    const char* comma = i ? ", " : "";
    n += size_t(dims.begin()[i] < 0 ? std::snprintf(want + n, sizeof want - n, "%s*", comma)
                                    : std::snprintf(want + n, sizeof want - n, "%s%lld", comma,
                                                    static_cast<long long>(dims.begin()[i])));
  }
  if (n < sizeof want) std::snprintf(want + n, sizeof want - n, "]");
  return Status::make(Code::kInvalidArgument, "%s: %s is %s, want %s", op, what, describe(t, have, sizeof have), want);
}

Status check_state(const char* op, const char* what, const OpCall& c, int in, int out,
                   std::initializer_list<int64_t> dims) {
  const bool has_in = has_input(c, in), has_out = has_output(c, out);
  if (has_in) RNL_TRY(check_shape(op, what, c.in[in], c.in[in].dtype == DType::kF16 ? DType::kF16 : DType::kF32, dims));
  if (has_out)
    RNL_TRY(check_shape(op, what, c.out[out], c.out[out].dtype == DType::kF16 ? DType::kF16 : DType::kF32, dims));
  RNL_CHECK_ARG(!has_in || !has_out || c.in[in].dtype == c.out[out].dtype, "%s: %s comes in as %s and goes out as %s",
                op, what, dtype_name(c.in[in].dtype), dtype_name(c.out[out].dtype));
  return Status::ok();
}

Status check_segments(const char* op, const OpCall& c, int input, bool has_states) {
  if (!has_input(c, input)) return Status::ok();
  RNL_CHECK_ARG(!has_states, "%s: segments together with states", op);
  RNL_TRY(check_shape(op, "segments", c.in[input], DType::kI32, {-1}));
  RNL_CHECK_ARG(c.in[input].dims[0] >= 2, "%s: segments hold %" PRId64 " bounds, want 2 or more", op,
                c.in[input].dims[0]);
  return Status::ok();
}

Status check_segment_bounds(const char* op, const OpCall& c, int input, int64_t tokens) {
  if (!has_input(c, input)) return Status::ok();
  const int32_t* bounds = static_cast<const int32_t*>(c.in[input].data);
  const int64_t n = c.in[input].dims[0];
  for (int64_t i = 0; i < n; ++i) {
    const int64_t least = i == 0 ? 0 : bounds[i - 1];
    RNL_CHECK_ARG(bounds[i] >= least && bounds[i] <= tokens && (i > 0 || bounds[i] == 0),
                  "%s: segment bound %d (index %" PRId64 ") is not in [%" PRId64 ", %" PRId64 "]", op, int(bounds[i]),
                  i, least, i == 0 ? 0 : tokens);
  }
  RNL_CHECK_ARG(bounds[n - 1] == tokens, "%s: segments end at %d but there are %" PRId64 " tokens", op,
                int(bounds[n - 1]), tokens);
  return Status::ok();
}

}  // namespace runnel
