// Columns that several invocations share, for the shaders that include shaders/common/lanes.glsl.
#pragma once

#include "vulkan/recorder.h"

namespace runnel::vulkan {

// Invocations of a column of `size` elements that have at most `each` of them, a multiple of 4; at most 64 where that
// is not too few.
inline uint32_t lanes_of(uint32_t size, uint32_t each) {
  uint32_t lanes = 1;
  while (lanes < 64 && each * lanes < size) lanes *= 2;
  return lanes;
}

// The shader's first constants.
struct Lanes {
  uint32_t size, lanes, quads, near;
  Lanes(const Recorder& r, uint32_t size, uint32_t each) : size(size) {
    // On a CPU lanes would only wait for each other.
    lanes = r.is_cpu() && !r.has(kShuffle) ? 1 : lanes_of(size, each);
    quads = (size + 4 * lanes - 1) / (4 * lanes);
    near = lanes < r.least_subgroup() ? lanes : r.least_subgroup();
  }
  // Rows of the heap can be read as vectors when all of them begin at multiples of four.
  bool are_aligned(std::initializer_list<uint32_t> places) const {
    for (const uint32_t at : places)
      if (at != kAbsent && at % 4 != 0) return false;
    return size % 4 == 0;
  }
  uint64_t groups(uint64_t columns) const { return (columns * lanes + 63) / 64; }
};

}  // namespace runnel::vulkan
