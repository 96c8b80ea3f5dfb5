#include "base/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace runnel {

Block::Block(Block&& o) noexcept
    : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)), mapped_(std::exchange(o.mapped_, 0)) {}

Block& Block::operator=(Block&& o) noexcept {
  std::swap(data_, o.data_);
  std::swap(size_, o.size_);
  std::swap(mapped_, o.mapped_);
  return *this;
}

Block::~Block() {
  if (mapped_) ::munmap(data_, mapped_);
}

Result<Block> Block::allocate(size_t bytes, const char* what) {
  Block b;
  const size_t mapped = bytes ? bytes : 1;
  void* p = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    return Status::make(Code::kOutOfMemory, "no memory for the %s: %zu bytes: %s", what, bytes, std::strerror(errno));
  b.data_ = static_cast<unsigned char*>(p);
  b.size_ = bytes;
  b.mapped_ = mapped;
  return b;
}

void Block::give_back() {
#if defined(__linux__)
  if (mapped_) (void)::madvise(data_, mapped_, MADV_DONTNEED);
#elif defined(__APPLE__)
  if (mapped_) (void)::madvise(data_, mapped_, MADV_FREE);
#endif
}

Result<Block> Block::borrow(void* data, size_t bytes, size_t alignment, const char* what) {
  if (!data || reinterpret_cast<uintptr_t>(data) % alignment != 0)
    return Status::make(Code::kInvalidArgument, "memory given for the %s is null or not aligned to %zu bytes", what,
                        alignment);
  Block b;
  b.data_ = static_cast<unsigned char*>(data);
  b.size_ = bytes;
  std::memset(data, 0, bytes);
  return b;
}

}  // namespace runnel
