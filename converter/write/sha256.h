// SHA-256 (FIPS 180-4), for the provenance of a converted file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace runnel::convert {

class Sha256 {
 public:
  void update(const void* data, size_t size);
  // 64 hexadecimal digits. Call once.
  std::string finish();

 private:
  void block(const uint8_t* p);
  uint32_t h_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t buffer_[64] = {};
  uint64_t total_ = 0;
};

}  // namespace runnel::convert
