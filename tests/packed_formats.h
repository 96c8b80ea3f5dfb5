// Every format that the tile layout defines, and matrices of random contents in it. Shared by the tests of the layout
// and of the operators that read it.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "format/packed.h"

namespace runnel::test {

inline std::vector<PackedFormat> integer_formats() {
  std::vector<PackedFormat> all;
  for (int bits = 2; bits <= 8; ++bits)
    for (int block : {16, 32})
      for (bool has_min : {false, true})
        for (ScaleKind scale : {ScaleKind::kF16, ScaleKind::kU4, ScaleKind::kU6, ScaleKind::kS6, ScaleKind::kI8}) {
          PackedFormat f;
          f.bits = uint8_t(bits);
          f.block = uint8_t(block);
          f.has_min = has_min;
          f.scale = scale;
          f.zero_point = uint8_t(has_min ? 0 : 1 << (bits - 1));
          if (f.is_valid()) all.push_back(f);
        }
  PackedFormat split;
  split.bits = 8;
  split.zero_point = 128;
  split.split = true;
  all.push_back(split);
  return all;
}

inline std::vector<PackedFormat> float_formats() {
  std::vector<PackedFormat> all;
  for (PackedKind kind : {PackedKind::kF32, PackedKind::kF16, PackedKind::kBF16}) {
    PackedFormat f;
    f.kind = kind;
    all.push_back(f);
  }
  return all;
}

inline std::string name_of(const PackedFormat& f) {
  if (f.is_float()) return f.kind == PackedKind::kF32 ? "f32" : f.kind == PackedKind::kF16 ? "f16" : "bf16";
  static const char* const kScales[] = {"f16", "u4", "u6", "s6", "i8"};
  return "q" + std::to_string(f.bits) + "b" + std::to_string(f.block) + "_" + kScales[int(f.scale)] +
         (f.has_min ? "_min" : "") + (f.split ? "_split" : "") + "_zp" + std::to_string(f.zero_point);
}

// A matrix as its writer sees it, with its values by the formula, and as packed bytes.
struct PackedMatrix {
  PackedFormat format;
  int64_t rows = 0, columns = 0;
  std::vector<float> values;         // [rows, columns]
  std::vector<unsigned char> bytes;  // tile layout
};

inline PackedMatrix random_matrix(const PackedFormat& f, int64_t rows, int64_t columns, uint32_t seed) {
  PackedMatrix m{f, rows, columns, std::vector<float>(size_t(rows * columns)),
                 std::vector<unsigned char>(f.matrix_bytes(rows, columns), 0)};
  std::mt19937 rng(seed);
  const auto uniform = [&] { return float(rng() >> 8) * 0x1p-24f; };
  if (f.is_float()) {
    for (float& v : m.values) {
      v = uniform() * 2 - 1;
      if (f.kind == PackedKind::kF16) v = half_to_float(float_to_half(v));
      if (f.kind == PackedKind::kBF16) v = bf16_to_float(float_to_bf16(v));
    }
    for (int64_t r = 0; r < rows; ++r) pack_row_f32(f, m.bytes.data(), columns, r, m.values.data() + r * columns);
    return m;
  }
  const size_t blocks = size_t((columns + f.block - 1) / f.block), supers = size_t((columns + 255) / 256);
  const size_t halves = f.scale == ScaleKind::kF16 ? blocks : supers;
  const float step = 1.0f / float(1 << f.bits);
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<uint8_t> q(static_cast<size_t>(columns)), scales(blocks), mins(blocks);
    std::vector<uint16_t> d(halves), dmin(halves);
    for (auto& v : q) v = uint8_t(rng() & ((1u << f.bits) - 1));
    const float small_max = f.scale == ScaleKind::kU4    ? 15.0f
                            : f.scale == ScaleKind::kI8  ? 127.0f
                            : f.scale == ScaleKind::kF16 ? 1.0f
                                                         : 63.0f;
    for (auto& v : d) v = float_to_half((uniform() + 0.1f) * step / small_max);
    for (auto& v : dmin) v = float_to_half((uniform() + 0.1f) * 0.5f / small_max);
    for (auto& v : scales)
      v = uint8_t(f.scale == ScaleKind::kI8 ? rng() & 255 : f.scale == ScaleKind::kU4 ? rng() & 15 : rng() & 63);
    for (auto& v : mins) v = uint8_t(f.scale == ScaleKind::kU4 ? rng() & 15 : rng() & 63);
    for (int64_t c = 0; c < columns; ++c) {
      const size_t b = size_t(c / f.block), s = size_t(c / 256);
      float scale, min = 0;
      if (f.scale == ScaleKind::kF16) {
        scale = half_to_float(d[b]);
        if (f.has_min) min = half_to_float(dmin[b]);
      } else {
        const int stored = f.scale == ScaleKind::kI8   ? int(int8_t(scales[b]))
                           : f.scale == ScaleKind::kS6 ? scales[b] - 32
                                                       : scales[b];
        scale = half_to_float(d[s]) * float(stored);
        if (f.has_min) min = half_to_float(dmin[s]) * float(mins[b]);
      }
      m.values[size_t(r * columns + c)] = scale * float(q[size_t(c)] - f.zero_point) - min;
    }
    pack_row(f, m.bytes.data(), columns, r, {q.data(), d.data(), dmin.data(), scales.data(), mins.data()});
  }
  return m;
}

}  // namespace runnel::test
