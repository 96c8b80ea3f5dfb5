#pragma once

#include <chrono>
#include <cstdint>

namespace runnel {

// Nanoseconds of a clock that never goes back.
inline uint64_t now_ns() {
  return uint64_t(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

}  // namespace runnel
