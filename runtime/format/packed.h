// The tile layout of packed matrices: the one list of offsets that the converter writes and every kernel reads.
//
// A matrix [rows, columns] is cut into tiles of kTileRows = 16 rows (the last one padded with rows of value 0). A tile
// is contiguous and runs along the columns in units:
//   float kinds      unit = 1 column:   [16 rows] elements
//   integer, f16     unit = 32 columns: scales [32 / block][16 rows] f16, minimums likewise if has_min, planes of 1
//   block row
//   integer, others  unit = 256 columns: d [16] f16, dmin [16] f16 if has_min, small scales, planes of 8 block rows
// Columns are padded to a whole unit with q = zero_point; a padded column meets activations that are 0.
//
// Small scales, n = 256 / block entries a row: u4 (only with has_min): [n][16] bytes, scale | min << 4. i8: [n][16]
// int8. u6, s6: low nibbles [n / 2][16] bytes (entry 2i | entry 2i+1 << 4), then high bits [n / 4][16] bytes (2 bits an
// entry, entry 4i lowest); with has_min the minimums follow in the same form. Value of a block: d * scale (s6: d *
// (scale - 32)) and dmin * min.
//
// Planes of one block row (32 columns = 8 chunks of 4 columns; chunk c holds columns 4c..4c+3; [16 rows][4 columns] =
// 64 bytes a chunk):
//   8 bits: 8 chunks of bytes.
//   4-bit plane: 4 x 64 bytes; low nibbles of piece j are chunk j, high nibbles chunk j + 4.
//   2-bit plane: 2 x 64 bytes; bits 2s..2s+1 of piece j are chunk 2s + j.
//   1-bit plane: 8 x 8 bytes; bit (4 row + column) of the little-endian 64-bit word c belongs to chunk c.
//   bits 2..7 are the sum of planes 4 + 2 + 1; the widest plane holds the lowest bits of q.
// The first 16 columns of a block are the low halves, so formats with blocks of 16 read the same planes.
//
// Formats with `split` (8 bits, block 32, f16 scales, no minimum) keep the high and the low four bits of q apart, so
// that a product can look at the high ones of all rows and at the low ones of a few. The matrix is cut into groups of
// 64 tiles (the last one padded with rows of value 0). In a group come first the tiles, as those of a 4-bit format with
// q >> 4, then a line for each of the 1024 rows: its scales again [blocks] f16, then for each block 16 bytes: byte i
// holds q & 15 of column i in its low and of column i + 16 in its high nibble. Four bytes of it stand as four bytes of
// the row's 4-bit plane do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/dtype.h"

namespace runnel {

inline constexpr int kTileRows = 16;
inline constexpr int kBlockColumns = 32;
inline constexpr int kSuperColumns = 256;
inline constexpr int kSplitTiles = 64;  // a group of a split matrix

// With the numbers of model.fbs; model_file.cpp asserts that they agree.
enum class ScaleKind : uint8_t { kF16 = 0, kU4 = 1, kU6 = 2, kS6 = 3, kI8 = 4 };
enum class PackedKind : uint8_t { kInteger = 0, kF32 = 1, kF16 = 2, kBF16 = 3 };

// Plain copy of format.Packed, validated by the loader. The functions are inlined by force: kernels that are compiled
// for other instruction sets use them too, and must not leave a copy of their own to the linker.
#define RNL_PACKED_INLINE [[gnu::always_inline]] inline
struct PackedFormat {
  PackedKind kind = PackedKind::kInteger;
  uint8_t bits = 0;
  uint8_t block = 32;
  uint8_t zero_point = 0;
  bool has_min = false;
  ScaleKind scale = ScaleKind::kF16;
  bool split = false;

  bool operator==(const PackedFormat&) const = default;

  RNL_PACKED_INLINE bool is_float() const { return kind != PackedKind::kInteger; }
  // Columns a unit.
  RNL_PACKED_INLINE int unit_columns() const {
    return is_float() ? 1 : scale == ScaleKind::kF16 ? kBlockColumns : kSuperColumns;
  }
  // Bytes of all planes of one block row of a tile.
  RNL_PACKED_INLINE size_t plane_bytes() const { return split ? 256 : bits == 8 ? 512 : size_t(bits) * 64; }
  // Bytes before the planes of a unit.
  RNL_PACKED_INLINE size_t header_bytes() const {
    if (is_float()) return 0;
    const size_t sides = has_min ? 2 : 1;
    const size_t n = size_t(unit_columns()) / block;
    switch (scale) {
      case ScaleKind::kF16: return n * 32 * sides;
      case ScaleKind::kU4: return 32 * sides + n * 16;
      case ScaleKind::kU6:
      case ScaleKind::kS6: return (32 + n * 12) * sides;
      case ScaleKind::kI8: return 32 + n * 16;
    }
    return 0;
  }
  // Bytes of a unit of a tile.
  RNL_PACKED_INLINE size_t unit_bytes() const {
    if (is_float()) return kind == PackedKind::kF32 ? 64 : 32;
    return header_bytes() + plane_bytes() * size_t(unit_columns() / kBlockColumns);
  }
  RNL_PACKED_INLINE int64_t units(int64_t columns) const { return (columns + unit_columns() - 1) / unit_columns(); }
  RNL_PACKED_INLINE int64_t padded_columns(int64_t columns) const { return units(columns) * unit_columns(); }
  // Bytes of a tile (16 rows), of a split format without its rows' lines. The caller has bounded columns (loader: below
  // 2^31).
  RNL_PACKED_INLINE size_t tile_bytes(int64_t columns) const { return size_t(units(columns)) * unit_bytes(); }
  RNL_PACKED_INLINE size_t matrix_bytes(int64_t rows, int64_t columns) const;
  // Whether the combination is one that the layout defines.
  RNL_PACKED_INLINE bool is_valid() const {
    if (split && (is_float() || bits != 8 || block != 32 || has_min || scale != ScaleKind::kF16)) return false;
    if (is_float()) return true;
    if (bits < 2 || bits > 8 || (block != 16 && block != 32)) return false;
    if (scale == ScaleKind::kU4) return has_min;
    if (scale == ScaleKind::kI8 || scale == ScaleKind::kS6) return !has_min;
    return true;
  }
};

// Where things lie in a split matrix.
struct SplitLayout {
  static constexpr size_t kScales = 32, kUnit = kScales + 256;  // of a tile
  static constexpr int64_t kRows = kSplitTiles * kTileRows;     // of a group
  size_t tile, line, group;                                     // bytes

  RNL_PACKED_INLINE explicit SplitLayout(int64_t columns) {
    const size_t units = size_t(columns + kBlockColumns - 1) / kBlockColumns;
    tile = units * kUnit;
    line = units * 18;
    group = kSplitTiles * tile + size_t(kRows) * line;
  }
  RNL_PACKED_INLINE size_t tile_at(int64_t index) const {
    return size_t(index) / kSplitTiles * group + size_t(index) % kSplitTiles * tile;
  }
  RNL_PACKED_INLINE size_t line_at(int64_t row) const {
    return size_t(row) / size_t(kRows) * group + kSplitTiles * tile + size_t(row) % size_t(kRows) * line;
  }
};

RNL_PACKED_INLINE size_t PackedFormat::matrix_bytes(int64_t rows, int64_t columns) const {
  if (split) return size_t(rows + SplitLayout::kRows - 1) / size_t(SplitLayout::kRows) * SplitLayout(columns).group;
  return size_t((rows + kTileRows - 1) / kTileRows) * tile_bytes(columns);
}
#undef RNL_PACKED_INLINE

// Values of one row, out [columns]. Scalar; for embeddings, references and tests.
void unpack_row(const PackedFormat& format, const void* matrix, int64_t columns, int64_t row, float* out);
// Columns [begin, end) of it, begin a multiple of 32.
void unpack_columns(const PackedFormat& format, const void* matrix, int64_t columns, int64_t row, int64_t begin,
                    int64_t end, float* out);

// One row of an integer format as the writer has it: blocks = ceil(columns / block), supers = ceil(columns / 256).
struct PackedRow {
  const uint8_t* q;       // [columns], below 2^bits
  const uint16_t* d;      // f16; scale f16: [blocks], else [supers]
  const uint16_t* dmin;   // as d; read only with has_min
  const uint8_t* scales;  // [blocks] as stored: u4, u6 plain, s6 with 32 added, i8 in two's complement; not read for
                          // scale f16
  const uint8_t* mins;    // [blocks]; read only with has_min and a small scale kind
};
// Writes one row into a matrix of matrix_bytes bytes that was zero before its first row. Rows may come in any order;
// rows that are never written are 0. Columns beyond `columns` are padded here. Not for two threads in one tile of 16
// rows.
void pack_row(const PackedFormat& format, void* matrix, int64_t columns, int64_t row, const PackedRow& from);
// The same for float kinds, rounded to nearest even; values that came from the same kind are kept exactly.
void pack_row_f32(const PackedFormat& format, void* matrix, int64_t columns, int64_t row, const float* values);

}  // namespace runnel
