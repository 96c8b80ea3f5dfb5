#include "vulkan/shadow.h"

#include <cstring>

namespace runnel::vulkan {
Status Shadow::add(const void* host, uint64_t bytes) {
  if (bytes == 0) return Status::ok();
  RNL_TRY(ranges_.push({static_cast<const unsigned char*>(host), bytes, bytes_}));
  bytes_ += align_up(bytes);
  return Status::ok();
}

Status Shadow::allocate() {
  RNL_ASSIGN(b, device_.create_buffer(bytes_, MemoryKind::kDevice, "the session's memory on the device"));
  heap_ = b;
  return Status::ok();
}

bool Shadow::find(const void* host, uint64_t* offset) const {
  const auto* p = static_cast<const unsigned char*>(host);
  for (const Range& r : ranges_)
    if (p >= r.host && p < r.host + r.bytes) {
      *offset = r.offset + uint64_t(p - r.host);
      return true;
    }
  return false;
}

Status Shadow::push(const void* host, uint64_t bytes) {
  uint64_t offset = 0;
  if (bytes == 0) return Status::ok();
  if (!find(host, &offset)) return Status::make(Code::kInternal, "Vulkan: memory without a place on the device");
  const CopyPiece piece{static_cast<unsigned char*>(const_cast<void*>(host)), bytes, offset};
  return device_.upload(heap_, &piece, 1);
}

Status Shadow::pull(void* host, uint64_t bytes) const {
  uint64_t offset = 0;
  if (bytes == 0) return Status::ok();
  if (!find(host, &offset)) return Status::make(Code::kInternal, "Vulkan: memory without a place on the device");
  const CopyPiece piece{static_cast<unsigned char*>(host), bytes, offset};
  return device_.download(heap_, &piece, 1);
}

Status Shadow::push_all(const HostRange* ranges, size_t count) {
  Vec<CopyPiece> pieces;
  for (size_t i = 0; i < count; ++i) {
    uint64_t offset = 0;
    if (ranges[i].bytes && find(ranges[i].data, &offset))
      RNL_TRY(pieces.push({ranges[i].data, ranges[i].bytes, offset}));
  }
  return device_.upload(heap_, pieces.data(), pieces.size());
}

Status Shadow::pull_all(const HostRange* ranges, size_t count) const {
  Vec<CopyPiece> pieces;
  for (size_t i = 0; i < count; ++i) {
    uint64_t offset = 0;
    if (ranges[i].bytes && find(ranges[i].data, &offset))
      RNL_TRY(pieces.push({ranges[i].data, ranges[i].bytes, offset}));
  }
  return device_.download(heap_, pieces.data(), pieces.size());
}

WeightBuffers::~WeightBuffers() {
  for (Buffer& b : buffers_) device_.destroy(&b);
}

Status WeightBuffers::add(const TensorView& matrix) {
  WeightBuffers::Place place;
  const uint64_t bytes = matrix.packed->matrix_bytes(matrix.dims[0], matrix.dims[1]);
  if (bytes == 0 || find(matrix.data, &place)) return Status::ok();
  return matrices_.push({matrix, bytes, 0});
}

// Neighbours share a buffer, from one multiple of the alignment to another. What does not work is left to be copied.
Status WeightBuffers::import_from(HostRange host) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t alignment = uintptr_t(device_.info().import_alignment), first = uintptr_t(host.data),
                  last = (first + host.bytes + kPage - 1) / kPage * kPage;
  if (alignment == 0) return Status::ok();
  const auto begin_of = [&](const Matrix& m) { return uintptr_t(m.view.data) / alignment * alignment; };
  const auto end_of = [&](const Matrix& m) {
    return (uintptr_t(m.view.data) + m.bytes + alignment - 1) / alignment * alignment;
  };
  const auto fits = [&](const Matrix& m) { return begin_of(m) >= first && end_of(m) <= last; };
  for (size_t i = 0; i < matrices_.size();) {
    const uintptr_t begin = begin_of(matrices_[i]);
    uintptr_t end = begin;
    size_t n = i;
    while (n < matrices_.size() && fits(matrices_[n]) && begin_of(matrices_[n]) >= begin &&
           end_of(matrices_[n]) - begin <= device_.info().weight_allocation)
      end = end_of(matrices_[n++]);
    if (n == i) {
      ++i;
      continue;
    }
    auto buffer = device_.import(reinterpret_cast<void*>(begin), end - begin);
    if (!buffer.is_ok()) return Status::ok();
    RNL_TRY(buffers_.push(buffer.value()));
    imported_ += buffer.value().bytes;
    for (; i < n; ++i)
      matrices_[i].buffer = uint32_t(buffers_.size() - 1),
      matrices_[i].offset = uintptr_t(matrices_[i].view.data) - begin;
  }
  return Status::ok();
}

Status WeightBuffers::upload(HostRange host) {
  if (host.bytes && device_.can_import()) RNL_TRY(import_from(host));
  const uint64_t largest = device_.info().weight_allocation;
  const size_t imported = buffers_.size();
  const auto is_copied = [&](const Matrix& m) { return m.buffer >= imported; };
  Vec<uint64_t> sizes;
  for (Matrix& m : matrices_) {
    if (!is_copied(m)) continue;
    if (sizes.empty() || sizes.back() + align_up(m.bytes) > largest) RNL_TRY(sizes.push(0));
    m.buffer = uint32_t(imported + sizes.size() - 1);
    m.offset = sizes.back();
    sizes.back() += align_up(m.bytes);
  }
  for (uint64_t size : sizes) {
    RNL_ASSIGN(b, device_.create_buffer(size, device_.is_unified() ? MemoryKind::kUnified : MemoryKind::kDevice,
                                        "weights on the device"));
    RNL_TRY(buffers_.push(b));
  }
  for (const Buffer& b : buffers_) bytes_ += b.bytes;
  for (const Matrix& m : matrices_) {
    if (!is_copied(m)) continue;
    if (auto* mapped = static_cast<unsigned char*>(buffers_[m.buffer].mapped)) {
      std::memcpy(mapped + m.offset, m.view.data, m.bytes);
      continue;
    }
    const CopyPiece piece{static_cast<unsigned char*>(m.view.data), m.bytes, m.offset};
    RNL_TRY(device_.upload(buffers_[m.buffer], &piece, 1));
  }
  return Status::ok();
}

uint64_t WeightBuffers::buffer_bytes(VkBuffer handle) const {
  for (const Buffer& b : buffers_)
    if (b.handle == handle) return b.bytes;
  return 0;
}

bool WeightBuffers::find(const void* host, Place* place) const {
  for (const Matrix& m : matrices_)
    if (m.view.data == host) {
      if (m.buffer < buffers_.size()) *place = {buffers_[m.buffer].handle, m.offset};
      return true;
    }
  return false;
}

}  // namespace runnel::vulkan
