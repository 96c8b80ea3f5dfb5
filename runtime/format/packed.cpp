#include "format/packed.h"

#include <cstring>

#include "base/half.h"

namespace runnel {
namespace {

uint16_t read_u16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
void write_u16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v);
  p[1] = uint8_t(v >> 8);
}
void set_bits(uint8_t* p, int shift, int mask, int value) { *p = uint8_t((*p & ~(mask << shift)) | value << shift); }

// One q of a block row of a tile; column in [0, 32).
int read_q(int bits, const uint8_t* planes, int row, int column) {
  const int chunk = column / 4, lane = row * 4 + column % 4;
  if (bits == 8) return planes[chunk * 64 + lane];
  int q = 0, shift = 0;
  if (bits & 4) {
    q = planes[(chunk & 3) * 64 + lane] >> (chunk & 4) & 15;
    planes += 256;
    shift = 4;
  }
  if (bits & 2) {
    q |= (planes[(chunk & 1) * 64 + lane] >> (chunk & 6) & 3) << shift;
    planes += 128;
    shift += 2;
  }
  if (bits & 1) q |= (planes[chunk * 8 + lane / 8] >> (lane & 7) & 1) << shift;
  return q;
}

void write_q(int bits, uint8_t* planes, int row, int column, int q) {
  const int chunk = column / 4, lane = row * 4 + column % 4;
  if (bits == 8) {
    planes[chunk * 64 + lane] = uint8_t(q);
    return;
  }
  if (bits & 4) {
    set_bits(planes + (chunk & 3) * 64 + lane, chunk & 4, 15, q & 15);
    planes += 256;
    q >>= 4;
  }
  if (bits & 2) {
    set_bits(planes + (chunk & 1) * 64 + lane, chunk & 6, 3, q & 3);
    planes += 128;
    q >>= 2;
  }
  if (bits & 1) set_bits(planes + chunk * 8 + lane / 8, lane & 7, 1, q & 1);
}

// Entry i of n six-bit entries a row, at the low nibbles.
int read_six(const uint8_t* p, int n, int row, int i) {
  const int low = p[i / 2 * 16 + row] >> (i & 1) * 4 & 15;
  return low | (p[n * 8 + i / 4 * 16 + row] >> (i & 3) * 2 & 3) << 4;
}
void write_six(uint8_t* p, int n, int row, int i, int v) {
  set_bits(p + i / 2 * 16 + row, (i & 1) * 4, 15, v & 15);
  set_bits(p + n * 8 + i / 4 * 16 + row, (i & 3) * 2, 3, v >> 4);
}

// Where row's tile begins and, of a split format, the row's line.
struct RowPlace {
  size_t tile, line = 0;
  RowPlace(const PackedFormat& f, int64_t columns, int64_t row) {
    const SplitLayout split(columns);
    tile = f.split ? split.tile_at(row / kTileRows) : size_t(row / kTileRows) * f.tile_bytes(columns);
    if (f.split) line = split.line_at(row);
  }
};

struct BlockScale {
  float scale, min;
};

// Scale and minimum of block i of a unit.
BlockScale read_scale(const PackedFormat& f, const uint8_t* unit, int row, int i) {
  const int n = f.unit_columns() / f.block;
  if (f.scale == ScaleKind::kF16)
    return {half_to_float(read_u16(unit + i * 32 + row * 2)),
            f.has_min ? half_to_float(read_u16(unit + (n + i) * 32 + row * 2)) : 0.0f};
  const float d = half_to_float(read_u16(unit + row * 2));
  const float dmin = f.has_min ? half_to_float(read_u16(unit + 32 + row * 2)) : 0.0f;
  const uint8_t* small = unit + (f.has_min ? 64 : 32);
  switch (f.scale) {
    case ScaleKind::kU4: return {d * float(small[i * 16 + row] & 15), dmin * float(small[i * 16 + row] >> 4)};
    case ScaleKind::kI8: return {d * float(int8_t(small[i * 16 + row])), 0.0f};
    case ScaleKind::kS6: return {d * float(read_six(small, n, row, i) - 32), 0.0f};
    default:
      return {d * float(read_six(small, n, row, i)),
              f.has_min ? dmin * float(read_six(small + n * 12, n, row, i)) : 0.0f};
  }
}

// Small scale and minimum of block i of a unit.
void write_small(const PackedFormat& f, uint8_t* unit, int row, int i, int scale, int min) {
  const int n = f.unit_columns() / f.block;
  uint8_t* small = unit + (f.has_min ? 64 : 32);
  if (f.scale == ScaleKind::kU4) {
    small[i * 16 + row] = uint8_t((scale & 15) | min << 4);
  } else if (f.scale == ScaleKind::kI8) {
    small[i * 16 + row] = uint8_t(scale);
  } else {
    write_six(small, n, row, i, scale & 63);
    if (f.has_min) write_six(small + n * 12, n, row, i, min & 63);
  }
}

}  // namespace

void unpack_columns(const PackedFormat& f, const void* matrix, int64_t columns, int64_t row, int64_t begin, int64_t end,
                    float* out) {
  const RowPlace place(f, columns, row);
  const uint8_t* tile = static_cast<const uint8_t*>(matrix) + place.tile;
  const int r = int(row % kTileRows);
  if (f.is_float()) {
    for (int64_t c = begin; c < end; ++c, ++out) {
      const uint8_t* unit = tile + size_t(c) * f.unit_bytes();
      if (f.kind == PackedKind::kF32) std::memcpy(out, unit + r * 4, 4);
      else if (f.kind == PackedKind::kF16) *out = half_to_float(read_u16(unit + r * 2));
      else *out = bf16_to_float(read_u16(unit + r * 2));
    }
    return;
  }
  const int unit_columns = f.unit_columns();
  for (int64_t first = begin; first < end; first += f.block) {
    const uint8_t* unit = tile + size_t(first / unit_columns) * f.unit_bytes();
    const int in_unit = int(first % unit_columns);
    const uint8_t* planes = unit + f.header_bytes() + size_t(in_unit / kBlockColumns) * f.plane_bytes();
    const BlockScale s = read_scale(f, unit, r, in_unit / f.block);
    const uint8_t* low = static_cast<const uint8_t*>(matrix) + place.line + f.units(columns) * 2 + first / 2;
    for (int64_t c = first; c < end && c < first + f.block; ++c) {
      const int at = int(c % kBlockColumns);
      int q = read_q(f.split ? 4 : f.bits, planes, r, at);
      if (f.split) q = q << 4 | (low[at % 16] >> at / 16 * 4 & 15);
      *out++ = s.scale * float(q - f.zero_point) - s.min;
    }
  }
}

void unpack_row(const PackedFormat& f, const void* matrix, int64_t columns, int64_t row, float* out) {
  unpack_columns(f, matrix, columns, row, 0, columns, out);
}

void pack_row(const PackedFormat& f, void* matrix, int64_t columns, int64_t row, const PackedRow& from) {
  const RowPlace place(f, columns, row);
  uint8_t* tile = static_cast<uint8_t*>(matrix) + place.tile;
  const int r = int(row % kTileRows);
  const int unit_columns = f.unit_columns(), n = unit_columns / f.block;
  const int64_t blocks = (columns + f.block - 1) / f.block;
  uint8_t* line = f.split ? static_cast<uint8_t*>(matrix) + place.line : nullptr;
  for (int64_t u = 0; u < f.units(columns); ++u) {
    uint8_t* unit = tile + size_t(u) * f.unit_bytes();
    if (f.scale != ScaleKind::kF16) {
      write_u16(unit + r * 2, from.d[u]);
      if (f.has_min) write_u16(unit + 32 + r * 2, from.dmin[u]);
    }
    for (int i = 0; i < n; ++i) {
      const int64_t b = u * n + i;
      const bool real = b < blocks;
      if (f.scale == ScaleKind::kF16) {
        write_u16(unit + i * 32 + r * 2, real ? from.d[b] : 0);
        if (f.has_min) write_u16(unit + (n + i) * 32 + r * 2, real ? from.dmin[b] : 0);
      } else {
        write_small(f, unit, r, i, real ? from.scales[b] : 0, real && f.has_min ? from.mins[b] : 0);
      }
    }
    if (line) write_u16(line + u * 2, from.d[u]);
    for (int c = 0; c < unit_columns; ++c) {
      const int64_t column = u * unit_columns + c;
      int q = column < columns ? from.q[column] : f.zero_point;
      if (line) {
        set_bits(line + f.units(columns) * 2 + u * 16 + c % 16, c / 16 * 4, 15, q & 15);
        q >>= 4;
      }
      write_q(f.split ? 4 : f.bits, unit + f.header_bytes() + size_t(c / kBlockColumns) * f.plane_bytes(), r,
              c % kBlockColumns, q);
    }
  }
}

void pack_row_f32(const PackedFormat& f, void* matrix, int64_t columns, int64_t row, const float* values) {
  uint8_t* tile = static_cast<uint8_t*>(matrix) + size_t(row / kTileRows) * f.tile_bytes(columns);
  const int r = int(row % kTileRows);
  for (int64_t c = 0; c < columns; ++c) {
    uint8_t* unit = tile + size_t(c) * f.unit_bytes();
    if (f.kind == PackedKind::kF32) std::memcpy(unit + r * 4, values + c, 4);
    else write_u16(unit + r * 2, f.kind == PackedKind::kF16 ? float_to_half(values[c]) : float_to_bf16(values[c]));
  }
}

}  // namespace runnel
