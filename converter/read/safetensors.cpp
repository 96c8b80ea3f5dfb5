// safetensors: u64 length of a JSON header, the header, then the tensors' bytes without gaps.
#include <algorithm>
#include <cstring>

#include "converter/read/read.h"

namespace runnel::convert {
namespace {

constexpr uint64_t kMaxHeader = 100u << 20;

SourceType type_of(const std::string& name, const std::string& where, const std::string& tensor) {
  static const struct {
    const char* name;
    SourceType type;
  } kTypes[] = {{"F64", SourceType::kF64},   {"F32", SourceType::kF32},        {"F16", SourceType::kF16},
                {"BF16", SourceType::kBF16}, {"F8_E4M3", SourceType::kF8E4M3}, {"F8_E5M2", SourceType::kF8E5M2},
                {"I64", SourceType::kI64},   {"I32", SourceType::kI32},        {"I16", SourceType::kI16},
                {"I8", SourceType::kI8},     {"U8", SourceType::kU8},          {"BOOL", SourceType::kBool}};
  for (const auto& t : kTypes)
    if (name == t.name) return t.type;
  fail("%s: tensor \"%s\" has dtype \"%s\", which is not supported", where.c_str(), tensor.c_str(),
       printable(name).c_str());
}

uint64_t natural(const Json& v, const std::string& where, const std::string& tensor, const char* field) {
  if (!v.is_number_unsigned())
    fail("%s: tensor \"%s\": %s is not a natural number", where.c_str(), tensor.c_str(), field);
  return v.get<uint64_t>();
}

struct Range {
  uint64_t begin, end;
};

SourceTensor read_entry(const std::string& name, const Json& entry, const std::string& where, uint64_t room,
                        Range& range) {
  const std::string shown = printable(name);
  if (name.empty()) fail("%s: a tensor has no name", where.c_str());
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
    fail("%s: tensor \"%s\" lacks dtype, shape or data_offsets", where.c_str(), shown.c_str());
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!dtype.is_string()) fail("%s: tensor \"%s\": dtype is not a string", where.c_str(), shown.c_str());
  if (!shape.is_array() || shape.size() > 8)
    fail("%s: tensor \"%s\": shape is not an array of at most 8 axes", where.c_str(), shown.c_str());
  if (!offsets.is_array() || offsets.size() != 2)
    fail("%s: tensor \"%s\": data_offsets are not two numbers", where.c_str(), shown.c_str());
  SourceTensor t;
  t.name = name;
  t.type = type_of(dtype.get<std::string>(), where, shown);
  uint64_t count = 1;
  for (const Json& d : shape) {
    const uint64_t dim = natural(d, where, shown, "shape");
    if (__builtin_mul_overflow(count, dim, &count) || count > (uint64_t(1) << 40) || dim >= (uint64_t(1) << 40))
      fail("%s: tensor \"%s\": its shape is too large", where.c_str(), shown.c_str());
    t.shape.push_back(dim);
  }
  t.bytes = count * info(t.type).bytes;
  range.begin = natural(offsets[0], where, shown, "data_offsets");
  range.end = natural(offsets[1], where, shown, "data_offsets");
  if (range.begin > range.end || range.end > room)
    fail("%s: tensor \"%s\": data_offsets [%llu, %llu] lie outside of the %llu bytes of data: truncated?",
         where.c_str(), shown.c_str(), static_cast<unsigned long long>(range.begin),
         static_cast<unsigned long long>(range.end), static_cast<unsigned long long>(room));
  if (range.end - range.begin != t.bytes)
    fail("%s: tensor \"%s\" has %llu bytes where %s %s needs %llu", where.c_str(), shown.c_str(),
         static_cast<unsigned long long>(range.end - range.begin), shape_text(t.shape).c_str(), info(t.type).name,
         static_cast<unsigned long long>(t.bytes));
  return t;
}

}  // namespace

void read_safetensors(std::span<const uint8_t> bytes, const std::string& where, Checkpoint& checkpoint) {
  uint64_t header = 0;
  if (bytes.size() < 8) fail("%s: not a safetensors file (%zu bytes)", where.c_str(), bytes.size());
  std::memcpy(&header, bytes.data(), 8);
  if (header > kMaxHeader || header > bytes.size() - 8)
    fail("%s: not a safetensors file, or truncated: says its header has %llu bytes, the file has %zu", where.c_str(),
         static_cast<unsigned long long>(header), bytes.size());
  const Json root = parse_json({reinterpret_cast<const char*>(bytes.data()) + 8, size_t(header)}, where);
  if (!root.is_object()) fail("%s: the header is not a JSON object", where.c_str());
  const uint64_t room = bytes.size() - 8 - header;
  std::vector<std::pair<Range, std::string>> ranges;
  for (const auto& [name, entry] : root.items()) {
    if (name == "__metadata__") continue;
    Range range{};
    SourceTensor t = read_entry(name, entry, where, room, range);
    t.data = bytes.data() + 8 + header + range.begin;
    checkpoint.add(std::move(t), where);
    if (range.end > range.begin) ranges.emplace_back(range, name);
  }
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
  uint64_t end = 0;
  for (const auto& [range, name] : ranges) {
    if (range.begin != end)
      fail("%s: tensor \"%s\" begins at %llu where the one before it ends at %llu", where.c_str(),
           printable(name).c_str(), static_cast<unsigned long long>(range.begin), static_cast<unsigned long long>(end));
    end = range.end;
  }
  if (end != room)
    fail("%s: %llu bytes behind the last tensor belong to none", where.c_str(),
         static_cast<unsigned long long>(room - end));
}

}  // namespace runnel::convert
