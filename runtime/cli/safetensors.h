// Reading and writing small .safetensors files of the command line (inputs, outputs, ids).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"

namespace runnel::cli {

struct NamedTensor {
  std::string name;
  int32_t dtype = 0;  // rnl_dtype
  std::vector<int64_t> dims;
  const unsigned char* data = nullptr;
  size_t bytes = 0;
};

// Throws Failure with file and field. The tensors point into `file`.
std::vector<NamedTensor> read_safetensors(const std::string& path, FileView* file);

// Streams outputs whose sizes are known beforehand: header first, then blocks at their places, renamed into place at
// the end.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<NamedTensor>& tensors);
  // Bytes [offset, offset + size) of tensor number `index`.
  void write(size_t index, size_t offset, const void* data, size_t size);
  void commit();

 private:
  std::string path_;
  AtomicFile file_;
  std::vector<uint64_t> begins_, sizes_;
};

}  // namespace runnel::cli
