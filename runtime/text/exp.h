#pragma once

#include <bit>
#include <cstdint>

namespace runnel {

// e^x for x <= 0, about 1 unit in the last place; 0 below the normal floats. No library call, so that a loop of it
// vectorises and every machine draws the same token.
inline float exp_negative(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  const float n = float(int32_t(clamped * 1.44269504f - 0.5f));  // rounds to the nearest integer, as the argument is
                                                                 // not positive
  const float r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  float y = 1.98756915e-4f;
  y = y * r + 1.39819995e-3f;
  y = y * r + 8.33345191e-3f;
  y = y * r + 4.16657963e-2f;
  y = y * r + 1.66666655e-1f;
  y = y * r + 5.00000012e-1f;
  y = y * r * r + r + 1.0f;
  const float scale = std::bit_cast<float>(uint32_t(int32_t(n) + 127) << 23);
  return x < -87.0f ? 0.0f : y * scale;
}

}  // namespace runnel
