// For kernels along a sequence: up to 16 lanes at a time, states of f32 or f16, segments in either direction.
#pragma once

#include "cpu/call.h"

namespace runnel::RNL_ISA {

RNL_INLINE f32x16 load_lanes(const float* p, int lanes) { return lanes == 16 ? load(p) : load_n(p, lanes); }
RNL_INLINE void store_lanes(float* p, f32x16 v, int lanes) {
  if (lanes == 16) store(p, v);
  else store_n(p, v, lanes);
}

// Where a state comes from and goes to; null data: zeros, or not kept.
struct StatePlace {
  const void* in;
  void* out;
  bool is_half;
};
RNL_INLINE StatePlace state_place(const OpCall& c, int in, int out) {
  const bool has_in = has_input(c, in), has_out = out < c.out_count && c.out[out].dtype != DType::kNone;
  return {has_in ? c.in[in].data : nullptr, has_out ? c.out[out].data : nullptr,
          (has_in    ? c.in[in].dtype
           : has_out ? c.out[out].dtype
                     : DType::kF32) == DType::kF16};
}
RNL_INLINE f32x16 load_state(const StatePlace& s, int64_t i, int lanes) {
  if (!s.in) return splat(0.0f);
  if (!s.is_half) return load_lanes(static_cast<const float*>(s.in) + i, lanes);
  uint16_t part[16] = {};
  for (int k = 0; k < lanes; ++k) part[k] = static_cast<const uint16_t*>(s.in)[i + k];
  return load_half(part);
}
RNL_INLINE void store_state(const StatePlace& s, int64_t i, f32x16 v, int lanes) {
  if (!s.out) return;
  if (!s.is_half) return store_lanes(static_cast<float*>(s.out) + i, v, lanes);
  uint16_t part[16];
  store_half(part, v);
  for (int k = 0; k < lanes; ++k) static_cast<uint16_t*>(s.out)[i + k] = part[k];
}

// The tokens of one independent sequence in the order in which they are visited.
struct Run {
  int64_t first, count, step;  // step is 1 or -1
};
struct Runs {
  const int32_t* bounds;
  int64_t count, tokens;
  bool is_reverse;
};
RNL_INLINE Runs runs_of(const OpCall& c, int segments, int64_t tokens, bool is_reverse) {
  const int32_t* bounds = input<int32_t>(c, segments);
  return {bounds, bounds ? c.in[segments].dims[0] - 1 : 1, tokens, is_reverse};
}
RNL_INLINE Run run_at(const Runs& r, int64_t i) {
  const int64_t begin = r.bounds ? r.bounds[i] : 0, end = r.bounds ? r.bounds[i + 1] : r.tokens;
  return r.is_reverse ? Run{end - 1, end - begin, -1} : Run{begin, end - begin, 1};
}

}  // namespace runnel::RNL_ISA
