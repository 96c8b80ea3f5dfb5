// A fuzzer's input as a source of choices; behind its end all are the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace runnel::test {

struct Bytes {
  const uint8_t* data;
  size_t size, at = 0;
  uint8_t byte() { return at < size ? data[at++] : 0; }
  uint32_t below(uint32_t n) { return n ? byte() % n : 0; }
  bool one_in(uint32_t n) { return below(n) == n - 1; }
};

// RUNNEL_FUZZ_BACKEND=vulkan: sessions may be on the device.
inline bool fuzzes_vulkan() {
  static const char* const backend = std::getenv("RUNNEL_FUZZ_BACKEND");
  return backend && std::strcmp(backend, "vulkan") == 0;
}

inline int64_t one_of(std::initializer_list<int64_t> list, size_t i) { return list.begin()[i % list.size()]; }

}  // namespace runnel::test
