#include "converter/weights/encode.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "converter/weights/quant_row.h"

namespace runnel::convert {
namespace {

constexpr PackedFormat integer(int bits, int block, int zero_point, bool has_min, ScaleKind scale) {
  return {PackedKind::kInteger, uint8_t(bits), uint8_t(block), uint8_t(zero_point), has_min, scale};
}
constexpr PackedFormat kQ8 = integer(8, 32, 128, false, ScaleKind::kF16);
constexpr PackedFormat kQ4 = integer(4, 32, 8, false, ScaleKind::kF16);
constexpr PackedFormat plain(PackedKind kind) { return {kind, 0, 32, 0, false, ScaleKind::kF16}; }

// 8-bit floats of machine learning; e4m3 has no infinity and one NaN a sign.
float f8_to_float(uint8_t v, bool is_e5m2) {
  if (is_e5m2) return half_to_float(uint16_t(v << 8));
  const int exponent = v >> 3 & 15, mantissa = v & 7;
  if (exponent == 15 && mantissa == 7) return std::nanf("");
  const float magnitude = exponent ? std::ldexp(float(8 + mantissa), exponent - 10) : std::ldexp(float(mantissa), -9);
  return v & 0x80 ? -magnitude : magnitude;
}

template <class T>
T load(const uint8_t* p, uint64_t i) {
  T v;
  std::memcpy(&v, p + i * sizeof(T), sizeof v);
  return v;
}

void decode_plain(const SourceTensor& t, uint64_t first, uint64_t count, float* out) {
  for (uint64_t k = 0; k < count; ++k) {
    const uint64_t i = first + k;
    switch (t.type) {
      case SourceType::kF64: out[k] = float(load<double>(t.data, i)); break;
      case SourceType::kF32: out[k] = load<float>(t.data, i); break;
      case SourceType::kF16: out[k] = half_to_float(load<uint16_t>(t.data, i)); break;
      case SourceType::kBF16: out[k] = bf16_to_float(load<uint16_t>(t.data, i)); break;
      case SourceType::kF8E4M3: out[k] = f8_to_float(t.data[i], false); break;
      case SourceType::kF8E5M2: out[k] = f8_to_float(t.data[i], true); break;
      default:
        fail("tensor \"%s\" holds %s where real numbers are needed", printable(t.name).c_str(), info(t.type).name);
    }
  }
}

// Blocks of an f32 scale, 256 signed bytes and sums of them.
void decode_q8_k(const uint8_t* blocks, uint64_t count, float* out) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint8_t* b = blocks + i / 256 * info(SourceType::kQ8_K).bytes;
    out[i] = load<float>(b, 0) * float(int8_t(b[4 + i % 256]));
  }
}

void refuse_non_finite(const SourceTensor& t, uint64_t element) {
  fail("tensor \"%s\" holds NaN or infinity (element %llu)", printable(t.name).c_str(),
       static_cast<unsigned long long>(element));
}

void split_row(const SourceTensor& t, uint64_t row, QuantRow& out) {
  const SourceTypeInfo& ti = info(t.type);
  split_blocks(t.type, t.data + row * (out.columns / ti.block * ti.bytes), out);
  if (const int64_t bad = out.first_non_finite(); bad >= 0)
    refuse_non_finite(t, row * out.columns + uint64_t(bad) * (out.d.size() > 1 ? out.columns / out.d.size() : 1));
}

}  // namespace

const char* weights_name(Weights weights) {
  static constexpr const char* kNames[] = {"keep", "f32", "f16", "q8", "q4"};
  return kNames[size_t(weights)];
}

std::optional<Weights> parse_weights(std::string_view name) {
  for (Weights w : {Weights::kKeep, Weights::kF32, Weights::kF16, Weights::kQ8, Weights::kQ4})
    if (name == weights_name(w)) return w;
  return std::nullopt;
}

PackedFormat format_of(SourceType type) {
  switch (type) {
    case SourceType::kQ4_0: return integer(4, 32, 8, false, ScaleKind::kF16);
    case SourceType::kQ4_1: return integer(4, 32, 0, true, ScaleKind::kF16);
    case SourceType::kQ5_0: return integer(5, 32, 16, false, ScaleKind::kF16);
    case SourceType::kQ5_1: return integer(5, 32, 0, true, ScaleKind::kF16);
    case SourceType::kQ8_0: return kQ8;
    case SourceType::kQ2_K: return integer(2, 16, 0, true, ScaleKind::kU4);
    case SourceType::kQ3_K: return integer(3, 16, 4, false, ScaleKind::kS6);
    case SourceType::kQ4_K: return integer(4, 32, 0, true, ScaleKind::kU6);
    case SourceType::kQ5_K: return integer(5, 32, 0, true, ScaleKind::kU6);
    case SourceType::kQ6_K: return integer(6, 16, 32, false, ScaleKind::kI8);
    // Both have four bits that stand for unevenly spaced integers.
    case SourceType::kIQ4_NL: return kQ8;
    case SourceType::kMXFP4: return integer(5, 32, 16, false, ScaleKind::kF16);
    case SourceType::kNVFP4: return integer(5, 16, 16, false, ScaleKind::kF16);
    case SourceType::kIQ4_XS: return integer(8, 32, 128, false, ScaleKind::kI8);
    // Magnitudes 8, 25 and 43.
    case SourceType::kIQ2_XXS: return integer(7, 32, 64, false, ScaleKind::kI8);
    case SourceType::kIQ2_XS:
    case SourceType::kIQ2_S: return integer(7, 16, 64, false, ScaleKind::kI8);
    case SourceType::kIQ3_XXS: return integer(6, 32, 32, false, ScaleKind::kI8);
    case SourceType::kIQ3_S: return integer(5, 32, 16, false, ScaleKind::kI8);
    case SourceType::kTQ1_0:
    case SourceType::kTQ2_0: return integer(2, 32, 1, false, ScaleKind::kI8);
    // Q8_K has scales of 32 bits, which only f32 keeps.
    case SourceType::kF16:
    case SourceType::kF8E4M3:
    case SourceType::kF8E5M2: return plain(PackedKind::kF16);
    case SourceType::kBF16: return plain(PackedKind::kBF16);
    default: return plain(PackedKind::kF32);
  }
}

float unit_of(const SourceTensor& t) {
  switch (t.type) {
    case SourceType::kIQ2_XXS:
    case SourceType::kIQ2_XS:
    case SourceType::kIQ2_S: return t.multiplier * 0.125f;
    case SourceType::kIQ3_XXS: return t.multiplier * 0.5f;
    default: return t.multiplier;
  }
}

bool keeps_blocks(const SourceTensor& t, const PackedFormat& format) {
  PackedFormat whole = format;
  whole.split = false;
  return is_quantised(t.type) && !format.is_float() && whole == format_of(t.type);
}

PackedFormat choose_format(SourceType type, uint64_t columns, Weights weights) {
  switch (weights) {
    case Weights::kF32: return plain(PackedKind::kF32);
    case Weights::kF16: return plain(PackedKind::kF16);
    case Weights::kQ8: return columns < 32 ? plain(PackedKind::kF32) : kQ8;
    case Weights::kQ4: return columns < 32 ? plain(PackedKind::kF32) : kQ4;
    case Weights::kKeep: break;
  }
  return format_of(type);
}

void decode_values(const SourceTensor& t, uint64_t first, uint64_t count, float* out) {
  if (t.type == SourceType::kQ8_K) {
    decode_q8_k(t.data + first / 256 * info(t.type).bytes, count, out);
  } else if (is_quantised(t.type)) {
    const SourceTypeInfo& ti = info(t.type);
    QuantRow row(format_of(t.type), count);
    split_blocks(t.type, t.data + first / ti.block * ti.bytes, row);
    row.values(out);
  } else {
    decode_plain(t, first, count, out);
  }
  if (const float unit = unit_of(t); unit != 1)
    for (uint64_t i = 0; i < count; ++i) out[i] *= unit;
  for (uint64_t i = 0; i < count; ++i)
    if (!std::isfinite(out[i])) refuse_non_finite(t, first + i);
}

void pack_rows(const SourceTensor& t, const PackedFormat& format, uint64_t first, uint64_t count, uint8_t* out) {
  const uint64_t columns = t.shape.back();
  PackedFormat plain_format = format;
  plain_format.split = false;
  if (keeps_blocks(t, format)) {
    QuantRow row(format, columns);
    for (uint64_t r = 0; r < count; ++r) {
      split_row(t, first + r, row);
      pack_row(format, out, int64_t(columns), int64_t(r), row.view());
    }
    return;
  }
  std::vector<float> values(static_cast<size_t>(columns));
  std::optional<QuantRow> row;
  if (!format.is_float()) row.emplace(format, columns);
  for (uint64_t r = 0; r < count; ++r) {
    decode_values(t, (first + r) * columns, columns, values.data());
    if (row) {
      if (plain_format == kQ8) quantise_q8(values.data(), *row);
      else quantise_q4(values.data(), *row);
      if (row->first_non_finite() >= 0)
        fail("tensor \"%s\" holds values too large for the 16-bit scales of %d-bit weights", printable(t.name).c_str(),
             format.bits);
      pack_row(format, out, int64_t(columns), int64_t(r), row->view());
    } else {
      if (format.kind == PackedKind::kF16)
        for (uint64_t i = 0; i < columns; ++i)
          if ((float_to_half(values[i]) & 0x7c00) == 0x7c00)
            fail("tensor \"%s\" holds %g, which float16 cannot: use --weights f32", printable(t.name).c_str(),
                 double(values[i]));
      pack_row_f32(format, out, int64_t(columns), int64_t(r), values.data());
    }
  }
}

}  // namespace runnel::convert
