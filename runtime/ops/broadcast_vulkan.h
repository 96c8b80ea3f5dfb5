// The same for shaders: steps of words, aligned at the last of kMaxRank axes.
#pragma once

#include "ops/broadcast.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {

inline void broadcast_words(const TensorView& t, const TensorView& y, uint32_t* words) {
  int64_t steps[kMaxRank];
  broadcast_steps(t, y, steps);
  for (int i = 0; i < y.rank; ++i) words[kMaxRank - y.rank + i] = uint32_t(steps[i]);
}
inline void axis_words(const TensorView& y, uint32_t* words) {
  for (int i = 0; i < kMaxRank; ++i) words[i] = i < kMaxRank - y.rank ? 1 : uint32_t(y.dims[i - (kMaxRank - y.rank)]);
}

}  // namespace runnel::vulkan
