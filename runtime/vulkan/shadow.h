// Device memory that stands for ranges of host memory. Operators are called with host pointers on every backend; here a
// pointer finds its place on the device, so a call needs no second form, and one operator may run on the CPU between
// two that do not.
//
// The heap holds what is dense: arena, states, constants. Packed weights are in buffers of their own, shared by all
// sessions of a model.
#pragma once

#include "base/memory.h"
#include "contract/op.h"
#include "format/packed.h"
#include "vulkan/device.h"

namespace runnel::vulkan {

// The largest offset alignment that Vulkan allows a device to ask for.
inline constexpr uint64_t kHeapAlignment = 256;
inline uint64_t align_up(uint64_t n) { return (n + kHeapAlignment - 1) / kHeapAlignment * kHeapAlignment; }

class Shadow {
 public:
  explicit Shadow(Device& device) : device_(device) {}
  ~Shadow() { device_.destroy(&heap_); }
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;
  // A range of host memory, before allocate(). Ranges do not overlap.
  Status add(const void* host, uint64_t bytes);
  Status allocate();
  // Byte offset in the heap; false: the pointer lies in no range.
  bool find(const void* host, uint64_t* offset) const;
  // Room that stands for no host memory, before allocate(); it begins at bytes() as it is then.
  void reserve(uint64_t bytes) { bytes_ += align_up(bytes); }
  Status push(const void* host, uint64_t bytes);
  Status pull(void* host, uint64_t bytes) const;
  // Several ranges; those that have no place are left alone.
  Status push_all(const HostRange* ranges, size_t count);
  Status pull_all(const HostRange* ranges, size_t count) const;
  const Buffer& heap() const { return heap_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Range {
    const unsigned char* host;
    uint64_t bytes, offset;
  };
  Device& device_;
  Vec<Range> ranges_;
  uint64_t bytes_ = 0;
  Buffer heap_;
};

class WeightBuffers {
 public:
  explicit WeightBuffers(Device& device) : device_(device) {}
  ~WeightBuffers();
  WeightBuffers(const WeightBuffers&) = delete;
  WeightBuffers& operator=(const WeightBuffers&) = delete;
  // A packed matrix that stays where it is, before upload().
  Status add(const TensorView& matrix);
  // Uses the matrices where they lie when they are in `host` (a mapped file; may be empty) and the driver can; copies
  // the others, in as few allocations as the device's limit allows.
  Status upload(HostRange host = {nullptr, 0});
  struct Place {
    VkBuffer buffer;
    uint64_t offset;
  };
  bool find(const void* host, Place* place) const;
  // Of all buffers, and of those that are the host's memory.
  uint64_t bytes() const { return bytes_; }
  uint64_t imported_bytes() const { return imported_; }
  size_t allocations() const { return buffers_.size(); }
  uint64_t buffer_bytes(VkBuffer handle) const;

 private:
  struct Matrix {
    TensorView view;
    uint64_t bytes, offset;
    uint32_t buffer = kNowhere;
  };
  static constexpr uint32_t kNowhere = UINT32_MAX;
  Status import_from(HostRange host);
  Device& device_;
  Vec<Matrix> matrices_;
  Vec<Buffer> buffers_;
  uint64_t bytes_ = 0, imported_ = 0;
};

}  // namespace runnel::vulkan
