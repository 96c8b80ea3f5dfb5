// Big zeroed blocks straight from the system: pages are committed when they are touched and given back at once.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace runnel {

class Block {
 public:
  Block() = default;
  Block(Block&& o) noexcept;
  Block& operator=(Block&& o) noexcept;
  ~Block();
  // Zeroed, page aligned. what: named in the error.
  static Result<Block> allocate(size_t bytes, const char* what);
  // Memory of the caller, who keeps it alive. Zeroed here. Must be aligned to `alignment`.
  static Result<Block> borrow(void* data, size_t bytes, size_t alignment, const char* what);

  // Gives the pages back to the system: they are zero when they are touched again. At once on Linux, when others need
  // memory on Apple's systems; of no effect elsewhere and on memory of the caller.
  void give_back();

  unsigned char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  unsigned char* data_ = nullptr;
  size_t size_ = 0, mapped_ = 0;
};

// A part of some memory.
struct HostRange {
  unsigned char* data;
  size_t bytes;
};

}  // namespace runnel
