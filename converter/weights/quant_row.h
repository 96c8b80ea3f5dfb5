// One row in blocks: the common form of quantised sources and of rows quantised here; what pack_row takes.
#pragma once

#include <vector>

#include "converter/weights/source_tensor.h"
#include "format/packed.h"

namespace runnel::convert {

struct QuantRow {
  QuantRow(const PackedFormat& format, uint64_t columns);
  PackedRow view() const;
  // Values as the formats define them: scale * (q - zero_point) - min.
  void values(float* out) const;
  // Index of the first block whose scales are not finite, or -1.
  int64_t first_non_finite() const;

  PackedFormat format;
  uint64_t columns;
  std::vector<uint8_t> q;
  std::vector<uint16_t> d, dmin;
  std::vector<uint8_t> scales, mins;
};

// Splits the blocks of a quantised source row (bytes) into a QuantRow of format_of(type).
void split_blocks(SourceType type, const uint8_t* bytes, QuantRow& row);
// One block of 256 of a type with a code book.
void split_codebook(SourceType type, const uint8_t* bytes, size_t super, QuantRow& row);
// Nearest 8-bit row: scale = largest magnitude / 127 of each block of 32.
void quantise_q8(const float* values, QuantRow& row);
// 4-bit row: the f16 scale of each block of 32 with the least squared error among candidates.
void quantise_q4(const float* values, QuantRow& row);

}  // namespace runnel::convert
