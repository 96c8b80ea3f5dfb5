// What checks and messages ask of views and calls. Not for kernels: see contract/op.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "contract/op.h"

namespace runnel {

// "in[2] [4, 16, 64] f32" style helpers for messages; buffer of 96 bytes or more.
const char* describe(const TensorView& t, char* buffer, size_t size);
bool same_shape(const TensorView& a, const TensorView& b);
int64_t element_count(const TensorView& t);
// Proves that a view is a dense array that kernels may index: an element type, rank 0 to kMaxRank, no negative axis,
// and axes whose product stays below 2^40 even with empty axes counted as 1, so that no partial product overflows.
Status check_dense(const char* op, const char* what, const TensorView& t);
inline bool has_input(const OpCall& c, int i) { return i < c.in_count && c.in[i].dtype != DType::kNone; }

}  // namespace runnel
