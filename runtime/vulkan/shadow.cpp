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
    if (ranges[i].bytes && find(ranges[i].data, &offset)) RNL_TRY(pieces.push({ranges[i].data, ranges[i].bytes, offset}));
  }
  return device_.upload(heap_, pieces.data(), pieces.size());
}

Status Shadow::pull_all(const HostRange* ranges, size_t count) const {
  Vec<CopyPiece> pieces;
  for (size_t i = 0; i < count; ++i) {
    uint64_t offset = 0;
    if (ranges[i].bytes && find(ranges[i].data, &offset)) RNL_TRY(pieces.push({ranges[i].data, ranges[i].bytes, offset}));
  }
  return device_.download(heap_, pieces.data(), pieces.size());
}

WeightBuffers::~WeightBuffers() {
  for (Buffer& b : buffers_) device_.destroy(&b);
}

Status WeightBuffers::add(const TensorView& matrix) {
  WeightBuffers::Place place;
  const uint64_t bytes = format_on_device(*matrix.packed).matrix_bytes(matrix.dims[0], matrix.dims[1]);
  if (bytes == 0 || find(matrix.data, &place)) return Status::ok();
  return matrices_.push({matrix, bytes, 0, 0});
}

namespace {

// A tile of a split matrix with q in one piece: per unit of 32 columns the scales, then chunks of 4 columns.
void make_whole(const SplitLayout& split, const unsigned char* matrix, int64_t columns, int64_t tile, unsigned char* out) {
  const int64_t units = (columns + kBlockColumns - 1) / kBlockColumns;
  const unsigned char* in = matrix + split.tile_at(tile);
  for (int64_t u = 0; u < units; ++u, in += SplitLayout::kUnit) {
    std::memcpy(out, in, SplitLayout::kScales);
    out += SplitLayout::kScales;
    for (int row = 0; row < kTileRows; ++row) {
      const unsigned char* low = matrix + split.line_at(tile * kTileRows + row) + units * 2 + u * 16;
      for (int j = 0; j < 4; ++j)
        for (int i = 0; i < 4; ++i) {
          const unsigned char high = in[SplitLayout::kScales + size_t(j * 64 + row * 4 + i)];
          out[j * 64 + row * 4 + i] = static_cast<unsigned char>(high << 4 | (low[j * 4 + i] & 15));
          out[(j + 4) * 64 + row * 4 + i] = static_cast<unsigned char>((high & 0xf0) | low[j * 4 + i] >> 4);
        }
    }
    out += 512;
  }
}

}  // namespace

Status WeightBuffers::upload_split(const Matrix& m) {
  const int64_t columns = m.view.dims[1], tiles = (m.view.dims[0] + kTileRows - 1) / kTileRows;
  const size_t tile_bytes = format_on_device(*m.view.packed).tile_bytes(columns);
  const SplitLayout split(columns);
  const int64_t most = tile_bytes < (4u << 20) ? int64_t((4u << 20) / tile_bytes) : 1;  // tiles at once
  Vec<unsigned char> whole;
  RNL_TRY(whole.assign(size_t(most) * tile_bytes));
  for (int64_t first = 0; first < tiles; first += most) {
    const int64_t n = tiles - first < most ? tiles - first : most;
    for (int64_t i = 0; i < n; ++i) make_whole(split, static_cast<const unsigned char*>(m.view.data), columns, first + i, whole.data() + size_t(i) * tile_bytes);
    const CopyPiece piece{whole.data(), size_t(n) * tile_bytes, m.offset + uint64_t(first) * tile_bytes};
    RNL_TRY(device_.upload(buffers_[m.buffer], &piece, 1));
  }
  return Status::ok();
}

Status WeightBuffers::upload() {
  const uint64_t largest = device_.info().weight_allocation;
  Vec<uint64_t> sizes;
  for (Matrix& m : matrices_) {
    if (sizes.empty() || sizes.back() + align_up(m.bytes) > largest) RNL_TRY(sizes.push(0));
    m.buffer = uint32_t(sizes.size() - 1);
    m.offset = sizes.back();
    sizes.back() += align_up(m.bytes);
    bytes_ += m.bytes;
  }
  for (uint64_t size : sizes) {
    RNL_ASSIGN(b, device_.create_buffer(size, MemoryKind::kDevice, "weights on the device"));
    RNL_TRY(buffers_.push(b));
  }
  for (const Matrix& m : matrices_) {
    if (m.view.packed->split) {
      RNL_TRY(upload_split(m));
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
