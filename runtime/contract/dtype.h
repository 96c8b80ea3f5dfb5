// Types of elements, with the numbers of model.fbs; format/model_file.cpp asserts that they agree.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runnel {

enum class DType : uint8_t {
  kNone = 0,
  kF32 = 1,
  kF16 = 2,
  kBF16 = 3,
  kI32 = 4,
  kI64 = 5,
  kU8 = 6,
  kI8 = 7,
  kPacked = 8,
  kQ8 = 9
};

// Bytes of one element; 0 for kNone, kPacked and kQ8, which have no single element.
inline constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kI64: return 8;
    case DType::kU8:
    case DType::kI8: return 1;
    case DType::kNone:
    case DType::kPacked:
    case DType::kQ8: return 0;
  }
  return 0;
}
const char* dtype_name(DType t);

}  // namespace runnel
