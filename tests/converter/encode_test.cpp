// Weights: every GGUF type is carried over bit for bit; quantising here is as good as the formats allow; what does not
// fit is refused.
#include <map>
#include <random>

#include "base/half.h"
#include "converter/weights/quant_row.h"
#include "kit.h"

namespace runnel::convert {
namespace {

// tests/goldens/gguf_types: blocks and their values by the gguf package (make_tiny_ggufs.py).
class EveryType : public testing::Test {
 protected:
  EveryType() : expected(load_safetensors(kGoldens / "gguf_types/expected.safetensors")) {
    const fs::path file = kGoldens / "gguf_types/every_type.gguf";
    read_gguf(source.map(file), file.string(), source);
  }
  Checkpoint source, expected;
};

TEST_F(EveryType, ValuesHaveTheBitsOfTheFormatsOwnDequantisation) {
  ASSERT_EQ(source.tensors().size(), 25u);
  for (const SourceTensor& t : source.tensors()) {
    const std::vector<float> want = values_of(expected, t.name), got = values_of(source, t.name);
    ASSERT_EQ(got.size(), want.size());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * 4), 0) << t.name;
  }
}

TEST_F(EveryType, PackedMatricesHoldTheSameBits) {
  for (const SourceTensor& t : source.tensors()) {
    const std::vector<float> want = values_of(expected, t.name);
    const uint64_t rows = t.shape[0], columns = t.shape[1];
    const PackedFormat f = choose_format(t.type, columns, Weights::kKeep);
    ASSERT_TRUE(f.is_valid()) << t.name;
    std::vector<uint8_t> packed(f.matrix_bytes(int64_t(rows), int64_t(columns)));
    pack_rows(t, f, 0, rows, packed.data());
    std::vector<float> row(columns);
    for (uint64_t r = 0; r < rows; ++r) {
      unpack_row(f, packed.data(), int64_t(columns), int64_t(r), row.data());
      if (keeps_blocks(t, f))
        for (float& v : row) v *= unit_of(t);
      EXPECT_EQ(std::memcmp(row.data(), want.data() + r * columns, columns * 4), 0) << t.name << " row " << r;
    }
  }
}

TEST_F(EveryType, PackedSizeIsThatOfTheSource) {
  for (const SourceTensor& t : source.tensors()) {
    if (t.type >= SourceType::kIQ4_NL) continue;  // have unevenly spaced levels, which take more bits
    const PackedFormat f = choose_format(t.type, 512, Weights::kKeep);
    EXPECT_EQ(f.tile_bytes(512), 16 * t.bytes / t.shape[0]) << t.name;
  }
}

TEST_F(EveryType, QuantisedSourcesCanBeWidened) {
  for (const SourceTensor& t : source.tensors()) {
    const std::vector<float> want = values_of(expected, t.name);
    const PackedFormat f = choose_format(t.type, 512, Weights::kF32);
    std::vector<uint8_t> packed(f.matrix_bytes(3, 512));
    pack_rows(t, f, 0, 3, packed.data());
    std::vector<float> row(512);
    unpack_row(f, packed.data(), 512, 2, row.data());
    EXPECT_EQ(std::memcmp(row.data(), want.data() + 1024, 512 * 4), 0) << t.name;
  }
}

TEST_F(EveryType, TheBitsAreTheLeastThatHoldEveryLevel) {
  const std::map<std::string, int> bits = {{"iq2_xxs", 7}, {"iq2_xs", 7}, {"iq2_s", 7}, {"iq3_xxs", 6}, {"iq3_s", 5},
                                           {"iq4_xs", 8},  {"tq1_0", 2},  {"tq2_0", 2}, {"nvfp4", 5}};
  for (const SourceTensor& t : source.tensors())
    if (const auto it = bits.find(t.name); it != bits.end()) {
      const PackedFormat f = choose_format(t.type, 512, Weights::kKeep);
      EXPECT_EQ(f.bits, it->second) << t.name;
      QuantRow row(f, 512 * 3);
      split_blocks(t.type, t.data, row);
      for (const uint8_t q : row.q) EXPECT_LT(q, 1 << f.bits) << t.name;
    }
}

SourceTensor tensor_over(const std::vector<float>& values, std::vector<uint64_t> shape) {
  return {"w", SourceType::kF32, std::move(shape), reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4};
}

double squared_error(const std::vector<float>& values, uint64_t rows, uint64_t columns, Weights weights) {
  const SourceTensor t = tensor_over(values, {rows, columns});
  const PackedFormat f = choose_format(t.type, columns, weights);
  std::vector<uint8_t> packed(f.matrix_bytes(int64_t(rows), int64_t(columns)));
  pack_rows(t, f, 0, rows, packed.data());
  std::vector<float> row(columns);
  double error = 0;
  for (uint64_t r = 0; r < rows; ++r) {
    unpack_row(f, packed.data(), int64_t(columns), int64_t(r), row.data());
    for (uint64_t i = 0; i < columns; ++i) error += std::pow(double(row[i]) - values[r * columns + i], 2);
  }
  return std::sqrt(error / double(values.size()));
}

std::vector<float> normal_values(size_t n) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

TEST(Quantise, ErrorsAreThoseOfTheFormats) {
  const std::vector<float> v = normal_values(20 * 100);  // 20 rows, a last block of 4 columns
  EXPECT_LT(squared_error(v, 20, 100, Weights::kQ8), 0.006);
  const double q4 = squared_error(v, 20, 100, Weights::kQ4);
  EXPECT_LT(q4, 0.085);
  // The plain choice of scale, largest magnitude / -8, is worse.
  double plain = 0;
  for (size_t r = 0; r < 20; ++r)
    for (size_t b = 0; b < 100; b += 32) {
      const size_t n = std::min<size_t>(32, 100 - b);
      const float* p = v.data() + r * 100 + b;
      const float extreme = *std::max_element(p, p + n, [](float x, float y) { return std::fabs(x) < std::fabs(y); });
      const float scale = half_to_float(float_to_half(-extreme / 8));
      for (size_t i = 0; i < n; ++i)
        plain += std::pow(p[i] - scale * std::clamp(std::nearbyint(p[i] / scale), -8.0f, 7.0f), 2);
    }
  EXPECT_LT(q4, 0.97 * std::sqrt(plain / double(v.size())));
}

TEST(Quantise, ExtremesAndZerosAreExact) {
  std::vector<float> v(64, 0.0f);
  EXPECT_EQ(squared_error(v, 1, 64, Weights::kQ8), 0);
  EXPECT_EQ(squared_error(v, 1, 64, Weights::kQ4), 0);
  for (size_t i = 0; i < 32; ++i) v[i] = float(int(i % 16) - 8) * 0.25f;
  EXPECT_EQ(squared_error(v, 1, 64, Weights::kQ4), 0);
  for (size_t i = 0; i < 64; ++i) v[i] = float(int(i * 4) - 127) * 0.5f;
  v[0] = v[32] = -63.5f;
  EXPECT_EQ(squared_error(v, 1, 64, Weights::kQ8), 0);
}

TEST(Quantise, TinyAndSubnormalValuesGiveNoNonsense) {
  std::vector<float> v = normal_values(64);
  for (float& x : v) x *= 1e-9f;
  EXPECT_LT(squared_error(v, 1, 64, Weights::kQ4), 1.1e-9);
  EXPECT_LT(squared_error(v, 1, 64, Weights::kQ8), 1.1e-9);
}

TEST(Quantise, NarrowMatricesStayInF32) {
  for (Weights w : {Weights::kQ8, Weights::kQ4}) {
    EXPECT_EQ(choose_format(SourceType::kF32, 31, w).kind, PackedKind::kF32);
    EXPECT_EQ(choose_format(SourceType::kF32, 32, w).kind, PackedKind::kInteger);
  }
}

TEST(Quantise, WhatHasTheWantedFormatIsNotQuantisedAgain) {
  EXPECT_EQ(choose_format(SourceType::kQ8_0, 64, Weights::kQ8), format_of(SourceType::kQ8_0));
  EXPECT_EQ(choose_format(SourceType::kQ4_0, 64, Weights::kQ4), format_of(SourceType::kQ4_0));
}

TEST(Encode, ValuesThatFloat16CannotHoldAreRefused) {
  const std::vector<float> v = {1, 2, 70000, 4};
  const SourceTensor t = tensor_over(v, {1, 4});
  const PackedFormat f = choose_format(t.type, 4, Weights::kF16);
  std::vector<uint8_t> packed(f.matrix_bytes(1, 4));
  EXPECT_NE(
      error_of([&] { pack_rows(t, f, 0, 1, packed.data()); }).find("tensor \"w\" holds 70000, which float16 cannot"),
      std::string::npos);
  std::vector<float> wide(64, 3e7f);
  const SourceTensor big = tensor_over(wide, {1, 64});
  for (Weights w : {Weights::kQ8, Weights::kQ4}) {
    const PackedFormat q = choose_format(big.type, 64, w);
    std::vector<uint8_t> out(q.matrix_bytes(1, 64));
    EXPECT_NE(error_of([&] { pack_rows(big, q, 0, 1, out.data()); }).find("too large for the 16-bit scales"),
              std::string::npos)
        << weights_name(w);
  }
}

TEST(Encode, NonFiniteScalesOfQuantisedSourcesAreRefused) {
  for (const SourceType type : {SourceType::kQ4_0, SourceType::kQ8_0, SourceType::kQ6_K, SourceType::kQ4_K}) {
    const SourceTypeInfo& ti = info(type);
    std::vector<uint8_t> block(ti.bytes, 0);
    const size_t at = type == SourceType::kQ6_K ? 208 : 0;
    block[at + 1] = 0x7c;  // infinity
    const SourceTensor t{"w", type, {1, ti.block}, block.data(), ti.bytes};
    const PackedFormat f = format_of(type);
    std::vector<uint8_t> packed(f.matrix_bytes(1, ti.block));
    EXPECT_NE(error_of([&] { pack_rows(t, f, 0, 1, packed.data()); }).find("tensor \"w\" holds NaN or infinity"),
              std::string::npos)
        << ti.name;
  }
}

TEST(Encode, EightBitFloats) {
  // e4m3: 0x38 = 1, 0x7e = 448, 0x01 = 2^-9, 0xb8 = -1; e5m2: 0x3c = 1, 0x7b = 57344, 0x01 = 2^-16.
  const std::vector<uint8_t> bytes = {0x38, 0x7e, 0x01, 0xb8, 0x3c, 0x7b, 0x01, 0xbc};
  float out[4];
  decode_values({"w", SourceType::kF8E4M3, {4}, bytes.data(), 4}, 0, 4, out);
  EXPECT_EQ(std::vector<float>(out, out + 4), (std::vector<float>{1, 448, 0x1p-9f, -1}));
  decode_values({"w", SourceType::kF8E5M2, {4}, bytes.data() + 4, 4}, 0, 4, out);
  EXPECT_EQ(std::vector<float>(out, out + 4), (std::vector<float>{1, 57344, 0x1p-16f, -1}));
  const uint8_t nan_e4m3 = 0x7f;
  EXPECT_NE(error_of([&] { decode_values({"w", SourceType::kF8E4M3, {1}, &nan_e4m3, 1}, 0, 1, out); }), "");
}

}  // namespace
}  // namespace runnel::convert
