// XXH64 with seed 0 (the algorithm of the xxHash specification by Yann Collet), for checksums of segments, headers and
// saved states.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runnel {

// Streaming form: feed any pieces in order; the digest does not depend on how they were cut.
class Xxh64 {
 public:
  void update(const void* data, size_t size);
  uint64_t digest() const;

 private:
  uint64_t lanes_[4] = {0x60EA27EEADC0B5D6ull, 0xC2B2AE3D27D4EB4Full, 0, 0x61C8864E7A143579ull};
  unsigned char buffer_[32] = {};
  size_t buffered_ = 0;
  uint64_t total_ = 0;
};

uint64_t xxh64(const void* data, size_t size);

}  // namespace runnel
