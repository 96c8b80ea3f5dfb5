#include "converter/weights/source_tensor.h"

namespace runnel::convert {

const SourceTypeInfo& info(SourceType type) {
  static constexpr SourceTypeInfo kTypes[] = {
      {"F64", 1, 8},       {"F32", 1, 4},      {"F16", 1, 2},        {"BF16", 1, 2},      {"F8_E4M3", 1, 1},
      {"F8_E5M2", 1, 1},   {"I64", 1, 8},      {"I32", 1, 4},        {"I16", 1, 2},       {"I8", 1, 1},
      {"U8", 1, 1},        {"BOOL", 1, 1},     {"Q4_0", 32, 18},     {"Q4_1", 32, 20},    {"Q5_0", 32, 22},
      {"Q5_1", 32, 24},    {"Q8_0", 32, 34},   {"Q2_K", 256, 84},    {"Q3_K", 256, 110},  {"Q4_K", 256, 144},
      {"Q5_K", 256, 176},  {"Q6_K", 256, 210}, {"IQ4_NL", 32, 18},   {"MXFP4", 32, 17},   {"IQ2_XXS", 256, 66},
      {"IQ2_XS", 256, 74}, {"IQ2_S", 256, 82}, {"IQ3_XXS", 256, 98}, {"IQ3_S", 256, 110}, {"IQ4_XS", 256, 136},
      {"TQ1_0", 256, 54},  {"TQ2_0", 256, 66}, {"Q8_K", 256, 292},   {"NVFP4", 64, 36},
  };
  return kTypes[size_t(type)];
}

bool is_quantised(SourceType type) { return type >= SourceType::kQ4_0; }
bool is_float(SourceType type) { return type <= SourceType::kF8E5M2; }

uint64_t SourceTensor::count() const {
  uint64_t n = 1;
  for (uint64_t d : shape) n *= d;
  return n;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string SourceTensor::describe() const { return printable(name) + " " + shape_text(shape) + " " + info(type).name; }

}  // namespace runnel::convert
