// What every kernel file needs to read a call. Per-target inline code, see simd.h.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"
#include "cpu/thread_pool.h"

namespace runnel::RNL_ISA {

template <class P>
RNL_INLINE const P& params_of(const OpCall& c) {
  return *reinterpret_cast<const P*>(c.params->bytes);
}
RNL_INLINE bool has_input(const OpCall& c, int i) { return i < c.in_count && c.in[i].dtype != DType::kNone; }
// Data of input i, null when it is absent.
template <class T>
RNL_INLINE const T* input(const OpCall& c, int i) {
  return has_input(c, i) ? static_cast<const T*>(c.in[i].data) : nullptr;
}
template <class T>
RNL_INLINE T* output(const OpCall& c, int i) {
  return static_cast<T*>(c.out[i].data);
}
// Product of all axes but the last.
RNL_INLINE int64_t rows_of(const TensorView& t) {
  int64_t n = 1;
  for (int i = 0; i + 1 < t.rank; ++i) n *= t.dims[i];
  return n;
}
RNL_INLINE int64_t elements_of(const TensorView& t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.dims[i];
  return n;
}

}  // namespace runnel::RNL_ISA
