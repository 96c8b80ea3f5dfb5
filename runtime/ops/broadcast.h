// Shapes that meet by numpy's rules: aligned at the last axis, an axis of 1 (or a missing one) is repeated.
#pragma once

#include "contract/view.h"

namespace runnel {

// Steps of t along the axes of y, 0 where it is repeated; false where it does not fit.
inline bool broadcast_steps(const TensorView& t, const TensorView& y, int64_t steps[kMaxRank]) {
  if (t.rank > y.rank) return false;
  int64_t step = 1;
  for (int i = 0; i < y.rank; ++i) steps[i] = 0;
  for (int i = t.rank - 1; i >= 0; --i) {
    const int at = i + y.rank - t.rank;
    if (t.dims[i] != 1 && t.dims[i] != y.dims[at]) return false;
    steps[at] = t.dims[i] == 1 ? 0 : step;
    step *= t.dims[i];
  }
  return true;
}

// Whether each axis of y is that of one of its operands: no axis is larger than all of theirs.
inline bool is_broadcast_of(const TensorView* in, int count, const TensorView& y) {
  int rank = 0;
  for (int i = 0; i < count; ++i) rank = in[i].rank > rank ? in[i].rank : rank;
  bool fits = y.rank == rank;
  for (int d = 0; fits && d < rank; ++d) {
    bool found = y.dims[d] == 1;
    for (int i = 0; i < count; ++i) {
      const int at = d - (rank - in[i].rank);
      found = found || (at >= 0 && in[i].dims[at] == y.dims[d]);
    }
    fits = found;
  }
  int64_t steps[kMaxRank];
  for (int i = 0; fits && i < count; ++i) fits = broadcast_steps(in[i], y, steps);
  return fits;
}

// Element of t for element n of y.
inline int64_t broadcast_at(int64_t n, const TensorView& y, const int64_t steps[kMaxRank]) {
  int64_t at = 0;
  for (int i = y.rank - 1; i >= 0; --i) {
    at += n % y.dims[i] * steps[i];
    n /= y.dims[i];
  }
  return at;
}

}  // namespace runnel
