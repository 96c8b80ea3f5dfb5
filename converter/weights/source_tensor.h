// A tensor of a source, whatever file it came from: what it holds and where its bytes lie.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "converter/base/error.h"

namespace runnel::convert {

// Element types of sources. Quantised ones hold blocks of `block` elements in `bytes` bytes.
enum class SourceType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kMXFP4,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ4_XS,
  kTQ1_0,
  kTQ2_0,
  kQ8_K,
  kNVFP4,
};
struct SourceTypeInfo {
  const char* name;
  uint32_t block;
  uint32_t bytes;
};
const SourceTypeInfo& info(SourceType type);
bool is_quantised(SourceType type);
// Whether its values are real numbers stored one by one.
bool is_float(SourceType type);

struct SourceTensor {
  std::string name;
  SourceType type;
  std::vector<uint64_t> shape;  // row-major, outermost axis first
  const uint8_t* data;          // mapped, no alignment promised
  uint64_t bytes;
  float multiplier = 1;  // of all values, where a file keeps it beside the tensor

  uint64_t count() const;
  std::string describe() const;  // "blk.0.attn_q.weight [1024, 640] Q5_0"
};
std::string shape_text(const std::vector<uint64_t>& shape);

}  // namespace runnel::convert
