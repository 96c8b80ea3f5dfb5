// What operators along a sequence share: shape checks, independent segments, states that come in and go out. Not for
// kernels.
#pragma once

#include <initializer_list>

#include "base/half.h"
#include "ops/define.h"

namespace runnel {

// Proves that a view is a dense array of this type and shape; -1 stands for any size.
Status check_shape(const char* op, const char* what, const TensorView& t, DType dtype,
                   std::initializer_list<int64_t> dims);
// A state: input `in` and output `out` (indices; either may be absent), f32 or f16, both of this shape and type.
Status check_state(const char* op, const char* what, const OpCall& c, int in, int out,
                   std::initializer_list<int64_t> dims);
// Bounds of independent sequences: i32 [n + 1], without states only.
Status check_segments(const char* op, const OpCall& c, int input, bool has_states);
// Their values: 0 .. tokens, not decreasing.
Status check_segment_bounds(const char* op, const OpCall& c, int input, int64_t tokens);

inline bool has_output(const OpCall& c, int i) { return i < c.out_count && c.out[i].dtype != DType::kNone; }

inline double state_value(const TensorView& t, int64_t i) {
  return t.dtype == DType::kF16 ? double(half_to_float(static_cast<const uint16_t*>(t.data)[i]))
                                : double(static_cast<const float*>(t.data)[i]);
}
inline void set_state_value(const TensorView& t, int64_t i, double v) {
  if (t.dtype == DType::kF16) static_cast<uint16_t*>(t.data)[i] = float_to_half(float(v));
  else static_cast<float*>(t.data)[i] = float(v);
}

// Calls fn(first token, tokens) for each segment; without bounds once for all.
template <class Fn>
void for_each_segment(const OpCall& c, int input, int64_t tokens, Fn fn) {
  if (!has_input(c, input)) return fn(int64_t(0), tokens);
  const int32_t* bounds = static_cast<const int32_t*>(c.in[input].data);
  for (int64_t s = 0; s + 1 < c.in[input].dims[0]; ++s) fn(int64_t(bounds[s]), int64_t(bounds[s + 1] - bounds[s]));
}

}  // namespace runnel
