#include "format/packed.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "packed_formats.h"

namespace runnel::test {
namespace {

std::vector<PackedFormat> all_formats() {
  std::vector<PackedFormat> all = integer_formats();
  for (const PackedFormat& f : float_formats()) all.push_back(f);
  return all;
}

TEST(Packed, RowsComeBackAsWritten) {
  for (const PackedFormat& f : all_formats())
    for (int64_t columns : {1, 16, 31, 32, 33, 256, 300, 640})
      for (int64_t rows : {1, 16, 19}) {
        const PackedMatrix m = random_matrix(f, rows, columns, 7);
        std::vector<float> row(size_t(columns) + 1, 42.0f);
        for (int64_t r = 0; r < rows; ++r) {
          unpack_row(f, m.bytes.data(), columns, r, row.data());
          ASSERT_TRUE(std::equal(row.begin(), row.end() - 1, m.values.begin() + r * columns))
              << name_of(f) << " row " << r << " of " << rows << ", columns " << columns;
          ASSERT_EQ(row.back(), 42.0f);
        }
      }
}

TEST(Packed, OrderOfRowsDoesNotMatterAndMissingRowsAreZero) {
  for (const PackedFormat& f : integer_formats()) {
    const int64_t columns = 288;
    const std::vector<uint8_t> q(size_t(columns), uint8_t((1 << f.bits) - 1)), other(size_t(columns), 1), scales(18, 3),
        mins(18, 2);
    const std::vector<uint16_t> d(18, float_to_half(0.5f)), dmin(18, float_to_half(0.25f));
    std::vector<unsigned char> once(f.matrix_bytes(16, columns)), twice(once);
    pack_row(f, once.data(), columns, 3, {q.data(), d.data(), dmin.data(), scales.data(), mins.data()});
    pack_row(f, once.data(), columns, 5, {other.data(), d.data(), dmin.data(), scales.data(), mins.data()});
    pack_row(f, twice.data(), columns, 5, {q.data(), d.data(), dmin.data(), mins.data(), scales.data()});
    pack_row(f, twice.data(), columns, 5, {other.data(), d.data(), dmin.data(), scales.data(), mins.data()});
    pack_row(f, twice.data(), columns, 3, {q.data(), d.data(), dmin.data(), scales.data(), mins.data()});
    EXPECT_EQ(once, twice) << name_of(f);
    std::vector<float> row(static_cast<size_t>(columns), 1.0f);
    unpack_row(f, once.data(), columns, 4, row.data());
    EXPECT_TRUE(std::all_of(row.begin(), row.end(), [](float v) { return v == 0; })) << name_of(f);
  }
}

// The sizes of the well-known formats, in bits a weight; the layout adds nothing to them.
TEST(Packed, SizesAreThoseOfTheSourceFormats) {
  struct Row {
    PackedFormat format;
    double bits;
  };
  const PackedKind k = PackedKind::kInteger;
  for (const Row& row :
       {Row{{k, 4, 32, 8, false, ScaleKind::kF16}, 4.5}, Row{{k, 4, 32, 0, true, ScaleKind::kF16}, 5.0},
        Row{{k, 5, 32, 16, false, ScaleKind::kF16}, 5.5}, Row{{k, 8, 32, 128, false, ScaleKind::kF16}, 8.5},
        Row{{k, 2, 16, 0, true, ScaleKind::kU4}, 2.625}, Row{{k, 3, 16, 4, false, ScaleKind::kS6}, 3.4375},
        Row{{k, 4, 32, 0, true, ScaleKind::kU6}, 4.5}, Row{{k, 5, 32, 0, true, ScaleKind::kU6}, 5.5},
        Row{{k, 6, 16, 32, false, ScaleKind::kI8}, 6.5625}})
    EXPECT_EQ(double(row.format.matrix_bytes(32, 512)) * 8 / (32 * 512), row.bits) << name_of(row.format);
}

TEST(Packed, KnownBytesOfA4BitTile) {
  // Row 2, column 17 (chunk 4, so a high nibble of piece 0) holds 9, everything else the zero point.
  const PackedFormat f{PackedKind::kInteger, 4, 32, 8, false, ScaleKind::kF16};
  std::vector<uint8_t> q(32, 8);
  q[17] = 9;
  const uint16_t d = 0x3c00;
  std::vector<unsigned char> bytes(f.matrix_bytes(3, 32));
  ASSERT_EQ(bytes.size(), 288u);
  pack_row(f, bytes.data(), 32, 2, {q.data(), &d, nullptr, nullptr, nullptr});
  EXPECT_EQ(bytes[4], 0x00);
  EXPECT_EQ(bytes[5], 0x3c);
  EXPECT_EQ(bytes[32 + 2 * 4 + 1], 0x98);
  EXPECT_EQ(bytes[32 + 2 * 4 + 0], 0x88);
  EXPECT_EQ(bytes[32 + 3 * 4 + 0], 0x00);
}

}  // namespace
}  // namespace runnel::test
