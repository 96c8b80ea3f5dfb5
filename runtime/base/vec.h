// A growable array whose allocations can fail without ending the process. Elements are plain data or movable.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "base/status.h"

namespace runnel {

// Memory for n elements of a size and alignment, with the first `used` bytes of what was there, which is freed. Null
// data: none was.
Status grow_raw(void** data, size_t* capacity, size_t used, size_t n, size_t size, size_t alignment);

template <class T>
class Vec {
 public:
  Vec() = default;
  Vec(Vec&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)),
        size_(std::exchange(o.size_, 0)),
        capacity_(std::exchange(o.capacity_, 0)) {}
  Vec& operator=(Vec&& o) noexcept {
    if (this != &o) {
      clear_all();
      data_ = std::exchange(o.data_, nullptr);
      size_ = std::exchange(o.size_, 0);
      capacity_ = std::exchange(o.capacity_, 0);
    }
    return *this;
  }
  ~Vec() { clear_all(); }

  // Makes it `n` value-initialised elements, dropping what was there.
  Status assign(size_t n) {
    clear_all();
    RNL_TRY(grow(n));
    for (size_t i = 0; i < n; ++i) new (data_ + i) T();
    size_ = n;
    return Status::ok();
  }
  Status push(T value) {
    if (size_ == capacity_) RNL_TRY(grow(capacity_ ? capacity_ * 2 : 16));
    new (data_ + size_++) T(std::move(value));
    return Status::ok();
  }
  // Room for `n` elements in all, without changing what is there.
  Status reserve(size_t n) { return n <= capacity_ ? Status::ok() : grow(n < capacity_ * 2 ? capacity_ * 2 : n); }
  Status append(const T* values, size_t n) {
    if (n > size_t(-1) - size_) return Status::make(Code::kOutOfMemory, "cannot allocate %zu more elements", n);
    RNL_TRY(reserve(size_ + n));
    if constexpr (std::is_trivially_copyable_v<T>) {
      if (n) std::memcpy(data_ + size_, values, n * sizeof(T));
      size_ += n;
    } else {
      for (size_t i = 0; i < n; ++i) new (data_ + size_++) T(values[i]);
    }
    return Status::ok();
  }
  void pop() { data_[--size_].~T(); }
  // Drops the elements and keeps the memory.
  void clear() {
    while (size_) pop();
  }
  // Drops the elements from `n` on.
  void truncate(size_t n) {
    while (size_ > n) pop();
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& back() { return data_[size_ - 1]; }
  size_t bytes() const { return capacity_ * sizeof(T); }

 private:
  Status grow(size_t n) {
    if (n <= capacity_) return Status::ok();
    if constexpr (std::is_trivially_copyable_v<T>) {
      void* data = data_;
      RNL_TRY(grow_raw(&data, &capacity_, size_ * sizeof(T), n, sizeof(T), alignof(T)));
      data_ = static_cast<T*>(data);
      return Status::ok();
    }
    T* fresh = n > size_t(-1) / 2 / sizeof(T)
                   ? nullptr
                   : static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(alignof(T)), std::nothrow));
    if (!fresh) return Status::make(Code::kOutOfMemory, "cannot allocate %zu elements of %zu bytes", n, sizeof(T));
    for (size_t i = 0; i < size_; ++i) {
      new (fresh + i) T(std::move(data_[i]));
      data_[i].~T();
    }
    if (data_) ::operator delete(data_, std::align_val_t(alignof(T)));
    data_ = fresh;
    capacity_ = n;
    return Status::ok();
  }
  void clear_all() {
    for (size_t i = 0; i < size_; ++i) data_[i].~T();
    if (data_) ::operator delete(data_, std::align_val_t(alignof(T)));
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

  T* data_ = nullptr;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace runnel
